"""Options of a benchmark."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from ...runtime.models.runner import Provider
from ...runtime.models.spec import Precision
from ..timing.measurement import Level


class Baseline(str, Enum):
    """Ways to run a network in PyTorch."""

    EAGER = "eager"
    """As trained, without optimizations."""
    EAGER_FP16 = "eager-fp16"
    """In float16, between float32 normalization and outputs."""
    CHANNELS_LAST = "channels-last"
    """With weights and activations as NHWC in memory."""
    COMPILE = "compile"
    """Through torch.compile, which needs a C++ compiler on a CPU."""

    @property
    def precision(self) -> Precision:
        """Precision of the computation."""
        return Precision.FP16 if self is Baseline.EAGER_FP16 else Precision.FP32


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """Options of a benchmark.

    Attributes:
        batches: Batch sizes: images per call.
        threads: Threads per operator, and of PyTorch.
        rounds: Total rounds over all processes.
        calls_per_round: Calls of each candidate per round.
        processes: Successive processes of each candidate; they share the rounds.
        baselines: Baselines in PyTorch; ratios refer to the first.
        reference_model: Also measure torchvision's mobilenet_v2 at 224 px.
        providers: Providers to measure each model on.
        levels: Levels to measure each model at.
        data: Folders of inputs and labels; accuracy is measured for tasks that have labels there.
        held_out: Measure accuracy only on what `mien train` holds out.
        clip: Video for the whole pipeline.
        feed: Arrays (.npz) for a foreign model.
        timeout_s: Seconds without an answer after which a process counts as hung.
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
        """Rounds of each process, as even as possible; there are never more processes than rounds."""
        count = min(self.rounds, self.processes)
        return [self.rounds // count + (i < self.rounds % count) for i in range(count)]
