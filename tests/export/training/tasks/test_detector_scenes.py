"""Training scenes show faces of all sizes, in crowds and alone, each inside its box."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from mien.bench.data.face_boxes import FaceTable, read_faces
from mien.export.training.tasks.detector_scenes import DetectorScenes, Scene

SIZE = 320


@pytest.fixture
def portraits(tmp_path: Path) -> FaceTable:
    """Pictures with a white disc, the face, that takes most of them."""
    images = tmp_path / "portraits" / "images"
    images.mkdir(parents=True)
    for name in ("a.png", "b.png"):
        picture = np.zeros((96, 96, 3), np.uint8)
        cv2.circle(picture, (48, 48), 30, (255, 255, 255), -1)
        cv2.imwrite(str(images / name), picture)
    (images.parent / "boxes.csv").write_text("file,x,y,w,h\na.png,18,18,60,60\nb.png,18,18,60,60\n")
    return read_faces(images.parent)


@pytest.fixture
def landscapes(tmp_path: Path) -> FaceTable:
    """Dark pictures without faces."""
    folder = tmp_path / "landscapes"
    folder.mkdir()
    for name in ("c.png", "d.png"):
        cv2.imwrite(str(folder / name), np.full((60, 80, 3), 70, np.uint8))
    return read_faces(folder)


def scenes(*tables: FaceTable) -> list[Scene]:
    dataset = DetectorScenes(tables, size=SIZE, length=1, seed=0)
    dataset.read_images()
    return [dataset.scene(np.random.default_rng(i)) for i in range(200)]


def longer_sides(scene: Scene) -> list[float]:
    return [float(max(x1 - x0, y1 - y0)) for x0, y0, x1, y1 in scene.boxes]


def test_small_faces_stand_alone_too(portraits: FaceTable, landscapes: FaceTable) -> None:
    alone = [sides[0] for s in scenes(portraits, landscapes) if len(sides := longer_sides(s)) == 1]
    assert min(alone) < 16 and max(alone) > 200
    assert np.mean(np.array(alone) < 64) > 0.1


@pytest.mark.parametrize("with_landscapes", [True, False])
def test_a_box_holds_a_face(portraits: FaceTable, landscapes: FaceTable, with_landscapes: bool) -> None:
    brighter = []
    for scene in scenes(portraits, landscapes) if with_landscapes else scenes(portraits):
        for x0, y0, x1, y1 in scene.boxes:
            middle, reach = np.array([x0 + x1, y0 + y1]) / 2, 0.8 * np.array([x1 - x0, y1 - y0])
            left, top = np.maximum(middle - reach, 0).astype(int)
            right, bottom = (middle + reach).astype(int)
            face = scene.pixels[round(middle[1]), round(middle[0])].mean()
            brighter.append(face > scene.pixels[top:bottom, left:right].mean())
    assert np.mean(brighter) > 0.9, "a few are covered by the drawn occlusions"


def test_surroundings_are_pictures_without_faces(portraits: FaceTable, landscapes: FaceTable) -> None:
    dataset = DetectorScenes([portraits, landscapes], size=SIZE, length=1, seed=0)
    dataset.read_images()
    assert len(dataset.faceless) == len(landscapes)
