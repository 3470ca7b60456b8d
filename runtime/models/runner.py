"""`Runner`: the protocol of a loaded model, implemented for ONNX Runtime, TensorRT and eager PyTorch."""

from __future__ import annotations

import os
from enum import Enum
from typing import Protocol, TypeVar

import numpy as np

from ..errors import InputError, ModelError
from ..values import FloatArray, Image
from .spec import MODEL_FOR, ModelSpec, Precision, Task

DEFAULT_THREADS = 2 if (os.cpu_count() or 1) >= 4 else 1
"""Intra-op threads. The models are small: a second thread saves a quarter of the time, more save little. A call waits
for all its threads, so that with few cores the detector, or another program, on one of them would hold up both."""


class Provider(str, Enum):
    """Execution provider of a model. `AUTO` selects the fastest that works, and logs its choice."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"
    TENSORRT = "tensorrt"
    """A TensorRT engine, built on this machine."""
    ORT_TENSORRT = "ort-tensorrt"
    """ONNX Runtime's TensorRT provider, if its libraries are installed."""


_Choice = TypeVar("_Choice", Provider, Precision)


def as_choice(kind: type[_Choice], given: _Choice | str) -> _Choice:
    """Convert the value of an enum to its member; a member is returned as is.

    Raises:
        InputError: There is no such member.
    """
    try:
        return kind(given)
    except ValueError:
        known = ", ".join(member.value for member in kind)
        raise InputError(f"expected a {kind.__name__.lower()} ({known}), found {given!r}") from None


def check_batch(batch: object) -> None:
    """Raise InputError unless `batch` is (b, h, w, 3) uint8."""
    if not isinstance(batch, np.ndarray):
        raise InputError(f"expected a uint8 batch (b, h, w, 3), found {type(batch).__name__}")
    if batch.dtype != np.uint8 or batch.ndim != 4 or batch.shape[3] != 3:
        raise InputError(f"expected a uint8 batch (b, h, w, 3), found {batch.dtype} {batch.shape}")


def check_task(spec: ModelSpec, task: Task) -> None:
    """Raise ModelError unless a model is one for `task`."""
    if spec.task is not task:
        raise ModelError(f"expected {MODEL_FOR[task]}, found {MODEL_FOR[spec.task]}")


def check_finite(model: str, *outputs: FloatArray) -> None:
    """Raise ModelError unless all outputs of a model are finite, as they are not if its training diverged."""
    if not all(np.isfinite(values).all() for values in outputs):
        raise ModelError(f"{model} returned NaN or infinity; use it in fp32, or train it again")


def check_precision(runner: Runner, precision: Precision) -> None:
    """Raise InputError unless a model has a requested precision."""
    if runner.precision is not precision:
        raise InputError(
            f"expected {MODEL_FOR[runner.spec.task]} in {precision.value}, found one in {runner.precision.value}; omit "
            "the precision, which is that of the shipped models or of a bundle's"
        )


class Runner(Protocol):
    """Loaded model. Use it as a context manager, or call `close`."""

    @property
    def spec(self) -> ModelSpec:
        """Metadata of the model."""
        ...

    @property
    def provider(self) -> str:
        """Provider that actually runs the model: ``cpu``, ``cuda``, ``eager-cpu``, …"""
        ...

    @property
    def precision(self) -> Precision:
        """Number format of the computation."""
        ...

    def __call__(self, batch: Image) -> dict[str, FloatArray]:
        """Run a batch.

        Args:
            batch: Images (b, h, w, 3) uint8 BGR.

        Returns:
            Arrays by output name, owned by the caller.

        Raises:
            InputError: The batch has another shape or dtype.
        """
        ...

    def close(self) -> None:
        """Release the model; later calls raise InputError."""
        ...

    def __enter__(self) -> Runner: ...

    def __exit__(self, *_: object) -> None: ...
