"""A stand-in for TensorRT and a GPU: the small part of ``tensorrt`` and ``cuda.core`` that engines use, on the CPU.

For tests, of mien and of programs that embed it. Its engines hold the ONNX file and compute with ONNX Runtime, so their
results are right; work on a stream is only done when the stream is waited for, so whoever forgets to wait reads what
was there before. Classes and methods have the names of the real ones, and no others.
"""

from __future__ import annotations

from mien.runtime.backends.trt.device import Accelerator, Gpu
from mien.tests.fakes.fake_cuda import CUDAError, Device, LegacyPinnedMemoryResource, Machine
from mien.tests.fakes.fake_tensorrt import fake_tensorrt

ORIN = Gpu("Orin", "8.7", "CUDA 12.6")


def fake_accelerator(
    *, version: str = "10.3.0", gpu: Gpu = ORIN, memory_mb: int = 4096, gpu_present: bool = True
) -> Accelerator:
    """TensorRT `version` with a GPU. memory_mb: what a build may use, and what buffers may take."""
    machine = Machine(version, gpu, memory_mb << 20, gpu_present)
    device = Device(machine)
    device.set_current()
    return Accelerator(fake_tensorrt(machine), device, LegacyPinnedMemoryResource(), gpu, (CUDAError,))
