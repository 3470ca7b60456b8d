"""Material that the tests draw themselves: a face is a few ellipses with known landmarks."""

from __future__ import annotations

import atexit
import csv
import functools
import inspect
import math
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
import pytest
import typer.testing

from mien.bench.timing import interleave
from mien.tests.processes import MARKER, started_by_tests

signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background, which every child would inherit
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # so does nohup: it is still ignored here, but not by children
    signal.signal(signal.SIGHUP, lambda *_: None)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # tests run in several processes, and start more, on few cores
typer.testing._get_command = functools.cache(typer.testing._get_command)  # else every call builds all commands again
if "mix_stderr" in inspect.signature(typer.testing.CliRunner).parameters:  # Click 8.1, which the oldest Typer needs
    typer.testing.CliRunner.__init__ = functools.partialmethod(typer.testing.CliRunner.__init__, mix_stderr=False)
    typer.testing.Result.output = property(lambda result: result.stdout + result.stderr)
os.environ[MARKER] = str(os.getpid())
os.environ["MIEN_CACHE"] = tempfile.mkdtemp(prefix="mien-tests-")  # removed when the tests end
atexit.register(shutil.rmtree, os.environ["MIEN_CACHE"], ignore_errors=True)
LINGER_S = 15.0
"""Time for processes to end after the last test of a file; a cluster of Ray needs several seconds."""
LONGEST = [
    "test_notebook.py",
    "test_cli.py",
    "export/convert/test_bundle.py",
    "test_streams_and_signals.py",
    "runtime/batch/test_ray.py",
    "bench/suite/test_session.py",
    "bench/suite/test_baselines.py",
    "export/convert/test_to_onnx.py",
    "export/convert/test_int8.py",
    "runtime/batch/test_predict.py",
    "runtime/live/test_page_server.py",
    "export/training/test_training.py",
    "test_fuzz.py",
    "test_house.py",
    "test_deploy.py",
]
"""Files that take a quarter of a minute and more. They begin first: begun last, one would keep a core busy alone."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files of `LONGEST` first, in its order."""
    places = {Path(__file__).parent / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


@pytest.fixture(autouse=True, scope="module")
def no_process_is_left() -> Iterator[None]:
    """Kill what the tests of a file left running, and fail."""
    before = set(started_by_tests())
    yield
    deadline = time.monotonic() + LINGER_S
    while (left := {p: c for p, c in started_by_tests().items() if p not in before}) and time.monotonic() < deadline:
        time.sleep(0.05)
    for pid in left:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert not left, f"left running: {left}"


@pytest.fixture(autouse=True, scope="module")
def short_warm_ups() -> Iterator[None]:
    """End warm-ups after their first windows: beside other tests, latencies never settle."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(interleave, "SETTLED", math.inf)
        yield


def mean_shape() -> np.ndarray:
    """68 points of a plain face in a unit square, in the ibug68 order."""
    jaw_angle = np.linspace(np.pi, 0, 17)
    jaw = np.stack([0.5 + 0.4 * np.cos(jaw_angle), 0.35 + 0.55 * np.sin(jaw_angle)], axis=1)
    brow = np.stack([np.linspace(0.18, 0.42, 5), 0.22 - 0.04 * np.sin(np.linspace(0, np.pi, 5))], axis=1)
    nose = np.stack([np.full(4, 0.5), np.linspace(0.34, 0.52, 4)], axis=1)
    nostrils = np.stack([np.linspace(0.42, 0.58, 5), 0.57 + 0.02 * np.sin(np.linspace(0, np.pi, 5))], axis=1)
    around = np.array([np.pi, 4 * np.pi / 3, 5 * np.pi / 3, 0, np.pi / 3, 2 * np.pi / 3])
    eye = np.stack([0.07 * np.cos(around), 0.035 * np.sin(around)], axis=1)
    lips = np.pi + np.arange(12) * np.pi / 6
    outer = np.stack([0.5 + 0.14 * np.cos(lips), 0.72 + 0.07 * np.sin(lips)], axis=1)
    inside = np.pi + np.arange(8) * np.pi / 4
    inner = np.stack([0.5 + 0.1 * np.cos(inside), 0.72 + 0.03 * np.sin(inside)], axis=1)
    mirrored_brow = np.stack([1 - brow[::-1, 0], brow[::-1, 1]], axis=1)
    return np.concatenate(
        [jaw, brow, mirrored_brow, nose, nostrils, eye + [0.32, 0.35], eye + [0.68, 0.35], outer, inner]
    )


def draw_face(canvas: np.ndarray, points: np.ndarray) -> None:
    """Draw a face with these landmarks (68, 2) px onto `canvas`."""
    size = float(np.ptp(points[:, 0]))
    centre = (points[0] + points[16]) / 2 + [0, 0.15 * size]
    cv2.ellipse(
        canvas, (int(centre[0]), int(centre[1])), (int(0.5 * size), int(0.7 * size)), 0, 0, 360, (150, 180, 225), -1
    )
    for first, last, colour in ((36, 41, (60, 40, 30)), (42, 47, (60, 40, 30)), (48, 59, (90, 80, 190))):
        cv2.fillPoly(canvas, [points[first : last + 1].round().astype(np.int32)], colour)
    for first, last in ((17, 21), (22, 26), (27, 30), (31, 35)):
        cv2.polylines(canvas, [points[first : last + 1].round().astype(np.int32)], False, (50, 60, 80), 2)


@pytest.fixture
def in_threads() -> Callable[..., None]:
    """Runs work(0), work(1), … each in a thread of its own, at once; what one of them raises is raised."""

    def run(work: Callable[[int], object], count: int = 4) -> None:
        with ThreadPoolExecutor(count) as pool:
            list(pool.map(work, range(count)))

    return run


@pytest.fixture(scope="session")
def drawn_landmarks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in the landmark format: 24 drawn faces of 12 people, depth for all but one."""
    folder = tmp_path_factory.mktemp("drawn") / "drawn"
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    labels, depths = [], []
    for i in range(24):
        canvas = np.asarray(rng.integers(60, 200, (160, 160, 3)), dtype=np.uint8)
        canvas = cv2.GaussianBlur(canvas, (0, 0), 4)
        points = mean_shape() * rng.uniform(60, 90) + rng.uniform(20, 50, 2)
        draw_face(canvas, points)
        name = f"face_{i:02d}.png"
        cv2.imwrite(str(folder / "images" / name), canvas)
        labels.append([name, ["drawn", "sketched"][i % 2], f"person{i // 2}", 160, 160, *points.ravel().round(3)])
        if i:
            z = 20 * (np.abs(mean_shape()[:, 0] - 0.5) - 0.2)
            depths.append([name, 0.01, *np.concatenate([points, z[:, None]], axis=1).ravel().round(3)])
    axes = [f"{axis}{i}" for i in range(68) for axis in "xy"]
    write_csv(folder / "landmarks.csv", ["file", "source", "subject", "width", "height", *axes], labels)
    axes3 = [f"{axis}{i}" for i in range(68) for axis in "xyz"]
    write_csv(folder / "landmarks3d_pseudo.csv", ["file", "nme_inner51", *axes3], depths)
    return folder


@pytest.fixture
def landmark_folder(drawn_landmarks: Path, tmp_path: Path) -> Path:
    """A copy of `drawn_landmarks` that a test may change."""
    return shutil.copytree(drawn_landmarks, tmp_path / drawn_landmarks.name)


@pytest.fixture(scope="session")
def drawn_ages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in the age and gender format: 40 drawn faces; the old are pale, women have a red background."""
    folder = tmp_path_factory.mktemp("drawn") / "ages"
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(1)
    labels = []
    for i in range(40):
        age, female = int(rng.integers(5, 80)), bool(i % 2)
        canvas = np.full((64, 64, 3), (60, 60, 200) if female else (200, 60, 60), np.uint8)
        cv2.circle(canvas, (32, 32), 24, (int(60 + 2.4 * age),) * 3, -1)
        canvas = np.asarray(np.clip(canvas + rng.normal(0, 4, canvas.shape), 0, 255), dtype=np.uint8)
        cv2.imwrite(str(folder / "images" / f"{i:02d}.png"), canvas)
        labels.append([f"{i:02d}.png", age, "female" if female else "male", i // 2])
    write_csv(folder / "labels.csv", ["file", "age", "gender", "group"], labels)
    return folder


@pytest.fixture
def age_gender_folder(drawn_ages: Path, tmp_path: Path) -> Path:
    """A copy of `drawn_ages` that a test may change."""
    return shutil.copytree(drawn_ages, tmp_path / drawn_ages.name)


@pytest.fixture(scope="session")
def drawn_shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder a class, 16 drawn pictures each: discs and squares."""
    folder = tmp_path_factory.mktemp("drawn") / "shapes"
    rng = np.random.default_rng(2)
    for name in ("disc", "square"):
        (folder / name).mkdir(parents=True)
        for i in range(16):
            canvas = np.asarray(rng.integers(0, 80, (48, 56, 3)), dtype=np.uint8)
            x, y = (int(v) for v in rng.integers(18, 30, 2))
            if name == "disc":
                cv2.circle(canvas, (x, y), 14, (230, 230, 60), -1)
            else:
                cv2.rectangle(canvas, (x - 12, y - 12), (x + 12, y + 12), (60, 60, 240), -1)
            cv2.imwrite(str(folder / name / f"{i:02d}.png"), canvas)
    return folder


@pytest.fixture
def class_folder(drawn_shapes: Path, tmp_path: Path) -> Path:
    """A copy of `drawn_shapes` that a test may change."""
    return shutil.copytree(drawn_shapes, tmp_path / drawn_shapes.name)


def write_csv(path: Path, header: list[str], rows: list[list[object]]) -> None:
    """Write a CSV file."""
    with path.open("w", newline="", encoding="utf-8") as handle:
        csv.writer(handle).writerows([header, *rows])
