"""`mien bench`: selects the candidates and measures each in its own process. Only checkpoints need PyTorch."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from ...runtime.backends.fastest_precision import fastest_precision
from ...runtime.errors import InputError, one_line
from ...runtime.file_kinds import check_file
from ...runtime.models.runner import Provider
from ...runtime.models.shipped import shipped_model
from ...runtime.models.spec import ModelSpec, Precision
from ...runtime.values import Progress
from ..bridge import PyTorchBridge
from ..report.recommend import REFERENCE_FILE, SHIPPED_FILE
from ..report.report import BenchReport
from ..timing.environment import describe_environment
from ..timing.measurement import Level
from ..worker.candidate import REFERENCE_NETWORK, Candidate, name_of
from ..worker.openers import open_model, open_pipeline
from .candidates import CandidateRecord
from .options import BenchOptions
from .session import BenchmarkSession

SHIPPED = ("detector", "landmarks", "age_gender")


def run_bench(
    models: Sequence[Path],
    options: BenchOptions,
    *,
    bridge: PyTorchBridge | None = None,
    progress: Progress | None = None,
) -> BenchReport:
    """Measure model files and checkpoints in interleaved rounds.

    A model has no ratio unless its checkpoint lies next to it or is shipped. A candidate that crashes, hangs or runs
    out of memory is reported as failed, and the run continues without it. Ctrl-C stops the run; the report then
    contains the completed rounds.

    Args:
        models: Model files, with or without mien's metadata, and checkpoints; empty for the shipped models.
        options: Options of the benchmark.
        bridge: Opens checkpoints and baselines; without it, only model files can be measured.
        progress: Called after each round with (rounds done, rounds).

    Raises:
        InputError: A model file or checkpoint does not exist, there are no inputs, or inputs or counts are invalid.
        ProcessFailed: All candidates failed.
    """
    environment = describe_environment()
    for path in (*models, *([] if options.clip is None else [options.clip])):
        check_file(path)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mien-bench-")))
        session = stack.enter_context(BenchmarkSession(options, folder))
        for model in _models(models, options, folder, bridge):
            _add_model(session, model, options, bridge)
        if options.clip is not None:
            _add_pipeline(session, options.clip, options, models=session.models_by_task() if models else {})
        return session.measure(environment, progress=progress)


def _models(
    models: Sequence[Path], options: BenchOptions, folder: Path, bridge: PyTorchBridge | None
) -> list[Candidate]:
    """Return a candidate for each model, after exporting checkpoints and the reference network to `folder`."""

    def candidate(name: str, file: str, path: Path) -> Candidate:
        return Candidate(
            model=name, file=file, path=path, device="", opener=name_of(open_model), threads=options.threads
        )

    found = []
    for number, (model, name) in enumerate(zip(models, _names(models), strict=True)):
        path = model
        if model.suffix.lower() == ".pt":
            target = folder / f"{number}" / f"{model.stem}.onnx"
            target.parent.mkdir()
            path = _required(bridge).export(model, target)
        found.append(candidate(name, str(model), path))
    if not models:
        precisions = (Precision.FP32, Precision.INT8)
        found = [candidate(name, SHIPPED_FILE, shipped_model(name, p)) for name in SHIPPED for p in precisions]
    if options.reference_model:
        path = _required(bridge).export_reference(folder / "mobilenet_v2_224.onnx")
        found.append(candidate("mobilenet_v2 at 224 px", REFERENCE_FILE, path))
    return found


def _add_model(
    session: BenchmarkSession, model: Candidate, options: BenchOptions, bridge: PyTorchBridge | None
) -> None:
    """Add a model at each level, batch size and provider, and the baselines with its weights on the same devices."""
    records: list[CandidateRecord] = []
    for level in options.levels:
        # A picture yields one face, so other batch sizes make sense for the model level only.
        for batch in options.batches if level is Level.MODEL else (1,):
            for provider in _providers_for(model, options):
                record = session.add(replace(model, device=provider.value, level=level, batch=batch))
                records += [] if record is None else [record]
    specs = [record.process.spec for record in records if record.process.spec is not None]
    if not specs or not options.baselines:
        return
    checkpoint = _checkpoint_of(model, specs[0], _required(bridge))
    if checkpoint is not None:
        for record in records:
            session.add_baselines(record, checkpoint, _required(bridge))


def _providers_for(model: Candidate, options: BenchOptions) -> list[Provider]:
    """Return the providers to run a model on: for a shipped int8 file, only those on which a pipeline runs it."""
    if model.file != SHIPPED_FILE or model.path != shipped_model(model.model, Precision.INT8):
        return list(options.providers)
    return [provider for provider in options.providers if fastest_precision(provider) is Precision.INT8]


def _checkpoint_of(model: Candidate, spec: ModelSpec, bridge: PyTorchBridge) -> Path | None:
    if model.file == REFERENCE_FILE:
        return REFERENCE_NETWORK
    return Path(model.file) if model.file.lower().endswith(".pt") else bridge.find_checkpoint(spec, model.path)


def _add_pipeline(session: BenchmarkSession, clip: Path, options: BenchOptions, *, models: dict[str, str]) -> None:
    """Add the whole pipeline with models by task, and the shipped ones for the other tasks."""
    for provider in options.providers:
        session.add(
            Candidate(
                model="pipeline",
                file=clip.name,
                path=clip,
                device=provider.value,
                opener=name_of(open_pipeline),
                threads=options.threads,
                level=Level.PIPELINE,
                models=models,
            )
        )


def _names(models: Sequence[Path]) -> list[str]:
    """Name each model by its stem, adding its folder and then a number where names would clash."""
    stems = [m.stem for m in models]
    names = [m.stem if stems.count(m.stem) == 1 else f"{m.resolve().parent.name}/{m.stem}" for m in models]
    names = [one_line(name) for name in names]
    return [n if names.count(n) == 1 else f"{n} #{names[: i + 1].count(n)}" for i, n in enumerate(names)]


def _required(bridge: PyTorchBridge | None) -> PyTorchBridge:
    if bridge is None:
        raise InputError("checkpoints and baselines need PyTorch; pass model files (.onnx) and --baseline none")
    return bridge
