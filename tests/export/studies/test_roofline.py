"""The work of a network is what one counts by hand, and the peaks are what this processor does."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from mien.export.studies.roofline import measure_peaks, workload_of
from mien.runtime.models.spec import ModelSpec, Precision, Task


class Small(nn.Module):
    """A convolution of 3 to 4 channels that halves 8×8 pixels, and a product of 64 by 2 numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 2, stride=2, bias=False)
        self.fc = nn.Linear(64, 2)

    def forward(self, image: Tensor) -> Tensor:
        return self.fc(self.conv(image.permute(0, 3, 1, 2).float()).relu().flatten(1))


def test_work_is_counted_as_by_hand() -> None:
    work = workload_of(Small(), ModelSpec(Task.CLASSIFY, (8, 8), ("logits",), classes=("a", "b")))
    assert work.operations == 2 * (4 * 4 * 4 * (3 * 2 * 2) + 64 * 2)
    assert work.activations == (3 * 8 * 8 + 4 * 4 * 4) + (64 + 2)
    assert work.weights == 4 * 3 * 2 * 2 + 64 * 2 + 2
    assert work.bytes_per_image(1, Precision.FP32) == 4 * (work.activations + work.weights)
    assert work.bytes_per_image(2, Precision.FP16) == 2 * work.activations + work.weights


def test_peaks_are_those_of_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(100))
    monkeypatch.setattr("mien.export.studies.roofline.time.perf_counter", lambda: float(next(clock)))
    done = []
    mm, copy = torch.mm, torch.Tensor.copy_
    monkeypatch.setattr(torch, "mm", lambda a, b, out: done.append((a.shape, a.dtype)) or mm(a, b, out=out))
    monkeypatch.setattr(torch.Tensor, "copy_", lambda to, source: done.append(source.nbytes) or copy(to, source))
    peaks = measure_peaks("cpu")
    assert peaks.operations_per_s == {Precision.FP32: 2 * 1024**3}, "each call took a second"
    assert peaks.bytes_per_s == 2 * 2**27
    assert set(done) == {((1024, 1024), torch.float32), 2**27} and len(done) == 12
    assert str(peaks) == "Peaks measured with PyTorch: matrix products 2 GFLOP/s in fp32; copies 0 GB/s."
