"""Roofline of a network on a device: the work of one image, and the peaks that it is compared with.

Source: Williams, Waterman and Patterson, "Roofline: an insightful visual performance model for multicore
architectures", Communications of the ACM 52 (4), 2009.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from ...runtime.models.spec import ModelSpec, Precision
from ..networks.layer_summary import count_parameters, summarize

TYPES = {Precision.FP32: torch.float32, Precision.FP16: torch.float16}
PEAKS_OF = {"cuda": (Precision.FP32, Precision.FP16), "cpu": (Precision.FP32,)}
MATRIX_SIDE = {"cuda": 8192, "cpu": 1024}
COPIED_BYTES = {"cuda": 1 << 30, "cpu": 1 << 27}
REPEATS = 5


@dataclass(frozen=True, slots=True)
class Workload:
    """Arithmetic and memory traffic of a network.

    The traffic is a lower bound: every convolution and matrix product reads its input and its weights and writes its
    output once, and everything between them is fused into them.

    Attributes:
        operations: Floating-point operations per image; a multiply-add is two.
        activations: Numbers read and written per image.
        weights: Numbers read per call.
    """

    operations: int
    activations: int
    weights: int

    def bytes_per_image(self, batch: int, precision: Precision) -> float:
        """Return the bytes moved for one image of a batch."""
        return TYPES[precision].itemsize * (self.activations + self.weights / batch)


def workload_of(net: nn.Module, spec: ModelSpec) -> Workload:
    """Count the work of a network for one image of the spec's size."""
    moved = 0

    def count(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal moved
        moved += sum(tensor.numel() for tensor in (*inputs, output))

    handles = [
        module.register_forward_hook(count) for module in net.modules() if isinstance(module, (nn.Conv2d, nn.Linear))
    ]
    try:
        operations = 2 * summarize(net, spec).multiply_adds
    finally:
        for handle in handles:
            handle.remove()
    return Workload(operations, moved, count_parameters(net)[0])


@dataclass(frozen=True, slots=True)
class Peaks:
    """What PyTorch reaches on a device.

    Attributes:
        operations_per_s: Floating-point operations per second of a product of large square matrices, by precision.
        bytes_per_s: Bytes read and written per second by a copy within the device's memory.
    """

    operations_per_s: dict[Precision, float]
    bytes_per_s: float

    def __str__(self) -> str:
        """Show them in a line."""
        products = ", ".join(f"{rate / 1e9:.0f} GFLOP/s in {p.value}" for p, rate in self.operations_per_s.items())
        return f"Peaks measured with PyTorch: matrix products {products}; copies {self.bytes_per_s / 1e9:.0f} GB/s."


def measure_peaks(device: str) -> Peaks:
    """Measure the peaks of a device, in float32 without TF32; on a GPU in less than a second.

    Args:
        device: Name of PyTorch's device type, cuda or cpu.
    """
    side = MATRIX_SIDE[device]
    operations = {}
    for precision in PEAKS_OF[device]:
        matrix = torch.ones(side, side, dtype=TYPES[precision], device=device)
        multiply = partial(torch.mm, matrix, matrix, out=torch.empty_like(matrix))
        operations[precision] = 2 * side**3 / fastest(multiply, device)
    source = torch.zeros(COPIED_BYTES[device], dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return Peaks(operations, 2 * source.numel() / fastest(lambda: target.copy_(source), device))


def fastest(call: Callable[[], Tensor], device: str) -> float:
    """Return the shortest time of a call, in seconds, after one that is not timed."""
    times = []
    for _ in range(REPEATS + 1):
        start = time.perf_counter()
        call()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return min(times[1:])
