"""Every program of examples/ runs on a short clip, as a reader would start it."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

import mien
from mien.runtime.capture.demo_camera import DemoCamera
from mien.tests.clips import demo_frames, write_clip
from mien.tests.processes import started, wait_for

EXAMPLES = Path(mien.__file__).parent / "examples"


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve frames of the demo camera."""
    return write_clip(tmp_path_factory.mktemp("clip") / "clip.mp4", demo_frames(12))


def example(name: str, *arguments: object, folder: Path) -> str:
    command = [sys.executable, str(EXAMPLES / f"{name}.py"), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=120)
    assert done.returncode == 0 and not done.stderr, done.stderr
    return done.stdout


def test_embed(clip: Path, tmp_path: Path) -> None:
    lines = example("embed", clip, folder=tmp_path).splitlines()
    assert len(lines) >= 10 and lines[-1].startswith("frame 11, face ") and "nose at" in lines[-1]


def test_several_cameras(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "other.mp4").write_bytes(clip.read_bytes())
    found = example("several_cameras", clip, "other.mp4", folder=tmp_path)
    assert sorted(found.splitlines()) == sorted([f"{clip}: different faces: 1", "other.mp4: different faces: 1"])


def test_count_in_region(clip: Path, tmp_path: Path) -> None:
    assert example("count_in_region", clip, "0,0,1,1", folder=tmp_path).endswith("faces that entered the region: 1\n")
    assert example("count_in_region", clip, "0,0,0.01,0.01", folder=tmp_path) == "faces that entered the region: 0\n"


def test_own_overlay(clip: Path, tmp_path: Path) -> None:
    assert example("own_overlay", clip, "out.mp4", folder=tmp_path) == "wrote out.mp4\n"
    before, after = (cv2.VideoCapture(str(path)) for path in (clip, tmp_path / "out.mp4"))
    changed = [cv2.absdiff(before.read()[1], after.read()[1]).max() for _ in range(12)]
    assert min(changed) > 60 and not after.read()[0]


def test_asyncio_server(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "people.jpg"), DemoCamera().frame(0))
    command = [sys.executable, EXAMPLES / "asyncio_server.py", "0"]
    with started(*command, cwd=tmp_path, stdout=subprocess.PIPE) as server:
        port = int(server.stdout.readline().rsplit(maxsplit=1)[-1])
        with socket.create_connection(("127.0.0.1", port)) as client, client.makefile("rw") as lines:
            lines.write("people.jpg\nnothing.jpg\n")
            lines.flush()
            assert len(json.loads(lines.readline())["faces"]) == 1
            assert "not a picture" in json.loads(lines.readline())["error"]


def test_edge_service(clip: Path, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in example("edge_service", clip, 0.2, folder=tmp_path).splitlines()]
    assert rows[0]["people"] == 1 and rows[0]["seconds"] == pytest.approx(0.2, abs=0.05) and rows[0]["mean_age"] > 0


def test_edge_service_reports_once_more_when_it_is_ended(tmp_path: Path) -> None:
    command = [sys.executable, EXAMPLES / "edge_service.py", "demo", "1"]
    with started(*command, cwd=tmp_path, stdout=subprocess.PIPE) as service:
        assert json.loads(service.stdout.readline())["people"] == 1
        time.sleep(0.5)  # some frames more
        service.terminate()
        rest = [json.loads(line)["seconds"] for line in service.stdout]
        wait_for(lambda: service.poll() is not None)
    assert service.returncode == 0
    assert all(seconds >= 1 for seconds in rest[:-1]) and rest[-1] > 0


def test_blur(clip: Path, tmp_path: Path) -> None:
    assert example("blur", clip, "out.mp4", folder=tmp_path) == "wrote out.mp4\n"
    before, after = (cv2.VideoCapture(str(path)) for path in (clip, tmp_path / "out.mp4"))
    for i in range(12):
        corners = DemoCamera().face_corners(i)
        x0, y0, x1, y1 = np.concatenate([corners.min(axis=0), corners.max(axis=0)]).astype(int).clip(0)
        details = [cv2.Laplacian(v.read()[1][y0:y1, x0:x1], cv2.CV_64F).std() for v in (before, after)]
        assert details[1] < 0.3 * details[0]
    assert not after.read()[0]
