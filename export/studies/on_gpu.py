"""Compares all ways to run the shipped models on a GPU: ``python -m mien.export.studies.on_gpu --out DIR``.

They are eager PyTorch in float32 and float16, torch.compile, and ONNX Runtime with fp32 and fp16 files: plain calls,
bound buffers, and a captured graph. Ratios refer to eager float32. DIR receives the fp16 files, and after each model
gpu.json, a report of `mien bench`, and gpu.html; if the time runs out, they contain what has been measured. The printed
table, also in gpu.md, compares operations and bytes per second with the device's peaks. With ``--device cpu``, the same
code runs without a GPU, in those of the ways that a CPU has.
"""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from ...bench.report.html_report import to_html
from ...bench.report.report import BenchReport, FailedCandidate, Row
from ...bench.report.tables import aligned
from ...bench.suite.options import Baseline, BenchOptions
from ...bench.suite.session import BenchmarkSession
from ...bench.timing.environment import describe_environment
from ...bench.worker.candidate import Candidate, name_of
from ...bench.worker.openers import open_model
from ...runtime.atomic_file import write_report
from ...runtime.backends.ort.io_binding import CallMode
from ...runtime.errors import MienError
from ...runtime.interrupts import interruptible
from ...runtime.models.runner import Provider
from ...runtime.models.shipped import shipped_model
from ...runtime.models.spec import Precision
from ..bridge import TorchBridge
from ..convert.to_onnx import export_onnx
from ..networks.build_network import build_network
from ..networks.checkpoint import CHECKPOINTS, load_checkpoint
from .roofline import Peaks, Workload, measure_peaks, workload_of

MODELS = ("landmarks", "detector", "age_gender")
"""The most important first, in case the time runs out."""
BASELINES = {
    Provider.CUDA: (Baseline.EAGER, Baseline.EAGER_FP16, Baseline.COMPILE),
    Provider.CPU: (Baseline.EAGER,),
}
MODES = {Provider.CUDA: tuple(CallMode), Provider.CPU: (CallMode.PLAIN, CallMode.BOUND)}
RESERVE_S = 30.0
"""Time to check parity and write the report once the rounds must end."""
HUNG_S = 80.0
HEAD = (
    *("model", "provider", "precision", "batch", "p50 ms", "ratio", "batch", "images/s", "ratio"),
    *("GFLOP/s", "of peak", "GB/s", "of peak", "parity"),
)
GOAL = 5.0
"""Ratio of the landmark model at batch 1, in float32 with a captured graph, to eager float32."""


def measure(
    model: str, batches: Sequence[int], options: BenchOptions, *, device: Provider, folder: Path
) -> BenchReport:
    """Measure a shipped model in all ways that a device has.

    Args:
        model: Name of the model.
        batches: Images per call.
        options: Options of the benchmark.
        device: CUDA or the CPU.
        folder: Folder to write the fp16 file to.

    Raises:
        ProcessFailed: All ways failed.
        KeyboardInterrupt: The time ran out before the first round was complete.
    """
    fp16 = export_onnx(shipped_model(model), folder / f"{model}.fp16.onnx", precision=Precision.FP16).path
    checkpoint, bridge = CHECKPOINTS / f"{model}.pt", TorchBridge()
    eager = Candidate(
        model=model, file=checkpoint.name, path=checkpoint, device=device.value, opener=bridge.baseline_opener()
    )
    ways = [replace(eager, baseline=kind.value) for kind in options.baselines]
    for file in (shipped_model(model), fp16):
        plain = replace(eager, file=file.name, path=file, opener=name_of(open_model))
        ways += [replace(plain, mode=mode.value) for mode in MODES[device]]
    environment = describe_environment()
    if device is Provider.CUDA and torch.cuda.is_available():
        environment = replace(environment, gpu=torch.cuda.get_device_name())  # the driver's files may be out of sight
    with tempfile.TemporaryDirectory() as inputs, BenchmarkSession(options, Path(inputs)) as session:
        records = session.add_all([replace(way, batch=batch) for batch in batches for way in ways])
        first = {r.candidate.batch: r for r in records if r.candidate.baseline == Baseline.EAGER.value}
        for record in records:
            against = first.get(record.candidate.batch, record)
            record.baseline = None if against is record else against.name
        return session.measure(environment, slow_checks=False)


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Interrupt the block after some seconds, as Ctrl-C would."""
    signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def measure_all(
    models: Sequence[str],
    batches: Sequence[int],
    options: BenchOptions,
    *,
    device: Provider,
    folder: Path,
    minutes: float,
) -> BenchReport:
    """Measure models one after the other, and write the report after each, until the time is up or Ctrl-C.

    Args:
        models: Names of the models.
        batches: Images per call; a detector takes one.
        options: Options of the benchmark.
        device: CUDA or the CPU.
        folder: Folder to write to.
        minutes: Time limit.
    """
    reports: list[BenchReport] = []
    problems: list[str] = []
    try:
        with interruptible(), time_limit(max(60 * minutes - RESERVE_S, 1)):
            for model in models:
                one = [1] if model == "detector" else batches
                try:
                    reports.append(measure(model, one, options, device=device, folder=folder))
                except MienError as error:
                    problems.append(f"{model}: {error}")
                report = write(reports, problems, folder)
                if report.conditions is not None and report.conditions.interrupted:
                    break
    except KeyboardInterrupt:
        problems.append("the run was interrupted before the first round of a model was complete")
    measured = {row.measurement.description.model for report in reports for row in report.rows}
    problems += [f"{model} was not measured" for model in models if model not in measured]
    return write(reports, problems, folder)


def write(reports: Sequence[BenchReport], problems: Sequence[str], folder: Path) -> BenchReport:
    """Join the reports of several models, and what prevented others, into one; write it as gpu.json and gpu.html."""
    last = reports[-1] if reports else BenchReport(describe_environment(), ())
    warnings = dict.fromkeys([*problems, *(text for report in reports for text in report.warnings)])
    report = replace(
        last,
        rows=tuple(row for one in reports for row in one.rows),
        warnings=tuple(warnings),
        failed=tuple(failure for one in reports for failure in one.failed),
    )
    write_report(folder / "gpu.json", report.to_json())
    write_report(folder / "gpu.html", to_html(report))
    return report


def table(report: BenchReport, peaks: Peaks) -> str:
    """Show each way's latency at its smallest batch, and at its largest the throughput, and its share of the peaks."""
    ways: dict[tuple[str, str, str], list[Row]] = {}
    for row in report.rows:
        about = row.measurement.description
        ways.setdefault(
            (about.model, about.provider, "" if about.precision is None else about.precision.value), []
        ).append(row)
    workloads = {model: shipped_workload(model) for model, _, _ in ways}
    cells = []
    for way, rows in ways.items():
        small, large = (pick(rows, key=lambda row: row.measurement.description.batch) for pick in (min, max))
        cells.append(
            [
                *way,
                *(f"{small.measurement.description.batch}", f"{small.measurement.p50_ms:.3f}", ratio_of(small)),
                *(f"{large.measurement.description.batch}", f"{large.measurement.images_per_second:.0f}"),
                *(ratio_of(large), *shares(large, workloads[way[0]], peaks)),
                "–" if None in (parities := [row.parity for row in rows]) else "ok" if all(parities) else "NO",
            ]
        )
    return aligned([*HEAD], cells, words=3)


