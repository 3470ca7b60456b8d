"""`mien bench`: what is measured against what, each in a process of its own. Torch is only needed for baselines."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from ..bench.choice import YARDSTICK_FILE
from ..bench.environment import describe_environment
from ..bench.measurement import Level
from ..bench.report import BenchReport
from ..runtime.errors import ModelError
from ..runtime.shipped import shipped_model
from ..runtime.spec import ModelSpec
from .contest import BenchOptions, Contest
from .entries import YARDSTICK, Entry, Plan

CHECKPOINTS = Path(__file__).parent / "weights"
SHIPPED = ("detector", "landmarks", "age_gender")


def run_bench(
    models: Sequence[Path], options: BenchOptions, *, progress: Callable[[int, int], None] | None = None
) -> BenchReport:
    """Measure model files (none: the shipped ones), anybody's, and checkpoints in interleaved rounds.

    A model whose checkpoint is neither beside it nor shipped is measured without a ratio. A candidate that crashes,
    hangs or runs out of memory is told among the lost, and the others go on. Ctrl-C ends the rounds: the report then
    holds the complete ones.

    Raises:
        ModelError: no model file or checkpoint.
        InputError: no inputs, or inputs and counts that make no sense.
        ProcessLost: not one candidate could be measured.
    """
    environment = describe_environment()
    for path in (*models, *([] if options.clip is None else [options.clip])):
        if not path.is_file():
            raise ModelError(f"no file {path}")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mien-bench-")))
        contest = stack.enter_context(Contest(options, folder))
        for model in _chosen(models, options, folder):
            _enter(contest, model, options)
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


def _chosen(models: Sequence[Path], options: BenchOptions, folder: Path) -> list[_Model]:
    """The model files to measure; checkpoints and the yardstick are exported into `folder` first."""
    if models:
        found = []
        for number, (model, name) in enumerate(zip(models, _names(models), strict=True)):
            if model.suffix.lower() == ".pt":
                target = folder / f"{number}" / f"{model.stem}.onnx"
                target.parent.mkdir()
                found.append(_Model(name, str(model), _exported(model, target), model))
            else:
                found.append(_Model(name, str(model), model))
    else:
        found = [_Model(name, "shipped", shipped_model(name)) for name in SHIPPED]
    if options.yardstick:
        from .to_onnx import write_graph
        from .yardstick import SPEC, seeded_yardstick

        path = folder / "mobilenet_v2_224.onnx"
        write_graph(seeded_yardstick(), SPEC, path)
        found.append(_Model("mobilenet_v2 at 224 px", YARDSTICK_FILE, path, YARDSTICK))
    return found


def _enter(contest: Contest, model: _Model, options: BenchOptions) -> None:
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
    checkpoint = model.checkpoint if model.checkpoint is not None else checkpoint_of(specs[0], model.path)
    if checkpoint is not None:
        for entry in entered:
            contest.add_baselines(entry, checkpoint)


def _enter_pipeline(contest: Contest, clip: Path, options: BenchOptions) -> None:
    """The whole pipeline with the measured models, the shipped ones for what is not among them."""
    models = contest.models_by_task()
    for provider in options.providers:
        plan = Plan(
            model="pipeline", file=clip.name, path=clip, device=provider.value, level=Level.PIPELINE, models=models
        )
        contest.enter(plan)


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


def _exported(checkpoint: Path, target: Path) -> Path:
    from .to_onnx import export_onnx

    return export_onnx(checkpoint, target).path


def has_torch() -> bool:
    """Whether an eager baseline can be had here."""
    return importlib.util.find_spec("torch") is not None
