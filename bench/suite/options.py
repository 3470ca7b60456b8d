"""Options of a benchmark."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from ...runtime.models.runner import Provider
from ...runtime.models.spec import Precision
from ..timing.measurement import Level


class Baseline(str, Enum):
    """A way to run a network in PyTorch."""

    EAGER = "eager"
    """As trained, without any option for speed."""
    EAGER_FP16 = "eager-fp16"
    """In float16, between float32 normalization and outputs."""
    CHANNELS_LAST = "channels-last"
    """With weights and activations as NHWC in memory."""
    COMPILE = "compile"
    """Through torch.compile, which needs a C++ compiler on a CPU."""

    @property
    def precision(self) -> Precision:
        """Precision that the network computes in."""
        return Precision.FP16 if self is Baseline.EAGER_FP16 else Precision.FP32


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """Options of a benchmark.

    Attributes:
        batches: Numbers of images in a call.
        threads: Threads of one operator, and of PyTorch.
        rounds: Rounds of all processes together.
        calls_per_round: Calls of each candidate in a round.
        processes: Processes of each candidate, one after the other, among which the rounds are divided.
        baselines: Baselines in PyTorch; ratios are to the first.
        reference_model: Also measure torchvision's mobilenet_v2 at 224 px.
        providers: Providers to measure each model on.
        levels: How much of the way from picture to result to time.
        data: Folders of inputs and labels; accuracy is measured where they hold a task's labels.
        held_out: Measure accuracy only on what training holds out.
        clip: Video for the whole pipeline.
        feed: Arrays (.npz) for a foreign file.
        timeout_s: Time after which a process that does not answer counts as hung.
    """

    batches: tuple[int, ...] = (1,)
    threads: int = 1
    rounds: int = 20
    calls_per_round: int = 10
    processes: int = 5
    baselines: tuple[Baseline, ...] = (Baseline.EAGER,)
    reference_model: bool = False
    providers: tuple[Provider, ...] = (Provider.CPU,)
    levels: tuple[Level, ...] = (Level.MODEL,)
    data: tuple[Path, ...] = ()
    held_out: bool = False
    clip: Path | None = None
    feed: Path | None = None
    timeout_s: float = 300.0

    @property
    def rounds_by_process(self) -> list[int]:
        """The rounds, divided among the processes as evenly as possible; none goes without a round."""
        count = min(self.rounds, self.processes)
        return [self.rounds // count + (i < self.rounds % count) for i in range(count)]
