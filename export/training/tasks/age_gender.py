"""Age and gender task of the training loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ....bench.accuracy.metrics import age_gender_measures
from ....bench.data.age_gender_labels import AgeGenderTable, check_pictures, check_split, join_copies, read_age_gender
from ....runtime.models.spec import ModelSpec, Task
from ....runtime.pictures.images import read_image
from ....runtime.values import FloatArray
from ....runtime.vision.crop import CROP_SCALE, resized
from ...networks.age_gender_net import OUTPUTS, STD_SCALE, AgeGenderNet
from ...networks.build_network import load_initial_weights
from ..augmentation import colour, degrade, jitter_aligned, occlude
from ..batches import AugmentedDataset, predict_batches
from ..config import NetworkConfig, ProgressCallback, no_progress
from ..losses import age_gender_losses


class AgeGenderCrops(AugmentedDataset):
    """Augmented crops of aligned faces.

    Samples are (image, age, female): image (size, size, 3) uint8 BGR, age in years, and female 0 or 1.
    """

    def __init__(self, table: AgeGenderTable, *, size: int, seed: int, light_augmentation: bool = False) -> None:
        super().__init__(seed)
        self.table = table
        self.size = size
        # Scales the default shift, and the default fractions of recoloured, degraded and covered crops.
        self.strength = 0.4 if light_augmentation else 1.0

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        rng = self.rng(index)
        pixels = jitter_aligned(read_image(self.table.files[index]), self.size, rng, spread=self.strength)
        if rng.random() < 0.5:
            pixels = np.ascontiguousarray(pixels[:, ::-1])
        if rng.random() < self.strength:
            pixels = colour(pixels, rng)
        if rng.random() < 0.3 * self.strength:
            pixels = degrade(pixels, rng)
        if rng.random() < 0.2 * self.strength:
            pixels = occlude(pixels, rng)
        age, female = self.table.age[index], self.table.female[index]
        return torch.from_numpy(pixels), torch.tensor(age).float(), torch.tensor(female).float()


def read_split(data: Path) -> tuple[AgeGenderTable, AgeGenderTable]:
    """Read a folder of aligned faces and split it by group.

    Returns:
        The training and the validation split.

    Raises:
        InputError: A label is invalid, an image is missing, or a split would be empty.
    """
    table = join_copies(read_age_gender(data))
    validation = check_split(table, data)
    return table.mask(~validation), table.mask(validation)


class AgeGenderTraining:
    """Training of the age and gender network, or with `frozen` only of the layers after the backbone.

    See `Training` for the attributes.
    """

    score = "mae_years"
    trained_by = "logits"

    def __init__(
        self,
        data: Path,
        network: NetworkConfig,
        *,
        frozen: bool = False,
        input_size: int = 112,
        light_augmentation: bool = False,
        age_weight: float = 1.0,
        gender_weight: float = 2.0,
    ) -> None:
        self.training, self.held = read_split(data)
        self.net = AgeGenderNet(network.backbone, weights=network.backbone_weights, normalization=network.normalization)
        started = load_initial_weights(self.net, network.init_from)
        self.net.backbone.requires_grad_(not frozen)
        self.config: dict[str, Any] = {
            **network.settings(data, labels=[self.training, self.held]),
            **started,
            "frozen": frozen,
            "light_augmentation": light_augmentation,
            "input_size": input_size,
            "age_weight": age_weight,
            "gender_weight": gender_weight,
        }
        self.spec = ModelSpec(
            task=Task.AGE_GENDER,
            input_size=(input_size, input_size),
            outputs=OUTPUTS,
            crop_scale=CROP_SCALE,
            points="ibug68",
            provenance=network.provenance(data) | started,
        )
        self.age_weight, self.gender_weight = age_weight, gender_weight
        self.dataset = AgeGenderCrops(
            self.training, size=input_size, seed=network.seed, light_augmentation=light_augmentation
        )

    def prepare(self, progress: ProgressCallback = no_progress) -> None:
        """Read all pictures once, and keep those of the validation split."""
        check_pictures(self.training)
        size = self.dataset.size
        self.images = torch.from_numpy(np.stack([resized(read_image(f), size) for f in self.held.files]))

    def losses(self, outputs: tuple[Tensor, Tensor], targets: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """Compute the losses of a batch."""
        age, female = targets
        return age_gender_losses(*outputs, age, female, age_weight=self.age_weight, gender_weight=self.gender_weight)

    def validate(self, net: nn.Module) -> dict[str, float]:
        """Compute mean absolute error, CS@5, gender accuracy, and the scale of the age's standard deviation."""
        age, female, std = (output.numpy() for output in predict_batches(net, self.images))
        measures = age_gender_measures(age, female, self.held.age, self.held.female)
        return measures | {STD_SCALE: deviation_scale(age, std, self.held.age)}


def deviation_scale(age: FloatArray, std: FloatArray, labelled: FloatArray) -> float:
    """Return the factor on standard deviations (n,) for which 68 % of the labelled ages lie within one."""
    return float(np.percentile(np.abs(age - labelled) / np.maximum(std, 1e-6), 68))
