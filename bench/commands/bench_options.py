"""Options of `mien bench run` that define the benchmark."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import typer

from ...runtime.commands.input_paths import existing_file, existing_folder
from ...runtime.commands.options import MAX_THREADS, enum_members, positive_ints
from ...runtime.errors import InputError
from ...runtime.models.runner import Provider
from ..suite.options import Baseline, BenchOptions
from ..timing.measurement import Level

MAX_COUNT = 1_000_000
MAX_BATCH = 65_536
PROVIDERS = ", ".join(provider.value for provider in Provider)
BASELINES = ", ".join(baseline.value for baseline in Baseline)


def bench_options(
    providers: str = typer.Option(
        "cpu", "--provider", "--providers", help=f"Providers to run the models on, comma-separated: {PROVIDERS}."
    ),
    baseline: str | None = typer.Option(
        None,
        "--baseline",
        help=f"PyTorch baselines, comma-separated: {BASELINES}; or none. Ratios refer to the first.",
        show_default="eager if PyTorch is installed",
    ),
    batch: str = typer.Option("1", "--batch", help="Images per call, comma-separated."),
    level: str = typer.Option(
        "model",
        "--level",
        help="Comma-separated: model (the model alone), picture (from a picture to the decoded result).",
    ),
    pipeline: Path | None = typer.Option(
        None, "--pipeline", callback=existing_file, help="Also measure the whole pipeline on this video, by stage."
    ),
    threads: int = typer.Option(1, "--threads", min=1, max=MAX_THREADS, help="Threads per operator, and of PyTorch."),
    rounds: int = typer.Option(
        20, "--rounds", min=1, max=MAX_COUNT, help="Rounds; in each, all candidates take turns."
    ),
    calls: int = typer.Option(10, "--calls-per-round", min=1, max=MAX_COUNT, help="Calls of each candidate per round."),
    processes: int = typer.Option(
        5,
        "--processes",
        min=1,
        max=1000,
        help="Number of successive processes per candidate, which share the rounds.",
    ),
    reference_model: bool = typer.Option(
        False, "--reference-model", help="Also measure torchvision's mobilenet_v2 at 224 px."
    ),
    data: list[Path] = typer.Option(
        [],
        "--data",
        metavar="FOLDER",
        callback=existing_folder,
        help="Folder of pictures for the inputs, and of labels for the accuracy; can be repeated.",
        show_default="the demo picture",
    ),
    held_out: bool = typer.Option(False, "--held-out", help="Measure accuracy only on what mien train holds out."),
    feed: Path | None = typer.Option(
        None,
        "--inputs",
        callback=existing_file,
        help="Arrays (.npz, by input name) for a foreign model.",
        show_default="made from its shapes",
    ),
    timeout: float = typer.Option(
        300.0, "--timeout", min=1.0, max=86_400.0, help="Seconds after which a candidate counts as hung."
    ),
) -> BenchOptions:
    """Collect the options that define the benchmark; see `with_options`."""
    if held_out and not data:
        raise InputError("--held-out goes with --data")
    batches = tuple(dict.fromkeys(positive_ints(batch, "--batch")))
    if max(batches) > MAX_BATCH:
        raise InputError(f"--batch expects integers up to {MAX_BATCH}; found {max(batches)}")
    return BenchOptions(
        batches=batches,
        threads=threads,
        rounds=rounds,
        calls_per_round=calls,
        processes=processes,
        baselines=baselines_of(baseline),
        reference_model=reference_model,
        providers=tuple(enum_members(providers, Provider, "--provider")),
        levels=levels_of(level),
        data=tuple(data),
        held_out=held_out,
        clip=pipeline,
        feed=feed,
        timeout_s=timeout,
    )


def baselines_of(text: str | None) -> tuple[Baseline, ...]:
    """Parse ``--baseline``; the default is eager PyTorch if it is installed.

    Raises:
        InputError: A baseline is unknown, or PyTorch is not installed.
    """
    has_torch = importlib.util.find_spec("torch") is not None
    if text is None:
        return (Baseline.EAGER,) if has_torch else ()
    if text.strip() == "none":
        return ()
    found = enum_members(text, Baseline, "--baseline (or none)")
    if not has_torch:
        raise InputError(f"--baseline {text} needs PyTorch, which is not installed; run: pip install 'mien[train]'")
    return tuple(found)


def levels_of(text: str) -> tuple[Level, ...]:
    """Parse ``--level``.

    Raises:
        InputError: A level is unknown, or is pipeline, which has an option of its own.
    """
    found = enum_members(text, Level, "--level")
    if Level.PIPELINE in found:
        raise InputError("the level pipeline needs a video; use --pipeline CLIP instead")
    return tuple(found)
