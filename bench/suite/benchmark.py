"""`mien bench`: what is measured against what, each in a process of its own. Torch is only needed for baselines."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from mien.bench.bridge import PyTorchBridge
from mien.bench.report.recommend import REFERENCE_FILE
from mien.bench.report.report import BenchReport
from mien.bench.suite.candidates import REFERENCE_NETWORK, Entry, Plan
from mien.bench.suite.session import BenchmarkSession, BenchOptions
from mien.bench.timing.environment import describe_environment
from mien.bench.timing.measurement import Level
from mien.runtime.errors import InputError, ModelError
from mien.runtime.models.shipped import shipped_model
from mien.runtime.values import Progress

SHIPPED = ("detector", "landmarks", "age_gender")


def run_bench(
    models: Sequence[Path],
    options: BenchOptions,
    *,
    bridge: PyTorchBridge | None = None,
    progress: Progress | None = None,
) -> BenchReport:
    """Measure model files (none: the shipped ones), anybody's, and checkpoints in interleaved rounds.

    A model whose checkpoint is neither beside it nor shipped is measured without a ratio. A candidate that crashes,
    hangs or runs out of memory is told among the lost, and the others go on. Ctrl-C ends the rounds: the report then
    holds the complete ones. bridge: opens checkpoints and baselines; without it, only model files are measured.

    Raises:
        ModelError: no model file or checkpoint.
        InputError: no inputs, or inputs and counts that make no sense.
        ProcessFailed: not one candidate could be measured.
    """
    environment = describe_environment()
    for path in (*models, *([] if options.clip is None else [options.clip])):
        if not path.is_file():
            raise ModelError(f"no file {path}")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mien-bench-")))
        contest = stack.enter_context(BenchmarkSession(options, folder))
        for model in _chosen(models, options, folder, bridge):
            _enter(contest, model, options, bridge)
        if options.clip is not None:
            _enter_pipeline(contest, options.clip, options)
        return contest.measure(environment, progress=progress)


@dataclass(frozen=True, slots=True)
class _Model:
    """name: in the report. file: as it was named. path: what is opened. checkpoint: where its weights are for PyTorch;
    None: to be looked for."""

    name: str
    file: str
    path: Path
    checkpoint: Path | None = None


def _chosen(models: Sequence[Path], options: BenchOptions, folder: Path, bridge: PyTorchBridge | None) -> list[_Model]:
    """The model files to measure; checkpoints and the yardstick are exported into `folder` first."""
    if models:
        found = []
        for number, (model, name) in enumerate(zip(models, _names(models), strict=True)):
            if model.suffix.lower() == ".pt":
                target = folder / f"{number}" / f"{model.stem}.onnx"
                target.parent.mkdir()
                found.append(_Model(name, str(model), _needed(bridge).export(model, target), model))
            else:
                found.append(_Model(name, str(model), model))
    else:
        found = [_Model(name, "shipped", shipped_model(name)) for name in SHIPPED]
    if options.reference_model:
        path = _needed(bridge).export_reference(folder / "mobilenet_v2_224.onnx")
        found.append(_Model("mobilenet_v2 at 224 px", REFERENCE_FILE, path, REFERENCE_NETWORK))
    return found


def _enter(contest: BenchmarkSession, model: _Model, options: BenchOptions, bridge: PyTorchBridge | None) -> None:
    """A model's candidates, by level, batch and provider, and the baselines of the same weights on the same device."""
    entered: list[Entry] = []
    for level in options.levels:
        # A picture has one face to cut out: more of them would be a batch.
        for batch in options.batches if level is Level.MODEL else (1,):
            plans = [
                Plan(model=model.name, file=model.file, path=model.path, device=p.value, level=level, batch=batch)
                for p in options.providers
            ]
            entered += [entry for entry in map(contest.enter, plans) if entry is not None]
    specs = [entry.opened.spec for entry in entered if entry.opened.spec is not None]
    if not specs or not options.baselines:
        return
    torch_side = _needed(bridge)
    checkpoint = model.checkpoint if model.checkpoint is not None else torch_side.find_checkpoint(specs[0], model.path)
    if checkpoint is not None:
        for entry in entered:
            contest.add_baselines(entry, checkpoint, torch_side)


def _enter_pipeline(contest: BenchmarkSession, clip: Path, options: BenchOptions) -> None:
    """The whole pipeline with the measured models, the shipped ones for what is not among them."""
    models = contest.models_by_task()
    for provider in options.providers:
        plan = Plan(
            model="pipeline", file=clip.name, path=clip, device=provider.value, level=Level.PIPELINE, models=models
        )
        contest.enter(plan)


def _names(models: Sequence[Path]) -> list[str]:
    """Name models by their stem; those that share one also by their folder, and by number if they share that too."""
    stems = [m.stem for m in models]
    names = [m.stem if stems.count(m.stem) == 1 else f"{m.resolve().parent.name}/{m.stem}" for m in models]
    return [n if names.count(n) == 1 else f"{n} #{names[: i + 1].count(n)}" for i, n in enumerate(names)]


def _needed(bridge: PyTorchBridge | None) -> PyTorchBridge:
    if bridge is None:
        raise InputError("checkpoints and baselines need PyTorch; give model files (.onnx) and no baseline")
    return bridge


def has_torch() -> bool:
    """Whether an eager baseline can be had here."""
    return importlib.util.find_spec("torch") is not None
