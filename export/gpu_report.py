"""Every way to run the shipped models on an NVIDIA GPU, measured in turns in one run:

    python -m mien.export.gpu_report --json docs/results/gpu.json

Eager PyTorch in fp32 and fp16, ONNX Runtime's CUDA provider in both, with and without bound buffers and CUDA graphs,
and TensorRT where it is installed. Batches 1 to 64, images and results on the host, parity with eager on the CPU.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import typer

from mien.bench.data.sample_inputs import sample_batch
from mien.bench.parity.parity import ParityGate
from mien.bench.parity.tolerances import compare_runners
from mien.bench.report.report import BenchReport, build_report
from mien.bench.report.tables import to_markdown
from mien.bench.timing.environment import describe_environment
from mien.bench.timing.interleave import Candidate, measure_interleaved
from mien.bench.timing.measurement import Measurement
from mien.export.convert.to_onnx import export_onnx
from mien.export.networks.build_network import build_network
from mien.export.networks.checkpoint import CHECKPOINTS, load_checkpoint
from mien.export.networks.half_precision import to_half_precision
from mien.export.pytorch.eager_runner import EagerRunner, NetworkRunner
from mien.runtime.backends.ort.onnx_runner import OnnxRunner
from mien.runtime.backends.trt.device import find_accelerator
from mien.runtime.backends.trt.engine_runner import EngineRunner
from mien.runtime.commands.options import numbers
from mien.runtime.errors import InputError, MienError, ProviderError
from mien.runtime.files import check_writable
from mien.runtime.models.input_shapes import profile_for
from mien.runtime.models.model_file import model_spec
from mien.runtime.models.runner import Provider, Runner
from mien.runtime.models.shipped import shipped_models
from mien.runtime.models.spec import Precision, Task
from mien.runtime.values import Image

log = logging.getLogger("mien")

BATCHES = (1, 2, 4, 8, 16, 32, 64)
INPUTS = 4
"""Different real batches that the calls take in turns."""
FLOATS = (Precision.FP32, Precision.FP16)


class HalfEagerRunner(NetworkRunner):
    """A checkpoint's network in float16, between float32 normalization and outputs."""

    precision = Precision.FP16

    def __init__(self, checkpoint: Path, *, device: str) -> None:
        loaded = load_checkpoint(checkpoint)
        super().__init__(to_half_precision(build_network(loaded)), loaded.spec, device=device)


@dataclass(frozen=True, slots=True)
class Way:
    """One way to run a model. what: as it stands in the report."""

    what: str
    precision: Precision
    open: Callable[[], Runner]


