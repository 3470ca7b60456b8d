"""Labels that lie to one side of the face, in pictures and in their mirror images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from mien.bench.data.face_boxes import read_faces
from mien.bench.data.landmark_labels import MIRRORED, read_landmarks
from mien.export.training.augmentation import Strength
from mien.export.training.tasks.label_offsets import label_offsets
from mien.export.training.tasks.landmark_crops import LandmarkCrops, validation_crops
from mien.runtime.vision.geometry import landmark_bounds, longer_side

SIZE = 64
TO_THE_RIGHT = 0.02
"""What the labels of the test lie too far right, in crops."""


class Oracle(torch.nn.Module):
    """Knows where the faces lie in crops and in their mirror images, and adds an offset that it has learnt."""

    def __init__(self, pixels: np.ndarray, faces: np.ndarray, learnt: float) -> None:
        super().__init__()
        self.device = torch.nn.Parameter(torch.zeros(1))
        flipped = np.ascontiguousarray(pixels[:, :, ::-1])
        mirrored = faces[:, MIRRORED] * [-1, 1, 1] + [1, 0, 0]
        self.faces = {
            p.tobytes(): torch.from_numpy(xyz + [learnt, 0, 0])
            for p, xyz in zip((*pixels, *flipped), (*faces, *mirrored), strict=True)
        }

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.stack([self.faces[p.numpy().tobytes()] for p in images]), torch.ones(len(images))


@pytest.mark.parametrize("learnt", [0.0, TO_THE_RIGHT])
def test_the_offset_is_measured_whether_the_network_has_learnt_it_or_not(landmark_folder: Path, learnt: float) -> None:
    table = read_landmarks(landmark_folder)
    pixels, labels = validation_crops(table, SIZE)
    offsets = label_offsets(Oracle(pixels, labels - [TO_THE_RIGHT, 0, 0], learnt), table, SIZE)
    assert np.allclose(offsets, TO_THE_RIGHT * 1.3 * longer_side(landmark_bounds(table.points)), rtol=1e-5)


def test_a_mirrored_picture_is_labelled_as_if_it_had_been_taken_so(landmark_folder: Path) -> None:
    """The labels of a turned, mirrored crop lie as far to the right of the face as those of the picture."""
    table = read_landmarks(landmark_folder)
    crops = LandmarkCrops(
        table,
        size=SIZE,
        seed=0,
        faces_of=read_faces(landmark_folder).boxes,
        strength=Strength(shift=0, zoom=0, roll=0.5, occluded=0, masked=0, degraded=0, mirrored=1),
    )
    crops.read_images()
    for i in range(8):
        faces = crops._positive(i, np.random.default_rng(i))[1][0]
        crops.points[0, i, :, 0] += 3.0
        crops.offsets[i] = 3.0
        labels = crops._positive(i, np.random.default_rng(i))[1][0]
        shift = labels[:, :2] - faces[:, :2]
        eyes = faces[42:48, :2].mean(axis=0) - faces[36:42, :2].mean(axis=0)
        assert np.allclose(shift, shift[0]) and np.allclose(
            np.linalg.norm(shift, axis=1), 3.0 / 1.3 / longer_side(crops.bounds)[i]
        )
        assert abs(shift[0] @ eyes) == pytest.approx(np.linalg.norm(shift[0]) * np.linalg.norm(eyes), rel=0.02)
        assert shift[0] @ eyes > 0
