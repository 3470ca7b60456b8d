"""The part of ``cuda.core`` that engines use, on the CPU: see `fake_accelerator`."""

from __future__ import annotations

import ctypes
import itertools
import threading
from collections.abc import Callable

from mien.runtime.backends.trt.device import Gpu


class CUDAError(Exception):
    """Error of cuda.core."""


class Machine:
    """State shared by the fakes of one machine."""

    def __init__(self, version: str, gpu: Gpu, memory: int, present: bool) -> None:
        self.version, self.gpu, self.free, self.present = version, gpu, memory, present
        self.streams: dict[int, Stream] = {}
        self.numbers = itertools.count(1)
        self.current = threading.local()

    def check_current(self) -> None:
        """Raise CUDAError unless the calling thread has a current device."""
        if not getattr(self.current, "device", False):
            raise CUDAError("CUDA_ERROR_INVALID_CONTEXT: no device is current in this thread")


class Device:
    """The one GPU."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    @property
    def name(self) -> str:
        """Its name."""
        return self._machine.gpu.name

    @property
    def compute_capability(self) -> tuple[int, int]:
        """Major and minor."""
        major, minor = self._machine.gpu.compute_capability.split(".")
        return int(major), int(minor)

    def set_current(self) -> None:
        """Make it the calling thread's device."""
        self._machine.current.device = True

    def create_stream(self) -> Stream:
        """Make a stream."""
        self._machine.check_current()
        return Stream(self._machine)

    def allocate(self, size: int, *, stream: Stream) -> Buffer:
        """Memory of the GPU."""
        self._machine.check_current()
        if size > self._machine.free:
            raise CUDAError("CUDA_ERROR_OUT_OF_MEMORY")
        self._machine.free -= size
        return Buffer(size)


class LegacyPinnedMemoryResource:
    """Allocates host memory."""

    def allocate(self, size: int) -> Buffer:
        """Pinned memory."""
        return Buffer(size)


class Buffer:
    """Host or GPU memory, filled with noise at first."""

    def __init__(self, size: int) -> None:
        self._memory = (ctypes.c_uint8 * size)(*([0xA5] * min(size, 16)))
        self.size = size

    @property
    def handle(self) -> int:
        """Its address."""
        return ctypes.addressof(self._memory)

    def copy_to(self, dst: Buffer, *, stream: Stream) -> None:
        """Queue a copy."""
        if dst.size != self.size:
            raise CUDAError("CUDA_ERROR_INVALID_VALUE")
        stream._queue(lambda: ctypes.memmove(dst.handle, self.handle, self.size))


class Stream:
    """A queue of work, done by `sync`."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._waiting: list[Callable[[], object]] = []
        self._capture: list[Callable[[], object]] | None = None
        self.handle = next(machine.numbers)
        machine.streams[self.handle] = self

    def _queue(self, work: Callable[[], object]) -> None:
        self._machine.check_current()
        (self._waiting if self._capture is None else self._capture).append(work)

    def sync(self) -> None:
        """Run the queued work."""
        if self._capture is not None:
            raise CUDAError("CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED")
        self._machine.check_current()
        waiting, self._waiting = self._waiting, []
        for work in waiting:
            work()

    def create_graph_builder(self) -> GraphBuilder:
        """Capture this stream."""
        return GraphBuilder(self)


class GraphBuilder:
    """Records work instead of queueing it."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self._work: list[Callable[[], object]] = []

    def begin_building(self, mode: str = "relaxed") -> GraphBuilder:
        """Start recording."""
        self.stream._capture = self._work
        return self

    def end_building(self) -> GraphBuilder:
        """Stop recording."""
        self.stream._capture = None
        return self

    def complete(self) -> Graph:
        """Return the recorded work."""
        return Graph(self._work)

    def close(self) -> None:
        """Restore the stream."""
        self.stream._capture = None


class Graph:
    """Recorded work."""

    def __init__(self, work: list[Callable[[], object]]) -> None:
        self._work = work

    def launch(self, stream: Stream) -> None:
        """Queue all of it."""
        for work in self._work:
            stream._queue(work)
