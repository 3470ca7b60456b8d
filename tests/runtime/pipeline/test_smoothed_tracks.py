"""Smoothing changes the landmarks that are reported, and nothing of the tracking."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from mien import Faces, Frame, Pipeline
from mien.cli import app
from mien.runtime.capture.demo_camera import DemoCamera
from mien.runtime.faces.detector import LIVE_MAX_SIDE
from mien.runtime.tracking.smoothing import OneEuro, Smoother

FPS = 30
FIRST, COUNT = 100, 10
"""Frames of the demo camera, in which the face moves."""


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    camera = DemoCamera(size=(320, 240))
    return [Frame(camera.frame(FIRST + i), timestamp_ns=i * 10**9 // FPS, index=i) for i in range(COUNT)]


@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    return Pipeline.load(attributes=False, provider="cpu", max_side=LIVE_MAX_SIDE)


def tracked(pipeline: Pipeline, frames: list[Frame], **options: Any) -> list[Faces]:
    return [faces for _, faces in pipeline.track(frames, **options)]


def test_only_the_reported_landmarks_are_smoothed(pipeline: Pipeline, frames: list[Frame]) -> None:
    euro = OneEuro(min_cutoff_hz=0.1, beta=0.1)
    raw, smoothed = tracked(pipeline, frames), tracked(pipeline, frames, smoothing=euro)
    smoother = Smoother(euro)
    for frame, before, after in zip(frames, raw, smoothed, strict=True):
        wanted = smoother.update(before, timestamp_ns=frame.timestamp_ns)
        assert len(after) == 1 and np.allclose(after.landmarks, wanted.landmarks, atol=1e-3)
        assert np.allclose(after.boxes, before.boxes, atol=1e-3)  # tracked from the raw ones
    assert np.abs(smoothed[-1].landmarks - raw[-1].landmarks).mean() > 2


@pytest.mark.parametrize("cutoff_hz", [0.0, 0.2])
def test_the_option_is_the_cutoff_and_zero_is_off(
    cutoff_hz: float, pipeline: Pipeline, frames: list[Frame], tmp_path: Path
) -> None:
    for frame in frames:
        cv2.imwrite(str(tmp_path / f"{frame.index:02d}.png"), frame.pixels)
    options = ["--no-show", "--no-attributes", "--provider", "cpu", "--fps", FPS, "--smooth", cutoff_hz, "--json", "-"]
    done = CliRunner().invoke(app, ["webcam", str(tmp_path), *map(str, options)])
    assert done.exit_code == 0, done.output
    found = [json.loads(line)["faces"][0]["landmarks"] for line in done.stdout.splitlines()]
    wanted = tracked(pipeline, frames, smoothing=OneEuro(min_cutoff_hz=cutoff_hz) if cutoff_hz else None)
    assert np.allclose(found, [faces.landmarks[0] for faces in wanted], atol=0.02)