def report_on_gpu(
    models: Sequence[Path],
    *,
    batches: Sequence[int],
    rounds: int,
    calls: int,
    warm_up_calls: int = 200,
    device: str = "cuda",
) -> BenchReport:
    """Measure shipped models in all ways; one that does not run here is named in the report's warnings.

    device: PyTorch's and ONNX Runtime's, ``cuda``, or ``cpu`` to try the script.

    Raises:
        ProviderError: no GPU that PyTorch can use.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise ProviderError("PyTorch finds no CUDA device here; run this on a machine with a GPU")
    measured: list[Measurement] = []
    parities: dict[str, ParityGate] = {}
    baselines: dict[str, str] = {}
    missing: list[str] = []
    environment = describe_environment()
    with tempfile.TemporaryDirectory() as folder:
        for model in models:
            for batch in batches:
                done = _measure(
                    model, batch, Path(folder), device, rounds=rounds, calls=calls, warm_up_calls=warm_up_calls
                )
                measured += done.measurements
                parities |= done.parities
                baselines |= done.baselines
                missing += [text for text in done.missing if text not in missing]
    report = build_report(measured, environment, baseline_of=baselines, parities=parities)
    return replace(report, warnings=(*report.warnings, *missing))


@dataclass(frozen=True, slots=True)
class _Done:
    measurements: list[Measurement]
    parities: dict[str, ParityGate]
    baselines: dict[str, str]
    missing: list[str]


def _measure(
    model: Path, batch: int, folder: Path, device: str, *, rounds: int, calls: int, warm_up_calls: int
) -> _Done:
    """All ways of one model at one batch size, in turns."""
    checkpoint = CHECKPOINTS / f"{model.stem}.pt"
    with ExitStack() as stack:
        reference = stack.enter_context(EagerRunner(checkpoint))
        inputs = [sample_batch(reference.spec, batch, seed=i) for i in range(INPUTS)]
        candidates: list[Candidate] = []
        parities: dict[str, ParityGate] = {}
        missing = []
        for way in ways(model, checkpoint, folder, device):
            try:
                runner = stack.enter_context(way.open())
                parity = compare_runners(reference, runner, inputs[0])
            except (ProviderError, InputError) as error:
                missing.append(f"{model.stem}, {way.what} {way.precision.value}, batch {batch}: {error}")
                continue
            candidates.append(_candidate(model.stem, way, runner, inputs))
            parities[candidates[-1].name] = parity
        done = measure_interleaved(candidates, rounds=rounds, calls_per_round=calls, warm_up_calls=warm_up_calls)
    eager = candidates[0].name
    return _Done(done, parities, {c.name: eager for c in candidates[1:]}, missing)


def ways(model: Path, checkpoint: Path, folder: Path, device: str) -> Iterator[Way]:
    """All ways to run a model, eager fp32 first: the others are compared with it."""
    provider = Provider(device)
    yield Way(f"eager-{device}", Precision.FP32, lambda: EagerRunner(checkpoint, device=device))
    yield Way(f"eager-{device}", Precision.FP16, lambda: HalfEagerRunner(checkpoint, device=device))
    half = folder / f"{model.stem}.onnx"
    if not half.exists():
        export_onnx(checkpoint, half, precision=Precision.FP16)
    for path, precision in zip((model, half), FLOATS, strict=True):
        for what, binding, graph in (("", False, False), ("+binding", True, False), ("+binding+graph", True, True)):
            yield Way(
                f"{device}{what}",
                precision,
                lambda path=path, binding=binding, graph=graph: OnnxRunner(  # type: ignore[misc]
                    path, provider=provider, io_binding=binding, cuda_graph=graph
                ),
            )
        yield Way("tensorrt", precision, lambda path=path: _engine(path, folder))  # type: ignore[misc]


def _engine(model: Path, folder: Path) -> Runner:
    accelerator = find_accelerator()
    spec = model_spec(model)
    most = 1 if spec.task is Task.DETECTOR else BATCHES[-1]
    profile = profile_for(spec, batch=(1, 1, most))
    return EngineRunner(model, accelerator=accelerator, profile=profile, folder=folder)


def _candidate(model: str, way: Way, runner: Runner, inputs: Sequence[Image]) -> Candidate:
    batch = len(inputs[0])
    return Candidate(
        name=f"{model}/{way.what}/{way.precision.value}/{batch}",
        model=model,
        precision=way.precision,
        provider=way.what,
        batch=batch,
        threads=0,
        inputs=inputs,
        call=runner,
    )


def main(
    json_out: Path = typer.Option(..., "--json", help="File for the report.", show_default=False),
    batches: str = typer.Option(",".join(map(str, BATCHES)), "--batch", help="Images in a call, comma-separated."),
    rounds: int = typer.Option(20, "--rounds", min=1, help="Rounds in which all ways take turns."),
    calls: int = typer.Option(20, "--calls-per-round", min=1, help="Calls of each way in a round."),
    device: str = typer.Option("cuda", "--device", help="cuda, or cpu to try the script."),
) -> None:
    """Measure every way to run the shipped models on this GPU."""
    logging.basicConfig(level=logging.WARNING)
    try:
        check_writable(json_out)
        sizes = numbers(batches, "--batch")
        report = report_on_gpu(shipped_models(), batches=sizes, rounds=rounds, calls=calls, device=device)
    except MienError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from error
    json_out.write_text(report.to_json(), encoding="utf-8")
    print(to_markdown(report), end="")


if __name__ == "__main__":
    typer.run(main)
