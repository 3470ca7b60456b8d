"""The drawn face serves where no photograph is installed, as on a device."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from mien.bench.data import sample_inputs
from mien.bench.data.drawn_face import draw_face
from mien.runtime.capture import demo_camera
from mien.runtime.errors import warn_once
from mien.runtime.models.model_file import ModelFile
from mien.runtime.models.shipped import shipped_model


@pytest.fixture
def no_photo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_camera, "PHOTOS", ())
    warn_once.cache_clear()


@pytest.mark.usefixtures("no_photo")
def test_a_drawn_face_serves_and_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="mien"):
        found = sample_inputs.sample_portraits(2)
        for name in ("landmarks", "detector", "age_gender"):
            spec = ModelFile.of(shipped_model(name)).spec
            inputs = sample_inputs.sample_batch(spec, 3)
            assert inputs.shape == (3, *spec.input_size, 3) and inputs.std() > 10
    assert len(found.pictures) == 2 and not np.array_equal(*found.pictures)
    assert [record.message for record in caplog.records] == [
        "no sample photograph is installed (mien[demo]); using a drawn face, pass --data for real pictures"
    ]


def test_the_shipped_models_find_its_landmarks() -> None:
    from mien.runtime.pipeline.pipeline import Pipeline

    with Pipeline.load(attributes=False) as pipeline:
        for index in range(2):
            picture, points = draw_face(index)
            (found,) = pipeline(picture).landmarks
            eyes_px = np.linalg.norm(points[36, :2] - points[45, :2])
            assert np.abs(found[:, :2] - points[:, :2]).mean() < 0.1 * eyes_px


@pytest.mark.usefixtures("no_photo")
def test_a_folder_is_still_read(tmp_path: Path) -> None:
    import cv2

    picture = np.full((32, 32, 3), 7, np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), picture)
    assert np.array_equal(next(sample_inputs.sample_pictures(1, data=tmp_path)), picture)
