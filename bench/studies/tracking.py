"""Quality of tracking on made clips: ``python -m mien.bench.studies.tracking FOLDER``.

FOLDER holds labelled photographs, as for ``mien train``; clips are made of them (see `motion_clips`), the same ones for
the same seeds. mien's pipeline follows them, and beside it ByteTrack with the same detector on every frame. Needs
``pip install motmetrics 'supervision<0.31'``, which are no dependencies of mien; later versions of supervision have no
ByteTrack any more.

A face counts as found where a box overlaps it by an IoU of 0.4; less than the usual 0.5, as boxes of small faces
differ by a pixel. Faces of which less than half is in sight are neither wanted nor wrong. Landmarks are compared after
the One-Euro filter, as in ``mien webcam``: the jitter is the mean step of their error from frame to frame in % of the
outer eye distance, the lag how far the face's centre trails behind. The times are those of one process on the machine
as it is.
"""

from __future__ import annotations

import argparse
import importlib
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ...runtime.errors import InputError
from ...runtime.faces.detector import LIVE_MAX_SIDE, Detector
from ...runtime.models.runner import Provider
from ...runtime.pipeline.pipeline import Pipeline
from ...runtime.tracking.smoothing import OneEuro
from ...runtime.values import FloatArray, Frame, Image, percentile
from ...runtime.vision.geometry import intersection_over_union
from .motion_clips import FPS, Truth, frontal_faces, pick_heads, render
from .motion_scripts import CLIPS, people_in

IOU = 0.4
"""Minimum overlap for a box to match a face."""
IN_SIGHT = 0.5
"""Minimum visible share for a face to count."""
KEPT_FRAMES = 60
"""Frames, at 30 per second, for which ByteTrack keeps a lost track: two seconds, as mien does."""
MEASURES = ("mota", "idf1", "num_switches", "num_fragmentations")


@dataclass(frozen=True, slots=True)
class Tracked:
    """Output of a tracker for a frame: ids (n,), boxes (n, 4), landmarks (n, 68, 2) or NaN."""

    ids: FloatArray
    boxes: FloatArray
    points: FloatArray


@dataclass(slots=True)
class Run:
    """Output of a tracker for a clip."""

    frames: list[Tracked] = field(default_factory=list)
    taken_ms: list[float] = field(default_factory=list)
    detector_runs: int = 0


class CountingDetector:
    """Detector that counts its calls."""

    def __init__(self, detector: Detector) -> None:
        self._detector = detector
        self.usual_score = detector.usual_score
        self.max_side = detector.max_side
        self.min_score = detector.min_score
        self.calls = 0

    def __call__(
        self, image: Image, *, min_score: float | None = None, small_only: bool = False
    ) -> tuple[FloatArray, FloatArray]:
        """See `Detector`."""
        self.calls += 1
        return self._detector(image, min_score=min_score, small_only=small_only)

    def close(self) -> None:
        """See `Detector`."""
        self._detector.close()


def follow_with_mien(pipeline: Pipeline, frames: Sequence[Frame]) -> Run:
    """Track the faces of a clip as ``mien webcam`` does."""
    detector = CountingDetector(pipeline.detector)
    run = Run()
    tracked = Pipeline(detector, pipeline.landmarks).track(frames, smoothing=OneEuro())
    for taken_ms, (_, faces) in _timed(tracked):
        run.frames.append(Tracked(faces.track_id, faces.boxes, faces.landmarks[..., :2]))
        run.taken_ms.append(taken_ms)
    run.detector_runs = detector.calls
    return run


def follow_with_bytetrack(detector: Detector, frames: Sequence[Frame]) -> Run:
    """Detect the faces in every frame, and track them with ByteTrack (Zhang et al., ECCV 2022)."""
    supervision = importlib.import_module("supervision")
    tracker = supervision.ByteTrack(lost_track_buffer=KEPT_FRAMES, frame_rate=FPS)

    def track() -> Iterator[Any]:
        for frame in frames:
            boxes, scores = detector(frame.pixels)
            classes = np.zeros(len(boxes), int)
            yield tracker.update_with_detections(supervision.Detections(boxes, confidence=scores, class_id=classes))

    run = Run(detector_runs=len(frames))
    for taken_ms, found in _timed(track()):
        ids = np.zeros(0) if found.tracker_id is None else found.tracker_id
        run.frames.append(Tracked(ids, found.xyxy, np.full((len(ids), 68, 2), np.nan)))
        run.taken_ms.append(taken_ms)
    return run


def _timed(steps: Iterator[Any]) -> Iterator[tuple[float, Any]]:
    while True:
        start = time.perf_counter_ns()
        value = next(steps, None)
        if value is None:
            return
        yield (time.perf_counter_ns() - start) / 1e6, value


def accumulate(frames: Sequence[Tracked], truth: Sequence[Truth]) -> Any:
    """Match what was tracked to the truth, frame by frame.

    Returns:
        The accumulator of motmetrics. A box that fits a hidden face better than any other is left out.
    """
    matching = importlib.import_module("motmetrics").MOTAccumulator(auto_id=True)
    for found, true in zip(frames, truth, strict=True):
        overlap = intersection_over_union(found.boxes, true.boxes)
        wanted = true.visible >= IN_SIGHT
        best = overlap.argmax(axis=1) if len(true.boxes) else np.zeros(0, int)
        counts = wanted[best] | (overlap.max(axis=1, initial=0) < IOU)
        distance = 1 - overlap[counts][:, wanted].T
        matching.update(true.persons[wanted], found.ids[counts], np.where(distance > 1 - IOU, np.nan, distance))
    return matching


