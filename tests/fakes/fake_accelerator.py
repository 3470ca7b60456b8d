"""Fake TensorRT and GPU: the part of ``tensorrt`` and ``cuda.core`` that engines use, on the CPU.

For tests of mien and of programs that embed it. Its engines hold the ONNX file and compute with ONNX Runtime, so their
results are correct. Work on a stream runs only when the stream is synchronized, so code that forgets to synchronize
reads stale data. Classes and methods carry the names of the real ones, and no others.
"""

from __future__ import annotations

from mien.runtime.backends.trt.device import Accelerator, Gpu
from mien.tests.fakes.fake_cuda import CUDAError, Device, LegacyPinnedMemoryResource, Machine
from mien.tests.fakes.fake_tensorrt import fake_tensorrt

ORIN = Gpu("Orin", "8.7", "CUDA 12.6")


def fake_accelerator(
    *, version: str = "10.3.0", gpu: Gpu = ORIN, memory_mb: int = 4096, gpu_present: bool = True
) -> Accelerator:
    """Make TensorRT `version` with a GPU; `memory_mb` limits what builds and buffers may use."""
    machine = Machine(version, gpu, memory_mb << 20, gpu_present)
    device = Device(machine)
    device.set_current()
    return Accelerator(fake_tensorrt(machine), device, LegacyPinnedMemoryResource(), gpu, (CUDAError,))
