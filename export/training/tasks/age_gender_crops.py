"""Training crops of the age and gender network."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ....bench.data.age_gender_labels import AgeGenderTable
from ....runtime.values import Image
from ....runtime.vision.crop import CROP_SCALE, alignment_matrix, cut_crop
from ...networks.age_gender_net import BINS
from ..augmentation import WORSENED, colour, degrade, jitter_aligned, occlude, worsen
from ..batches import AugmentedDataset
from ..pictures import read_aligned_crop, read_training_image
from .taught_ages import TaughtAges
from .unlabelled_faces import FoundFaces


class AgeGenderCrops(AugmentedDataset):
    """Augmented crops of aligned faces.

    Samples are (image, age, female), then age, probability of female and distribution of the age as teachers see them:
    image (size, size, 3) uint8 BGR, ages in years, female from 0 to 1, and the distribution (101,) over one bin per
    year. What is unknown is NaN: the labels of an unlabelled face, and what no teacher has seen.
    """

    def __init__(self, table: AgeGenderTable, *, size: int, seed: int, light_augmentation: bool = False) -> None:
        super().__init__(seed)
        self.table = table
        self.size = size
        # Scales the default shift, and the default fractions of recoloured, degraded and covered crops.
        self.strength = 0.4 if light_augmentation else 1.0
        self.worsened = 0.0
        self.unlabelled = FoundFaces.none()
        self.taught = TaughtAges(np.full((len(table), BINS), np.nan), np.full(len(table), np.nan))

    def add_taught(self, taught: TaughtAges, unlabelled: FoundFaces) -> None:
        """Add the teachers' predictions, and the faces that only they label; worsen some crops from now on.

        Args:
            taught: Predictions for the faces with labels, then for those without.
            unlabelled: The faces without labels.
        """
        self.taught = taught
        self.unlabelled = unlabelled
        self.worsened = WORSENED * self.strength

    def __len__(self) -> int:
        """Return the samples of an epoch: every face with labels, and up to as many of those without."""
        return len(self.table) + min(len(self.table), len(self.unlabelled))

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        rng = self.rng(index)
        age = female = np.nan
        if index < len(self.table):
            age, female = self.table.age[index], self.table.female[index]
            image = read_aligned_crop(self.table.files[index])
        else:
            face = int(rng.integers(len(self.unlabelled)))
            index = len(self.table) + face
            image = self._aligned(face)
        pixels = self._disturbed(image, rng)
        ages = torch.from_numpy(self.taught.ages[index]).float()
        seen = torch.tensor(self.taught.female[index]).float()
        mean_age = ages @ torch.arange(BINS, dtype=torch.float32)
        return torch.from_numpy(pixels), torch.tensor(age).float(), torch.tensor(female).float(), mean_age, seen, ages

    def _aligned(self, face: int) -> Image:
        matrix = alignment_matrix(self.unlabelled.points[face], scale=CROP_SCALE, size=self.size)
        return cut_crop(read_training_image(self.unlabelled.files[face]), matrix, self.size).pixels

    def _disturbed(self, image: Image, rng: np.random.Generator) -> Image:
        pixels = jitter_aligned(image, self.size, rng, spread=self.strength)
        if rng.random() < 0.5:
            pixels = np.ascontiguousarray(pixels[:, ::-1])
        if rng.random() < self.strength:
            pixels = colour(pixels, rng)
        if self.worsened and rng.random() < self.worsened:
            pixels = worsen(pixels, rng)
        elif rng.random() < 0.3 * self.strength:
            pixels = degrade(pixels, rng)
        if rng.random() < 0.2 * self.strength:
            pixels = occlude(pixels, rng)
        return pixels
