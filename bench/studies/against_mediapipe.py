"""Compares the latency of the tracking pipeline with MediaPipe FaceMesh.

    python -m mien.bench.studies.against_mediapipe CLIP.mp4

Needs ``pip install mediapipe`` (0.10.21 has FaceMesh), which is not a dependency of mien. The two take turns, one pass
each, over the same frames, scaled to 1280 × 720 beforehand; reading, scaling, colour conversion and drawing are not
timed. Ratios are medians over the pairs of passes, so that other load, which affects both, matters little.
``--side-by-side 3`` repeats the middle of the picture three times, for clips with one face in the middle.
"""

from __future__ import annotations

import argparse
import importlib
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ...runtime.capture.open_capture import open_capture
from ...runtime.errors import InputError
from ...runtime.faces.detector import LIVE_MAX_SIDE
from ...runtime.faces.locator import Locator
from ...runtime.models.runner import DEFAULT_THREADS, Provider
from ...runtime.pipeline.pipeline import Pipeline
from ...runtime.stage_timer import StageTimer
from ...runtime.tracking.detection_schedule import DetectionSchedule
from ...runtime.tracking.tracker import Tracker
from ...runtime.values import Frame, Image, percentile, row_percentiles
from ..timing.speedup import median_ratio

SIZE = (1280, 720)
PERCENTS = (50, 90, 99)


def read_frames(clip: Path, side_by_side: int) -> list[Image]:
    """Read all frames (720, 1280, 3) BGR of a clip, repeating the middle of each `side_by_side` times.

    Raises:
        InputError: The clip cannot be read.
    """
    margin, width = SIZE[0] * (side_by_side - 1) // (2 * side_by_side), SIZE[0] // side_by_side
    with open_capture(clip) as capture:
        pictures = (cv2.resize(frame.pixels, SIZE, interpolation=cv2.INTER_CUBIC) for frame in capture)
        middles = (np.asarray(picture, np.uint8)[:, margin : margin + width] for picture in pictures)
        return [np.tile(middle, (1, side_by_side, 1)) for middle in middles]


def mien_steps(threads: int) -> Callable[[Image], int]:
    """Return a function that tracks the faces of the next frame and returns their number."""
    pipeline = Pipeline.load(attributes=False, provider=Provider.CPU, threads=threads, max_side=LIVE_MAX_SIDE)
    schedule = DetectionSchedule(pipeline.detector, every=15, timer=StageTimer())
    tracker = Tracker(schedule, Locator(pipeline.landmarks))
    return lambda pixels: len(tracker.update(Frame(pixels, time.monotonic_ns(), 0)))


def mediapipe_steps(max_faces: int) -> Callable[[Image], int]:
    """Return the same function for MediaPipe FaceMesh in video mode."""
    try:
        mediapipe: Any = importlib.import_module("mediapipe")
    except ModuleNotFoundError:
        raise SystemExit("mediapipe is not installed; run: pip install mediapipe==0.10.21") from None
    mesh = mediapipe.solutions.face_mesh.FaceMesh(static_image_mode=False, max_num_faces=max_faces)
    return lambda pixels: len(mesh.process(pixels).multi_face_landmarks or [])


def time_pass(step: Callable[[Image], int], frames: Sequence[Image]) -> tuple[list[float], list[int]]:
    """Time each frame; return the times in ms and the numbers of faces."""
    taken, faces = [], []
    for pixels in frames:
        start = time.perf_counter_ns()
        count = step(pixels)
        taken.append((time.perf_counter_ns() - start) / 1e6)
        faces.append(count)
    return taken, faces


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print one JSON row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clip", type=Path)
    parser.add_argument("--rounds", type=int, default=5, help="passes of each over the clip, taking turns")
    parser.add_argument(
        "--threads", type=int, default=DEFAULT_THREADS, help="threads per operator in mien; 0: all cores"
    )
    parser.add_argument(
        "--side-by-side", type=int, default=1, metavar="N", help="repeat the middle of the picture N times"
    )
    parser.add_argument("--max-faces", type=int, default=3, help="faces that MediaPipe looks for; mien has no limit")
    options = parser.parse_args(arguments)
    try:
        frames = read_frames(options.clip, options.side_by_side)
    except InputError as error:
        parser.error(str(error))
    rgb = [np.ascontiguousarray(f[..., ::-1]) for f in frames]
    ours, theirs = mien_steps(options.threads), mediapipe_steps(options.max_faces)
    taken: dict[str, list[list[float]]] = {"mien": [], "mediapipe": []}
    faces: dict[str, list[int]] = {"mien": [], "mediapipe": []}
    for number in range(options.rounds + 1):
        for name, step, pictures in (("mien", ours, frames), ("mediapipe", theirs, rgb)):
            times, counts = time_pass(step, pictures[:: -1 if number % 2 else 1])  # back and forth, without a jump
            if number:  # the first pass warms up
                taken[name].append(times)
                faces[name] += counts
    row: dict[str, Any] = {
        name: {
            **{f"p{p}_ms": round(percentile(np.concatenate(passes), p), 3) for p in PERCENTS},
            "n": sum(map(len, passes)),
            "faces_mean": round(float(np.mean(faces[name])), 2),
        }
        for name, passes in taken.items()
    }
    for p in PERCENTS:
        mien, mediapipe = (np.log(row_percentiles(np.array(passes), p)) for passes in taken.values())
        row[f"p{p}_ratio"] = round(median_ratio([mien - mediapipe]).value, 3)
    print(json.dumps(row, indent=2))


if __name__ == "__main__":
    main()
