"""Landmarks in the boxes of a detector: faces whose box showed only a part of them are looked at again."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from mien.runtime.faces.landmarks import MAX_MORE, locate_in_boxes
from mien.runtime.models.runner import Runner
from mien.runtime.values import Faces, FloatArray, Image
from mien.runtime.vision.geometry import intersection_over_union, landmark_bounds

SIZE = 64
FACE = np.array([[100.0, 60.0, 200.0, 160.0]])


def picture_of_face() -> Image:
    picture = np.zeros((240, 320, 3), np.uint8)
    picture[60:160, 100:200] = 255
    return picture


class SeesWhite:
    """Takes the white part of a crop for a face, with 68 points along its diagonal, and notes the sizes of batches."""

    def __init__(self, presence: float | None) -> None:
        outputs = ("landmarks",) if presence is None else ("landmarks", "presence")
        self.spec = SimpleNamespace(input_size=(SIZE, SIZE), crop_scale=1.3, outputs=outputs)
        self.presence = presence
        self.batches: list[int] = []

    def __call__(self, crops: Image) -> dict[str, Any]:
        self.batches.append(len(crops))
        points = np.zeros((len(crops), 68, 3), np.float32)
        for crop, row in zip(crops, points, strict=True):
            y, x = np.nonzero(crop[..., 0] > 127)
            row[:, 0] = np.linspace(x.min(), x.max() + 1, 68) / SIZE
            row[:, 1] = np.linspace(y.min(), y.max() + 1, 68) / SIZE
            row[36:48, 1] = row[36:48, 1].mean()  # level eyes: an upright face
        found = {"landmarks": points}
        return found if self.presence is None else found | {"presence": np.full(len(crops), self.presence, np.float32)}


def found_from(box: FloatArray, model: SeesWhite) -> float:
    """Return how well the found face covers the real one."""
    faces = locate_in_boxes(cast(Runner, model), picture_of_face(), Faces.from_boxes(box, np.ones(len(box))))
    return float(intersection_over_union(landmark_bounds(faces.landmarks), FACE).min())


def test_a_face_that_its_box_shows_whole_is_looked_at_twice() -> None:
    model = SeesWhite(1.0)
    assert found_from(np.array([[100.0, 30.0, 200.0, 160.0]]), model) > 0.9
    assert model.batches == [1, 1]


def test_a_model_without_presence_is_asked_once() -> None:
    model = SeesWhite(None)
    assert found_from(np.array([[100.0, 30.0, 200.0, 160.0]]), model) > 0.9
    assert model.batches == [1]


def test_a_face_that_its_box_shows_in_part_is_looked_at_until_it_is_seen_whole() -> None:
    part = np.array([[100.0, 50.0, 165.0, 115.0]])
    model = SeesWhite(1.0)
    assert found_from(part, model) > 0.75 and 2 < len(model.batches) <= 2 + MAX_MORE
    both = SeesWhite(1.0)
    found_from(np.concatenate([part, [[100.0, 30.0, 200.0, 160.0]]]), both)
    assert both.batches == [2, 2] + [1] * (len(model.batches) - 2)


@pytest.mark.parametrize("presence", [0.0, 0.4])
def test_what_is_no_face_is_not_looked_at_again(presence: float) -> None:
    model = SeesWhite(presence)
    found_from(np.array([[100.0, 50.0, 165.0, 115.0]]), model)
    assert model.batches == [1] * 5  # in the box, in three quarter turns of it, and within the first bounds
