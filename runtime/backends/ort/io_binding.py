"""Calls of an ONNX Runtime session on a GPU: buffers that stay where they are, and a CUDA graph a shape.

Without it, each call allocates, copies from pageable memory, and launches every kernel by itself, which for a small
model takes longer than the kernels do.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime as ort

from mien.runtime.values import FloatArray, Image

MAX_SHAPES = 32
"""So many input shapes keep buffers; ONNX Runtime never frees a captured graph, so further shapes go without."""


@dataclass(frozen=True, slots=True)
class _Slot:
    """What a call of one input shape needs. outputs: on the device, in the order of the session's."""

    binding: Any
    image: Any
    outputs: Sequence[Any]
    run_options: Any


class BoundCalls:
    """Calls a session with its inputs and outputs bound; several threads take turns."""

    def __init__(self, session: Any, *, device: str, cuda_graph: bool) -> None:
        """`device`: ONNX Runtime's name of it, ``cuda`` or ``cpu``. cuda_graph: the session was opened for graphs."""
        self._session = session
        self._device = device
        self._cuda_graph = cuda_graph
        self._slots: dict[tuple[int, ...], _Slot] = {}
        self._lock = threading.Lock()

    def __call__(self, name: str, batch: Image) -> list[FloatArray]:
        """Outputs of the session for its input `name`; they belong to the caller."""
        with self._lock:
            slot = self._slots.get(batch.shape)
            if slot is None:
                return self._first_call(name, batch)
            slot.image.update_inplace(np.ascontiguousarray(batch))
            self._session.run_with_iobinding(slot.binding, slot.run_options)
            slot.binding.synchronize_outputs()
            return [np.array(output.numpy()) for output in slot.outputs]  # on the CPU these are the buffers themselves

    def _first_call(self, name: str, batch: Image) -> list[FloatArray]:
        """Let the session tell the shapes of the outputs, and bind buffers of these shapes for the next call."""
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
        """`graph`: number of the captured graph to use; None is for calls that no graph is captured of."""
        options = ort.RunOptions()
        if self._cuda_graph:
            options.add_run_config_entry("gpu_graph_id", str(-1 if graph is None else graph))
        return options
