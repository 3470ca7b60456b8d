"""`Runner`: one model, ready to be called. ONNX Runtime, TensorRT and eager PyTorch all stand behind it."""

from __future__ import annotations

import os
from enum import Enum
from types import TracebackType
from typing import Protocol, TypeVar

import numpy as np

from mien.runtime.errors import InputError
from mien.runtime.models.spec import ModelSpec, Precision
from mien.runtime.values import FloatArray, Image

DEFAULT_THREADS = min(2, os.cpu_count() or 1)
"""Threads of one operator. The models are small: a second thread takes a quarter off, more give little."""


class Provider(str, Enum):
    """What executes a model. `AUTO` takes the fastest that really works and says which."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"
    TENSORRT = "tensorrt"
    """An engine that TensorRT built on this machine."""
    ORT_TENSORRT = "ort-tensorrt"
    """TensorRT within ONNX Runtime, where its libraries are."""


_Choice = TypeVar("_Choice", Provider, Precision)


def as_choice(kind: type[_Choice], given: _Choice | str) -> _Choice:
    """Take a member or its value.

    Raises:
        InputError: neither of the two.
    """
    try:
        return kind(given)
    except ValueError:
        known = ", ".join(member.value for member in kind)
        raise InputError(f"wanted a {kind.__name__.lower()} ({known}), found {given!r}") from None


def check_batch(batch: object) -> None:
    """Raise InputError unless `batch` is (b, h, w, 3) uint8."""
    if not isinstance(batch, np.ndarray):
        raise InputError(f"wanted a uint8 batch (b, h, w, 3), found {type(batch).__name__}")
    if batch.dtype != np.uint8 or batch.ndim != 4 or batch.shape[3] != 3:
        raise InputError(f"wanted a uint8 batch (b, h, w, 3), found {batch.dtype} {batch.shape}")


class Runner(Protocol):
    """A model that can be called; use it as a context manager, or `close` it."""

    @property
    def spec(self) -> ModelSpec:
        """What the model says of itself."""
        ...

    @property
    def provider(self) -> str:
        """What really runs it: ``cpu``, ``cuda``, ``eager-cpu``, …"""
        ...

    @property
    def precision(self) -> Precision:
        """In what numbers it computes."""
        ...

    def __call__(self, batch: Image) -> dict[str, FloatArray]:
        """Run a batch (b, h, w, 3) uint8 BGR; the outputs are named as in the spec and belong to the caller.

        Raises:
            InputError: a batch of another shape or dtype.
        """
        ...

    def close(self) -> None:
        """Give back what the runner holds; a later call is an error."""
        ...

    def __enter__(self) -> Runner: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