def jitter_and_lag(frames: Sequence[Tracked], truth: Sequence[Truth]) -> tuple[FloatArray, FloatArray]:
    """Compare landmarks with those of the photographs.

    Returns:
        Steps (k,) of the error from one frame to the next, in % of the outer eye distance; and rows (k, 2) of a
        face's speed, its square over the eye distance squared, and how far it trails along it, likewise, whose sums
        give the lag in s.
    """
    steps, trails = [], []
    last: dict[tuple[float, float], tuple[FloatArray, FloatArray]] = {}
    for found, true in zip(frames, truth, strict=True):
        now = {}
        overlap = intersection_over_union(found.boxes, true.boxes)
        for row, column in np.argwhere((overlap >= IOU) & (true.visible >= IN_SIGHT)).tolist():
            if np.isnan(found.points[row]).any():
                continue
            points = true.points[column]
            error, eyes = found.points[row] - points, np.linalg.norm(points[45] - points[36])
            pair = (float(found.ids[row]), float(true.persons[column]))
            now[pair] = (error, points)
            if pair in last:
                change = error - last[pair][0]
                steps.append(100 * np.linalg.norm(change, axis=1).mean() / eyes)
                moved = (points - last[pair][1]).mean(axis=0) * FPS / eyes
                trails.append([moved @ moved, -moved @ error.mean(axis=0) / eyes])
        last = now
    return np.array(steps), np.array(trails).reshape(-1, 2)


@dataclass(frozen=True, slots=True)
class Compared:
    """A tracker's output for a clip, compared with the truth; see `accumulate` and `jitter_and_lag`."""

    run: Run
    matching: Any
    steps: FloatArray
    trails: FloatArray


def compare(run: Run, truth: Sequence[Truth]) -> Compared:
    """Compare a tracker's output for a clip with the truth."""
    return Compared(run, accumulate(run.frames, truth), *jitter_and_lag(run.frames, truth))


def figures_of(clips: Sequence[Compared]) -> dict[str, Any]:
    """Compute the figures of a tracker over clips; those of landmarks are None without any."""
    motmetrics = importlib.import_module("motmetrics")
    matchings = [clip.matching for clip in clips]
    table = motmetrics.metrics.create().compute_many(matchings, metrics=MEASURES, generate_overall=True)
    mota, idf1, switches, fragments = table.loc["OVERALL"].tolist()
    steps = np.concatenate([clip.steps for clip in clips])
    trails = np.concatenate([clip.trails for clip in clips]).sum(axis=0)
    taken_ms = np.concatenate([clip.run.taken_ms for clip in clips])
    return {
        "mota": round(100 * mota, 1),
        "idf1": round(100 * idf1, 1),
        "switches": int(switches),
        "fragments": int(fragments),
        "runs_per_100": round(100 * sum(clip.run.detector_runs for clip in clips) / len(taken_ms), 1),
        "jitter": round(float(steps.mean()), 2) if len(steps) else None,
        "lag_ms": round(1000 * float(trails[1] / trails[0]), 1) if trails[0] > 0 else None,
        **{f"p{p}_ms": round(percentile(taken_ms, p), 1) for p in (50, 95, 99)},
    }


def measure(folder: Path, kinds: Sequence[str], seeds: int, pipeline: Pipeline) -> dict[str, dict[str, Any]]:
    """Make the clips and track them.

    Returns:
        For each kind of clip, and for all: the figures of each tracker.
    """
    table = frontal_faces(folder)
    compared: dict[str, dict[str, list[Compared]]] = {kind: {"mien": [], "bytetrack": []} for kind in (*kinds, "all")}
    for kind in kinds:
        for seed in range(seeds):
            rng = np.random.default_rng(seed)
            scenes = CLIPS[kind](rng)
            frames, truth = zip(*render(scenes, pick_heads(table, rng, people_in(scenes)), seed=seed), strict=True)
            runs = {"mien": follow_with_mien(pipeline, frames)}
            runs["bytetrack"] = follow_with_bytetrack(pipeline.detector, frames)
            for name, run in runs.items():
                clip = compare(run, truth)
                compared[kind][name].append(clip)
                compared["all"][name].append(clip)
    return {kind: {name: figures_of(clips) for name, clips in both.items()} for kind, both in compared.items()}


def as_table(rows: dict[str, dict[str, Any]]) -> str:
    """Render the figures as Markdown."""
    names = list(next(iter(next(iter(rows.values())).values())))
    lines = [f"| clip | tracker | {' | '.join(names)} |", f"|---|---|{'--:|' * len(names)}"]
    for kind, both in rows.items():
        for tracker, row in both.items():
            figures = ("–" if row[n] is None else str(row[n]) for n in names)
            lines.append(f"| {kind} | {tracker} | {' | '.join(figures)} |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--clips", nargs="+", choices=CLIPS, default=list(CLIPS), metavar="KIND", help=", ".join(CLIPS))
    parser.add_argument("--seeds", type=int, default=3, help="clips of each kind")
    parser.add_argument("--json", type=Path, help="write the figures to a file")
    options = parser.parse_args(arguments)
    for package in ("motmetrics", "supervision"):
        try:
            importlib.import_module(package)
        except ImportError:
            raise SystemExit(f"{package} is missing: pip install motmetrics 'supervision<0.31'") from None
    with Pipeline.load(attributes=False, provider=Provider.CPU, threads=1, max_side=LIVE_MAX_SIDE) as pipeline:
        try:
            rows = measure(options.folder, options.clips, options.seeds, pipeline)
        except InputError as error:
            raise SystemExit(str(error)) from None
    print(as_table(rows))
    if options.json is not None:
        options.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