def shares(row: Row, work: Workload, peaks: Peaks) -> list[str]:
    """Show operations and bytes per second, each with its share of the peak, or a dash where no peak was measured."""
    about = row.measurement.description
    precision = Precision.FP32 if about.precision is None else about.precision
    operations = row.measurement.images_per_second * work.operations
    moved = row.measurement.images_per_second * work.bytes_per_image(about.batch, precision)
    peak = peaks.operations_per_s.get(precision)
    return [
        *(f"{operations / 1e9:.0f}", "–" if peak is None else f"{operations / peak:.1%}"),
        *(f"{moved / 1e9:.1f}", f"{moved / peaks.bytes_per_s:.1%}"),
    ]


def shipped_workload(model: str) -> Workload:
    """Count the work of a shipped model for one image."""
    checkpoint = load_checkpoint(CHECKPOINTS / f"{model}.pt")
    return workload_of(build_network(checkpoint), checkpoint.spec)


def ratio_of(row: Row) -> str:
    """Show the ratio to eager float32, or a dash."""
    return "–" if row.ratio is None else f"{row.ratio.value:.2f}×"


def failure(one: FailedCandidate) -> str:
    """Show why a way could not be measured."""
    return f"failed: {one.description}: {one.failure.value} ({one.reason})"


def verdicts(report: BenchReport) -> dict[str, bool]:
    """Return what must hold on a GPU, and whether it does."""
    rows = {row.name: row for row in report.rows}
    graph = rows.get("landmarks/cuda-graph/fp32/1")
    half = [row for row in report.rows if row.measurement.description.precision is Precision.FP16]
    return {
        f"landmarks, batch 1, captured graph: at least {GOAL:g} times eager": graph is not None
        and graph.ratio is not None
        and graph.ratio.value >= GOAL,
        "parity of every fp16 way of every model": all(row.parity for row in half)
        and {row.measurement.description.model for row in half} == set(MODELS),
        "every model was measured, and no way failed": not report.failed
        and {row.measurement.description.model for row in report.rows} == set(MODELS),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, write the report after each model, and print the table; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to write to")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--minutes", type=float, default=5.0, help="time limit")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS, metavar="NAME")
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8, 64], metavar="N", help="the detector's is 1")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--calls", type=int, default=10, help="calls per round")
    given = parser.parse_args(arguments)
    device, folder = Provider(given.device), given.out
    if device is Provider.CUDA and not torch.cuda.is_available():
        parser.error("PyTorch finds no CUDA device; --device cpu tries the study without one")
    folder.mkdir(parents=True, exist_ok=True)
    options = BenchOptions(
        rounds=given.rounds,
        calls_per_round=given.calls,
        processes=1,
        baselines=BASELINES[device],
        timeout_s=HUNG_S,
    )
    torch.set_num_threads(options.threads)
    peaks = measure_peaks(device.value)
    report = measure_all(given.models, given.batches, options, device=device, folder=folder, minutes=given.minutes)
    shown = "\n".join([table(report, peaks), "", str(peaks), *report.warnings, *map(failure, report.failed)])
    write_report(folder / "gpu.md", shown + "\n")
    print(shown)
    if device is Provider.CPU:
        print("Left out on the CPU: eager fp16, torch.compile, captured graphs, and what must hold on a GPU.")
        return 0
    held = verdicts(report)
    print(*(f"{'holds' if holds else 'DOES NOT HOLD'}: {claim}" for claim, holds in held.items()), sep="\n")
    return 0 if all(held.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
