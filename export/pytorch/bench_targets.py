"""The PyTorch side of a benchmark, in a process of its own: torch is imported with this module, and only there."""

from __future__ import annotations

from pathlib import Path

import torch

from mien.bench.suite.candidates import Baseline
from mien.bench.timing.interleave import DeviceClock
from mien.bench.worker.candidate import Job
from mien.bench.worker.targets import ModelTarget, Target
from mien.export.networks.build_network import build_network
from mien.export.networks.checkpoint import load_checkpoint
from mien.export.networks.reference_net import SPEC, seeded_reference_net
from mien.export.pytorch.eager_runner import NetworkRunner
from mien.runtime.errors import ProviderError


class CudaEvents:
    """PyTorch's CUDA events as a `DeviceClock`."""

    def __init__(self) -> None:
        self._begin = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        self._end = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]

    def start(self) -> None:
        """See `DeviceClock`."""
        self._begin.record()

    def stop_ns(self) -> int:
        """See `DeviceClock`."""
        self._end.record()
        self._end.synchronize()
        return round(self._begin.elapsed_time(self._end) * 1e6)


def open_eager(job: Job) -> Target:
    """The checkpoint `job.path` as it is called by those who do nothing about it."""
    return _open(job, Baseline.EAGER)


def open_channels_last(job: Job) -> Target:
    """The checkpoint with NHWC in memory."""
    return _open(job, Baseline.CHANNELS_LAST)


def open_compiled(job: Job) -> Target:
    """The checkpoint through torch.compile, compiled at its first call."""
    return _open(job, Baseline.COMPILE)


def _open(job: Job, how: Baseline) -> Target:
    """A checkpoint, or the yardstick where no file is named."""
    clock: DeviceClock | None = None
    if torch.device(job.device).type == "cuda":
        if not torch.cuda.is_available():
            raise ProviderError("PyTorch sees no CUDA device here; measure with --providers cpu or --baseline none")
        clock = CudaEvents()
    if job.path:
        checkpoint = load_checkpoint(Path(job.path))
        net, spec = build_network(checkpoint), checkpoint.spec
    else:
        net, spec = seeded_reference_net(), SPEC
    runner = NetworkRunner(net, spec, device=job.device, threads=job.threads, how=how)
    return ModelTarget(runner, job, device_clock=clock)
