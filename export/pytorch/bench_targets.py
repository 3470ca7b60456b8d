"""Opens PyTorch baselines in a benchmark process; the only module that imports torch there."""

from __future__ import annotations

import torch

from ...bench.suite.options import Baseline
from ...bench.timing.interleave import DeviceClock
from ...bench.worker.candidate import REFERENCE_NETWORK, Candidate
from ...bench.worker.targets import ModelTarget, Target
from ...runtime.errors import ProviderError
from ..networks.build_network import build_network
from ..networks.checkpoint import load_checkpoint
from ..networks.reference_net import SPEC, seeded_reference_net
from .eager_runner import NetworkRunner


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


def open_baseline(candidate: Candidate) -> Target:
    """Open a checkpoint, or the reference network, as the baseline of a candidate.

    Raises:
        ProviderError: The candidate needs CUDA, but PyTorch finds no device.
    """
    clock: DeviceClock | None = None
    if torch.device(candidate.device).type == "cuda":
        if not torch.cuda.is_available():
            raise ProviderError("PyTorch finds no CUDA device here; use --provider cpu or --baseline none")
        clock = CudaEvents()
        # float32 means float32, as on the other providers; convolutions would round to TF32 by default.
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    if candidate.path == REFERENCE_NETWORK:
        net, spec = seeded_reference_net(), SPEC
    else:
        checkpoint = load_checkpoint(candidate.path)
        net, spec = build_network(checkpoint), checkpoint.spec
    how = Baseline(candidate.baseline)
    runner = NetworkRunner(net, spec, device=candidate.device, threads=candidate.threads, how=how)
    return ModelTarget(runner, candidate, device_clock=clock)
