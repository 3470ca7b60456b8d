"""`mien bench`: what is measured against what. Torch is only needed for the eager baseline."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..bench.environment import describe_environment
from ..bench.measure import Candidate, measure_interleaved
from ..bench.parity import ParityGate
from ..bench.report import BenchReport, build_report
from ..runtime.errors import ModelError
from ..runtime.onnx_runner import OnnxRunner
from ..runtime.runner import Provider, Runner
from ..runtime.shipped import shipped_model
from ..runtime.spec import ModelSpec
from ..runtime.values import Image
from .parity_gate import compare
from .samples import sample_batch

CHECKPOINTS = Path(__file__).parent / "weights"
SHIPPED = ("detector", "landmarks", "age_gender")
INPUTS = 8
"""Different real batches that the calls take in turns."""


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """What to measure. baseline: against eager PyTorch. yardstick: also mobilenet_v2 at 224 px."""

    batches: tuple[int, ...] = (1,)
    threads: int = 1
    rounds: int = 20
    calls_per_round: int = 10
    baseline: bool = True
    yardstick: bool = False
    providers: tuple[Provider, ...] = (Provider.CPU,)
    data: Path | None = None


@dataclass(frozen=True, slots=True)
class Contender:
    """A runner and, when it has one, the eager runner of the same weights."""

    model: str
    runners: tuple[Runner, ...]
    eager: Runner | None


def run_bench(
    models: Sequence[Path], options: BenchOptions, *, progress: Callable[[int, int], None] | None = None
) -> BenchReport:
    """Measure model files (none: the shipped ones) and checkpoints in interleaved rounds.

    A model whose checkpoint is neither beside it nor shipped is measured without a ratio.

    Raises:
        ModelError: no model file or checkpoint.
    """
    environment = describe_environment()
    with ExitStack() as stack:
        chosen = list(models) or [shipped_model(name) for name in SHIPPED]
        contenders = [
            stack.enter_context(_contender(model, name, options))
            for model, name in zip(chosen, _names(chosen), strict=True)
        ]
        if options.yardstick:
            contenders.append(stack.enter_context(_yardstick(options)))
        candidates: list[Candidate] = []
        parities: dict[str, ParityGate] = {}
        baselines: dict[str, str] = {}
        for contender in contenders:
            for batch in options.batches:
                _add(contender, batch, options, candidates, parities, baselines)
        measurements = measure_interleaved(
            candidates, rounds=options.rounds, calls_per_round=options.calls_per_round, progress=progress
        )
    return build_report(measurements, environment, baseline_of=baselines, parities=parities)


def _add(
    contender: Contender,
    batch: int,
    options: BenchOptions,
    candidates: list[Candidate],
    parities: dict[str, ParityGate],
    baselines: dict[str, str],
) -> None:
    spec = contender.runners[0].spec
    inputs = [sample_batch(spec, batch, data=options.data, seed=i) for i in range(INPUTS)]
    measured = [_candidate(contender.model, runner, batch, options.threads, inputs) for runner in contender.runners]
    if contender.eager is not None:
        baseline = _candidate(contender.model, contender.eager, batch, options.threads, inputs)
        for candidate, runner in zip(measured, contender.runners, strict=True):
            parities[candidate.name] = compare(contender.eager, runner, inputs[0])
            baselines[candidate.name] = baseline.name
        measured = [baseline, *measured]
    candidates += measured


def _candidate(model: str, runner: Runner, batch: int, threads: int, inputs: list[Image]) -> Candidate:
    return Candidate(
        name=f"{model}/{runner.provider}/{runner.precision.value}/{batch}",
        model=model,
        precision=runner.precision,
        provider=runner.provider,
        batch=batch,
        threads=threads,
        inputs=inputs,
        call=runner,
    )


@contextmanager
def _contender(model: Path, name: str, options: BenchOptions) -> Iterator[Contender]:
    with ExitStack() as stack:
        path = model
        if model.suffix == ".pt":
            path = stack.enter_context(_exported(model))
        runners = [
            stack.enter_context(OnnxRunner(path, provider=p, threads=options.threads)) for p in options.providers
        ]
        eager = None
        checkpoint = None
        if options.baseline:
            checkpoint = model if model.suffix == ".pt" else checkpoint_of(runners[0].spec, model)
        if checkpoint is not None:
            eager = stack.enter_context(_eager(checkpoint, options.threads))
        yield Contender(name, tuple(runners), eager)


def checkpoint_of(spec: ModelSpec, model: Path) -> Path | None:
    """Find the checkpoint whose weights a model file holds: beside it, or among the shipped ones."""
    from .checkpoint import load_checkpoint

    for path in [*sorted(model.parent.glob("*.pt")), *sorted(CHECKPOINTS.glob("*.pt"))]:
        try:
            if load_checkpoint(path).spec.weights_sha256 == spec.weights_sha256:
                return path
        except ModelError:
            continue  # somebody else's .pt
    return None


def _names(models: Sequence[Path]) -> list[str]:
    """Name models by their stem; those that share one also by their folder, and by number if they share that too."""
    stems = [m.stem for m in models]
    names = [m.stem if stems.count(m.stem) == 1 else f"{m.resolve().parent.name}/{m.stem}" for m in models]
    return [n if names.count(n) == 1 else f"{n} #{names[: i + 1].count(n)}" for i, n in enumerate(names)]


@contextmanager
def _exported(checkpoint: Path) -> Iterator[Path]:
    from .to_onnx import export_onnx

    with tempfile.TemporaryDirectory() as folder:
        yield export_onnx(checkpoint, Path(folder) / f"{checkpoint.stem}.onnx").path


def _eager(checkpoint: Path, threads: int) -> Runner:
    from .eager_runner import EagerRunner

    return EagerRunner(checkpoint, threads=threads)


@contextmanager
def _yardstick(options: BenchOptions) -> Iterator[Contender]:
    from .eager_runner import NetworkRunner
    from .to_onnx import write_graph
    from .yardstick import SPEC, Yardstick

    net = Yardstick().eval()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mobilenet_v2_224.onnx"
        write_graph(net, SPEC, path)
        with OnnxRunner(path, provider=Provider.CPU, threads=options.threads) as runner:
            eager = NetworkRunner(net, SPEC, threads=options.threads) if options.baseline else None
            yield Contender("mobilenet_v2 at 224 px", (runner,), eager)


def has_torch() -> bool:
    """Whether an eager baseline can be had here."""
    return importlib.util.find_spec("torch") is not None
