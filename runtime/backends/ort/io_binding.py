"""I/O binding for ONNX Runtime sessions on a GPU: persistent buffers and one CUDA graph per input shape.

Without it, each call allocates memory, copies from pageable memory and launches every kernel separately, which takes
longer than the kernels of a small model themselves.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
import onnxruntime as ort

from ...values import FloatArray, Image

MAX_SHAPES = 32
"""Limit of input shapes with bound buffers: ONNX Runtime never frees a captured graph."""

GPU_LOCK = threading.Lock()
"""Held while a session on a GPU is opened, called or closed: ONNX Runtime captures graphs in CUDA's global mode, in
which memory that another thread of the process allocates, frees or copies makes both fail."""


class CallMode(str, Enum):
    """How calls reach the device."""

    PLAIN = "plain"
    """`session.run`."""
    BOUND = "bound"
    """With buffers on the device, bound once for each input shape."""
    GRAPH = "graph"
    """With bound buffers, and with kernels replayed from a captured CUDA graph."""


@dataclass(frozen=True, slots=True)
class _Slot:
    """Buffers of one input shape; the outputs are on the device, in the session's order."""

    binding: Any
    image: Any
    outputs: Sequence[Any]
    run_options: Any


class BoundSession:
    """Session with bound inputs and outputs; threads take turns, also with those that call other bound sessions."""

    def __init__(self, session: Any, *, device: str, cuda_graph: bool) -> None:
        """Wrap a session.

        Args:
            session: The `onnxruntime.InferenceSession`.
            device: ONNX Runtime's name of the device, ``cuda`` or ``cpu``.
            cuda_graph: Whether the session was opened with CUDA graphs enabled.
        """
        self._session = session
        self._device = device
        self._cuda_graph = cuda_graph
        self._slots: dict[tuple[int, ...], _Slot] = {}

    def __call__(self, name: str, batch: Image) -> list[FloatArray]:
        """Run `batch` as input `name`; return the outputs, owned by the caller."""
        with GPU_LOCK:
            slot = self._slots.get(batch.shape)
            if slot is None:
                return self._first_call(name, batch)
            slot.image.update_inplace(np.ascontiguousarray(batch))
            self._session.run_with_iobinding(slot.binding, slot.run_options)
            slot.binding.synchronize_outputs()
            return [np.array(output.numpy()) for output in slot.outputs]  # on the CPU these are views of the buffers

    def _first_call(self, name: str, batch: Image) -> list[FloatArray]:
        """Run unbound to learn the output shapes, and bind buffers of these shapes for the next call."""
        values: list[FloatArray] = self._session.run(None, {name: batch}, self._run_options(graph=None))
        if len(self._slots) < MAX_SHAPES:
            image = ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(batch), self._device, 0)
            binding = self._session.io_binding()
            binding.bind_ortvalue_input(name, image)
            outputs = [ort.OrtValue.ortvalue_from_numpy(value, self._device, 0) for value in values]
            for output, value in zip(self._session.get_outputs(), outputs, strict=True):
                binding.bind_ortvalue_output(output.name, value)
            graph = len(self._slots) + 1
            self._slots[batch.shape] = _Slot(binding, image, outputs, self._run_options(graph=graph))
        return values

    def _run_options(self, *, graph: int | None) -> Any:
        """Select a captured graph by its number; None disables capture for the call."""
        options = ort.RunOptions()
        if self._cuda_graph:
            options.add_run_config_entry("gpu_graph_id", str(-1 if graph is None else graph))
        return options
