"""`mien train age-gender`: data, network and losses of the age and gender model, for the loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from mien.bench.accuracy.metrics import age_gender_measures
from mien.bench.data.age_gender_labels import AgeGenderTable, check_pictures, check_split, join_copies, read_age_gender
from mien.export.networks.age_gender_net import OUTPUTS, AgeGenderNet
from mien.export.networks.build_network import continue_from
from mien.export.networks.normalization import Normalization
from mien.export.training.augmentation import colour, degrade, occlude
from mien.export.training.config import Share, TrainConfig
from mien.export.training.loop import predict_batches, shuffled
from mien.export.training.losses import age_gender_losses
from mien.runtime.images import read_image
from mien.runtime.models.spec import ModelSpec, Task
from mien.runtime.values import Image
from mien.runtime.vision.crop import CROP_SCALE, resized


class AgeGenderCrops(Dataset[tuple[Tensor, Tensor, Tensor]]):
    """Augmented crops: image (h, w, 3) uint8, age in years, female 0 or 1; the same seed and epoch give the same."""

    def __init__(self, table: AgeGenderTable, *, size: int, seed: int, light_augmentation: bool = False) -> None:
        self.table = table
        self.size = size
        self.seed = seed
        self.epoch = 0
        self.share = 0.4 if light_augmentation else 1.0
        """Of the usual share of crops that are changed in colour, degraded or covered, and of the usual shift."""

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        rng = np.random.default_rng((self.seed, self.epoch, index))
        pixels = jittered(read_image(self.table.files[index]), self.size, rng, spread=self.share)
        if rng.random() < 0.5:
            pixels = np.ascontiguousarray(pixels[:, ::-1])
        if rng.random() < self.share:
            pixels = colour(pixels, rng)
        if rng.random() < 0.3 * self.share:
            pixels = degrade(pixels, rng)
        if rng.random() < 0.2 * self.share:
            pixels = occlude(pixels, rng)
        age, female = self.table.age[index], self.table.female[index]
        return torch.from_numpy(pixels), torch.tensor(age).float(), torch.tensor(female).float()


def jittered(picture: Image, size: int, rng: np.random.Generator, *, spread: float = 1.0) -> Image:
    """Resize an aligned crop, off by what an alignment by landmarks may be off."""
    height, width = picture.shape[:2]
    zoom = size / max(height, width) * np.exp(rng.normal(0, 0.06 * spread))
    angle = rng.normal(0, 0.07 * spread)
    cos, sin = zoom * np.cos(angle), zoom * np.sin(angle)
    rotation = np.array([[cos, -sin], [sin, cos]])
    shift = size * (0.5 + rng.normal(0, 0.02 * spread, 2)) - rotation @ [width / 2, height / 2]
    matrix = np.concatenate([rotation, shift[:, None]], axis=1)
    moved = cv2.warpAffine(picture, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(moved, dtype=np.uint8)


class AgeGenderTraining:
    """The age and gender task: fine-tunes the whole network, or with `frozen` only what is behind the backbone."""

    score = "mae_years"
    trained_by = "logits"

    def __init__(
        self,
        data: Path,
        *,
        backbone: str,
        weights: str,
        normalization: Normalization,
        frozen: bool = False,
        input_size: int = 112,
        init_from: Path | None = None,
        light_augmentation: bool = False,
        age_weight: float = 1.0,
        gender_weight: float = 2.0,
        seed: int = 0,
    ) -> None:
        table = join_copies(read_age_gender(data))
        check_pictures(table)
        validation = check_split(table, data)
        self.config: dict[str, Any] = {
            "backbone": backbone,
            "normalization": normalization.value,
            "frozen": frozen,
            "light_augmentation": light_augmentation,
            "input_size": input_size,
            "weights": Path(weights).name,
            "age_weight": age_weight,
            "gender_weight": gender_weight,
            "data": data.name,
        }
        provenance = {"backbone": backbone, "data": data.name, "seed": str(seed)}
        self.net = AgeGenderNet(
            backbone, weights="none" if init_from is not None else weights, normalization=normalization
        )
        if init_from is not None:
            provenance["started_from"] = self.config["started_from"] = continue_from(init_from, self.net)
        if frozen:
            self.net.backbone.requires_grad_(False)
        self.spec = ModelSpec(
            task=Task.AGE_GENDER,
            input_size=(input_size, input_size),
            outputs=OUTPUTS,
            crop_scale=CROP_SCALE,
            points="ibug68",
            provenance=provenance,
        )
        self.age_weight, self.gender_weight = age_weight, gender_weight
        self.crops = AgeGenderCrops(
            table.mask(~validation), size=input_size, seed=seed, light_augmentation=light_augmentation
        )
        self.held = table.mask(validation)
        self.images = np.stack([resized(read_image(f), input_size) for f in self.held.files])

    def batches(self, epoch: int, train: TrainConfig, share: Share) -> DataLoader[tuple[Tensor, ...]]:
        """Yield (images, ages, female)."""
        self.crops.epoch = epoch
        return shuffled(self.crops, epoch, train, share)

    def losses(self, outputs: tuple[Tensor, Tensor], targets: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """Parts of the loss of one batch."""
        age, female = targets
        return age_gender_losses(*outputs, age, female, age_weight=self.age_weight, gender_weight=self.gender_weight)

    def validate(self, net: nn.Module) -> dict[str, float]:
        """MAE, CS@5 and gender accuracy."""
        age, female = predict_batches(net, self.images)
        return age_gender_measures(age, female, self.held.age, self.held.female)
