"""`Runner` over a TensorRT engine, with pinned buffers and a captured CUDA graph per input shape."""

from __future__ import annotations

import ctypes
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import InputError, ProviderError
from ...models.input_shapes import INPUT
from ...models.model_file import ModelFile, ModelSource
from ...models.runner import Provider, check_batch
from ...models.spec import precision_of
from ...values import FloatArray, Image
from .cache import Engine, open_engine
from .device import Accelerator, find_accelerator

MAX_SHAPES = 16
"""Limit of input shapes with buffers, a context and a graph; the least recently used is evicted."""


@dataclass(frozen=True, slots=True)
class _Buffer:
    """Pinned and GPU memory of an input or output; `array` views the pinned memory."""

    host: Any
    device: Any
    array: Any


@dataclass(frozen=True, slots=True)
class _Slot:
    """State of one input shape; `image` and `outputs` view pinned memory, and the graph refers to what is `held`."""

    image: Image
    outputs: dict[str, FloatArray]
    graph: Any
    held: tuple[Any, ...]


class EngineRunner:
    """Model as a TensorRT engine on the first GPU, loaded from the cache or built.

    Batches above the profile's maximum are split, those below its minimum are padded. Safe to call from several
    threads, which take turns.

    Attributes:
        spec: Metadata of the model.
        provider: Provider that actually runs it.
        precision: Number format in which it computes.
        layer_types: Number of the engine's heavy layers by data type, under TensorRT's names such as ``HALF``.
    """

    provider = Provider.TENSORRT.value

    def __init__(
        self,
        source: ModelSource,
        *,
        accelerator: Accelerator | None = None,
        folder: Path | None = None,
        build: bool = True,
    ) -> None:
        """Load a model.

        Args:
            source: Path of the model, or the file already read.
            accelerator: TensorRT and the GPU, by default those of this machine.
            folder: See `open_engine`.
            build: See `open_engine`.

        Raises:
            ModelError: The file is not a mien model, or TensorRT cannot read it.
            ProviderError: There is no TensorRT or GPU, or the engine cannot be built.
        """
        model = ModelFile.of(source)
        self._accelerator = accelerator or find_accelerator()
        self._engine: Engine | None = open_engine(model, self._accelerator, folder=folder, build=build)
        self.spec = self._engine.spec
        self._profile = self._engine.profile
        self.layer_types = self._engine.types
        self.precision = precision_of(self.spec, origin=model.origin)
        self._stream = self._accelerator.device.create_stream()
        self._slots: OrderedDict[tuple[int, ...], _Slot] = OrderedDict()
        self._lock = threading.Lock()
        self._entered = threading.local()

    def __call__(self, batch: Image) -> dict[str, FloatArray]:
        """Run a batch (b, h, w, 3) uint8 BGR; see `Runner`."""
        check_batch(batch)
        most = self._profile.max[0]
        parts = [batch[i : i + most] for i in range(0, max(1, len(batch)), most)]
        with self._lock:
            if self._engine is None:  # another thread may have closed it
                raise InputError("the runner is closed")
            if not hasattr(self._entered, "device"):  # CUDA's current device is per thread
                self._accelerator.device.set_current()
                self._entered.device = True
            found = [self._run(self._engine, part) for part in parts]
        return found[0] if len(found) == 1 else {n: np.concatenate([f[n] for f in found]) for n in found[0]}

    def _run(self, engine: Engine, batch: Image) -> dict[str, FloatArray]:
        count = len(batch)
        if 0 < count < (fewest := self._profile.min[0]):
            batch = np.pad(batch, ((0, fewest - count), (0, 0), (0, 0), (0, 0)), mode="edge")
        if not self._profile.accepts(batch.shape):
            raise InputError(
                f"the engine accepts batches of {self._profile}, found {batch.shape}; see mien engine --help"
            )
        try:
            slot = self._slots.get(batch.shape)
            if slot is None:
                slot = self._make_slot(engine, batch.shape)
                self._slots[batch.shape] = slot
                if len(self._slots) > MAX_SHAPES:
                    self._slots.popitem(last=False)
            self._slots.move_to_end(batch.shape)
            np.copyto(slot.image, batch)
            slot.graph.launch(self._stream)
            self._stream.sync()
        except self._accelerator.errors as error:
            raise ProviderError(f"CUDA failed while {self.spec.task.value} ran ({error})") from error
        # The next call overwrites the buffers.
        return {name: slot.outputs[name][:count].copy() for name in self.spec.outputs}

    def _make_slot(self, engine: Engine, shape: tuple[int, ...]) -> _Slot:
        """Create a context for one shape: a captured graph is valid only while its context is unchanged."""
        context = engine.engine.create_execution_context()
        if context is None or not context.set_input_shape(INPUT, shape) or context.infer_shapes():
            raise ProviderError(f"TensorRT cannot run batches of {shape}; GPU memory may be short")
        names = [engine.engine.get_tensor_name(i) for i in range(engine.engine.num_io_tensors)]
        buffers = {name: self._buffer(engine, context, name) for name in names}
        image = buffers.pop(INPUT)
        stream = self._stream

        def enqueue() -> None:
            image.host.copy_to(image.device, stream=stream)
            if not context.execute_async_v3(stream_handle=int(stream.handle)):
                raise ProviderError(f"TensorRT could not run {self.spec.task.value}; see the log (--verbose)")
            for output in buffers.values():
                output.device.copy_to(output.host, stream=stream)

        enqueue()  # the first call of a shape sets up resources and must not be captured
        stream.sync()
        graph = self._capture(enqueue)
        return _Slot(image.array, {name: b.array for name, b in buffers.items()}, graph, (context, image, buffers))

    def _buffer(self, engine: Engine, context: Any, name: str) -> _Buffer:
        """Allocate host and GPU memory of an input or output, and register it with the context."""
        dtype = np.dtype(self._accelerator.tensorrt.nptype(engine.engine.get_tensor_dtype(name)))
        shape = tuple(context.get_tensor_shape(name))
        size = int(np.prod(shape)) * dtype.itemsize
        host = self._accelerator.pinned.allocate(size)
        device = self._accelerator.device.allocate(size, stream=self._stream)
        context.set_tensor_address(name, int(device.handle))
        memory = memoryview((ctypes.c_uint8 * size).from_address(int(host.handle)))
        return _Buffer(host, device, np.frombuffer(memory, dtype=dtype).reshape(shape))

    def _capture(self, enqueue: Callable[[], None]) -> Any:
        builder = self._stream.create_graph_builder()
        try:
            builder.begin_building("thread_local")
            enqueue()
            builder.end_building()
            return builder.complete()
        finally:
            builder.close()  # a failed capture would leave the stream unusable

    def close(self) -> None:
        """Release the engine and its memory."""
        with self._lock:
            self._slots.clear()
            self._engine = None

    def __enter__(self) -> EngineRunner:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
