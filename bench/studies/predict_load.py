"""Measures the efficiency of ``mien predict`` on a folder: ``python -m mien.bench.studies.predict_load FOLDER``.

The reference is bare `session.run`: the network calls of the run, recorded once and replayed with the same number of
threads, without reading, decoding, scaling, cropping or writing rows. First, several arrangements of these calls are
tried (several threads per operator, or one call per thread, or crops of all pictures in larger batches). Then predict
takes turns with the fastest. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ...runtime.backends.ort.onnx_session import open_session
from ...runtime.batch.parallel import usable_cores
from ...runtime.batch.predict import Predictor
from ...runtime.errors import InputError
from ...runtime.faces.detector import Detector, OwnDetector
from ...runtime.models.input_shapes import INPUT
from ...runtime.models.runner import Provider, Runner
from ...runtime.models.shipped import shipped_model
from ...runtime.models.spec import ModelSpec, Precision
from ...runtime.pictures.folders import pictures_in
from ...runtime.pictures.images import read_image
from ...runtime.pipeline.pipeline import Pipeline
from ...runtime.values import FloatArray, Image
from ..timing.environment import describe_environment, environment_warnings
from ..timing.speedup import MIN_ROUNDS, median_ratio

MODELS = ("detector", "landmarks", "age_gender")


@dataclass(frozen=True, slots=True)
class Call:
    """Recorded network call, with its batch (b, h, w, 3) uint8 BGR."""

    model: str
    batch: Image


@dataclass(frozen=True, slots=True)
class Arrangement:
    """Way of replaying recorded calls.

    Attributes:
        workers: Threads that make calls.
        threads: Threads per operator.
        crops: Crops per call, taken from all pictures; None: the calls as recorded.
        pictures: Pictures of the same shape per call of the detector.
    """

    workers: int
    threads: int
    crops: int | None = None
    pictures: int = 1


@dataclass(frozen=True, slots=True)
class Timing:
    """Wall and CPU time of a pass over all pictures, in ns."""

    wall_ns: int
    cpu_ns: int


class RecordingRunner:
    """Runner that records its inputs."""

    def __init__(self, runner: Runner, name: str, calls: list[Call]) -> None:
        self._runner = runner
        self._name = name
        self._calls = calls

    @property
    def spec(self) -> ModelSpec:
        """See `Runner`."""
        return self._runner.spec

    @property
    def provider(self) -> str:
        """See `Runner`."""
        return self._runner.provider

    @property
    def precision(self) -> Precision:
        """See `Runner`."""
        return self._runner.precision

    def __call__(self, batch: Image) -> dict[str, FloatArray]:
        """Run a batch (b, h, w, 3) uint8 BGR; see `Runner`."""
        self._calls.append(Call(self._name, batch))
        return self._runner(batch)

    def close(self) -> None:
        """Close the wrapped runner."""
        self._runner.close()

    def __enter__(self) -> RecordingRunner:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def record_calls(paths: Sequence[Path]) -> list[list[Call]]:
    """Run the shipped models on pictures one by one; return the network calls for each, in order."""
    recorded = []
    calls: list[Call] = []
    with Pipeline.load(provider=Provider.CPU, threads=1) as pipeline:
        assert isinstance(pipeline.detector, OwnDetector) and pipeline.age_gender is not None
        detector: Detector = OwnDetector(RecordingRunner(pipeline.detector.runner, "detector", calls))
        points = RecordingRunner(pipeline.landmarks, "landmarks", calls)
        recording = Pipeline(detector, points, RecordingRunner(pipeline.age_gender, "age_gender", calls))
        for path in paths:
            recording(read_image(path))
            recorded.append(list(calls))
            calls.clear()
    return recorded


def arrangements(threads: int) -> list[Arrangement]:
    """List the arrangements to try with a total number of threads."""
    many = {"workers": threads, "threads": 1}
    found = [
        Arrangement(**many),
        Arrangement(**many, crops=8),
        Arrangement(**many, crops=32),
        Arrangement(**many, crops=8, pictures=4),
    ]
    return found if threads == 1 else [*found, Arrangement(workers=1, threads=threads)]


def arrange(recorded: Sequence[Sequence[Call]], arrangement: Arrangement) -> list[list[Call]]:
    """Regroup the recorded images into the calls of an arrangement: lists of calls, each run by one thread."""
    if arrangement.crops is None:
        return [list(calls) for calls in recorded]
    images: dict[tuple[str, tuple[int, ...]], list[Image]] = {}
    for call in (c for calls in recorded for c in calls):
        images.setdefault((call.model, call.batch.shape[1:]), []).append(call.batch)
    arranged = []
    for (model, _), batches in images.items():
        together = np.concatenate(batches)
        size = arrangement.pictures if model == "detector" else arrangement.crops
        arranged += [[Call(model, together[i : i + size])] for i in range(0, len(together), size)]
    return arranged


class Bare:
    """ONNX Runtime sessions with the calls to make. Close it, or use it as a context manager."""

    def __init__(self, recorded: Sequence[Sequence[Call]], arrangement: Arrangement) -> None:
        self._sessions = {
            name: open_session(shipped_model(name), provider=Provider.CPU, threads=arrangement.threads).session
            for name in MODELS
        }
        self._calls = arrange(recorded, arrangement)
        self._pool = ThreadPoolExecutor(arrangement.workers)

    def __call__(self) -> None:
        """Make all calls."""
        for _ in self._pool.map(self._run, self._calls):
            pass

    def _run(self, calls: Sequence[Call]) -> None:
        for call in calls:
            self._sessions[call.model].run(None, {INPUT: call.batch})

    def close(self) -> None:
        """Stop the threads."""
        self._pool.shutdown()

    def __enter__(self) -> Bare:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def predict_once(pipeline: Pipeline, paths: Sequence[Path], rows: Path, *, workers: int) -> None:
    """Run `mien predict` on opened models, from picture files to a file of rows."""
    with Predictor(pipeline, json_target=str(rows), workers=workers) as predictor:
        predictor.run(paths)


def timed(work: Callable[[], None]) -> Timing:
    """Time one pass."""
    cpu, wall = time.process_time_ns(), time.perf_counter_ns()
    work()
    return Timing(time.perf_counter_ns() - wall, time.process_time_ns() - cpu)


def fastest_arrangement(
    recorded: Sequence[Sequence[Call]], *, threads: int, rounds: int
) -> tuple[Arrangement, list[dict[str, Any]]]:
    """Try all arrangements in turns; return the one with the lowest median time, and a row for each."""
    tried = arrangements(threads)
    bare = [Bare(recorded, a) for a in tried]
    try:
        passes = [[timed(b) for b in bare] for _ in range(rounds + 1)][1:]  # the first one warms up
    finally:
        for b in bare:
            b.close()
    seconds = [statistics.median(p[i].wall_ns for p in passes) / 1e9 for i in range(len(tried))]
    rows = [asdict(a) | {"images_per_second": round(len(recorded) / s, 2)} for a, s in zip(tried, seconds, strict=True)]
    return tried[min(range(len(tried)), key=lambda i: seconds[i])], rows


def measure(paths: Sequence[Path], *, threads: int, rounds: int) -> dict[str, Any]:
    """Measure bare calls, predict, and predict one picture at a time (threads within the models), taking turns."""
    environment = describe_environment()
    recorded = record_calls(paths)
    best, tried = fastest_arrangement(recorded, threads=threads, rounds=3)
    with (
        tempfile.TemporaryDirectory() as folder,
        Bare(recorded, best) as bare,
        Pipeline.load(provider=Provider.CPU, threads=1) as shared,
        Pipeline.load(provider=Provider.CPU, threads=threads) as alone,
    ):
        rows = Path(folder) / "rows.jsonl"
        sides: dict[str, Callable[[], None]] = {
            "bare": bare,
            "predict": partial(predict_once, shared, paths, rows, workers=threads),
            "one_at_a_time": partial(predict_once, alone, paths, rows, workers=1),
        }
        for side in sides.values():
            side()
        taken = [{name: timed(side) for name, side in sides.items()} for _ in range(rounds)]
    return {
        "pictures": len(paths),
        "faces": sum(len(c.batch) for calls in recorded for c in calls if c.model == "age_gender"),
        "threads": threads,
        "arrangements": tried,
        "best": asdict(best),
        **{name: _summary([t[name] for t in taken], len(paths)) for name in sides},
        "predict_of_bare": _ratio(taken, "bare", "predict"),
        "predict_of_bare_cpu": _ratio(taken, "bare", "predict", cpu=True),
        "predict_of_one_at_a_time": _ratio(taken, "one_at_a_time", "predict"),
        "environment": asdict(environment),
        "warnings": environment_warnings(environment),
    }


def _summary(passes: Sequence[Timing], pictures: int) -> dict[str, Any]:
    wall = [p.wall_ns for p in passes]
    return {
        "images_per_second": round(pictures / statistics.median(wall) * 1e9, 2),
        "cpu_ms_per_image": round(statistics.median(p.cpu_ns for p in passes) / pictures / 1e6, 3),
        "cores": round(statistics.median(p.cpu_ns / p.wall_ns for p in passes), 2),
        "wall_ns": wall,
    }


def _ratio(taken: Sequence[dict[str, Timing]], baseline: str, candidate: str, *, cpu: bool = False) -> dict[str, Any]:
    """Return the candidate's throughput relative to the baseline; with `cpu`, per CPU time."""
    times = [[t[name].cpu_ns if cpu else t[name].wall_ns for t in taken] for name in (baseline, candidate)]
    ratio = median_ratio([np.log(times[0]) - np.log(times[1])])
    return {k: round(v, 4) for k, v in asdict(ratio).items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print JSON."""
    parser = argparse.ArgumentParser(prog="python -m mien.bench.studies.predict_load", description=__doc__)
    parser.add_argument("folder", type=Path, help="pictures")
    parser.add_argument(
        "--threads", type=int, default=usable_cores(), help="total number of threads; default: all cores"
    )
    parser.add_argument(
        "--pictures", type=int, default=64, help="number of pictures to take from the folder, evenly spread"
    )
    parser.add_argument("--rounds", type=int, default=9, help=f"passes of each, taking turns; at least {MIN_ROUNDS}")
    options = parser.parse_args(arguments)
    if options.rounds < MIN_ROUNDS:
        parser.error(f"expected at least {MIN_ROUNDS} rounds")
    try:
        paths = pictures_in(options.folder)
    except InputError as error:
        parser.error(str(error))
    spread = np.unique(np.linspace(0, len(paths) - 1, min(options.pictures, len(paths))).astype(int))
    print(json.dumps(measure([paths[i] for i in spread], threads=options.threads, rounds=options.rounds), indent=2))


if __name__ == "__main__":
    main()
