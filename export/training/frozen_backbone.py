"""The chapter's own landmark and age/gender models: whole pictures, a frozen backbone, its features computed once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from mien.bench.accuracy.metrics import age_gender_measures, normalized_mean_error
from mien.bench.data.age_gender_labels import check_pictures, check_split, join_copies, read_age_gender
from mien.bench.data.landmark_labels import read_landmarks
from mien.bench.data.splits import training_split
from mien.export.networks.age_gender_net import OUTPUTS as AGE_GENDER_OUTPUTS
from mien.export.networks.frozen_backbone_nets import OLDEST, SIZE, ChapterAgeGenderNet, ChapterLandmarkNet
from mien.export.networks.normalization import Normalization
from mien.export.training.config import Share, TrainConfig
from mien.export.training.frozen_features import features_of
from mien.export.training.loop import in_batches, shuffled
from mien.runtime.images import read_image
from mien.runtime.models.spec import ModelSpec, Task
from mien.runtime.values import FloatArray
from mien.runtime.vision.crop import CROP_SCALE
from mien.runtime.vision.geometry import landmark_bounds, longer_side


class ChapterLandmarkTraining:
    """L1 loss on points as fractions of the picture's width and height."""

    score = "nme"
    trained_by = "head_of"

    def __init__(self, data: Path, *, backbone: str, weights: str, normalization: Normalization, seed: int = 0) -> None:
        table = read_landmarks(data)
        validation = training_split(table.subjects, data, noun="subject")
        self.config = chapter_config(data, backbone, weights, normalization)
        self.net = ChapterLandmarkNet(backbone, weights=weights, normalization=normalization)
        sizes = np.array([read_image(f).shape[1::-1] for f in table.files], dtype=np.float64)
        self.sizes, self.points = sizes[validation], table.points[validation]
        targets = torch.from_numpy((table.points / sizes[:, None]).reshape(len(table), -1).astype(np.float32))
        training = table.mask(~validation)
        features = features_of(self.net, training.files, size=SIZE)
        self.items = TensorDataset(features, targets[torch.from_numpy(~validation)])
        self.held = features_of(self.net, table.mask(validation).files, size=SIZE)
        self.held_targets = targets[torch.from_numpy(validation)]
        self.spec = ModelSpec(
            task=Task.LANDMARKS,
            input_size=(SIZE, SIZE),
            outputs=("landmarks",),
            # What a whole picture is to a face: the crop that a pipeline cuts for this model looks like its training.
            crop_scale=float(np.median(sizes.max(axis=1) / longer_side(landmark_bounds(table.points)))),
            points="ibug68",
            dims=2,
            provenance={"backbone": backbone, "data": data.name, "recipe": "chapter", "seed": str(seed)},
        )

    def batches(self, epoch: int, train: TrainConfig, share: Share) -> DataLoader[tuple[Tensor, ...]]:
        """Yield (features, targets)."""
        return shuffled(self.items, epoch, train, share)

    def losses(self, outputs: Tensor, targets: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """L1 distance, in fractions of the picture."""
        return {"points": F.l1_loss(outputs, targets[0])}

    def validate(self, net: nn.Module) -> dict[str, float]:
        """L1 loss and NME."""
        found = in_batches(net, self.trained_by, self.held)
        fractions = found.numpy().reshape(len(found), -1, 2).astype(np.float64)
        errors = normalized_mean_error(fractions * self.sizes[:, None], self.points)
        return {"nme": float(errors.mean()), "val_loss": float(F.l1_loss(found, self.held_targets))}


class ChapterAgeGenderTraining:
    """L1 loss on age / 80 and binary cross-entropy on gender, a weighted sum."""

    score = "mae_years"
    trained_by = "head_of"

    def __init__(
        self,
        data: Path,
        *,
        backbone: str,
        weights: str,
        normalization: Normalization,
        age_weight: float = 1.0,
        gender_weight: float = 1.0,
        seed: int = 0,
    ) -> None:
        table = join_copies(read_age_gender(data))
        check_pictures(table)
        validation = check_split(table, data)
        self.config = chapter_config(data, backbone, weights, normalization) | {
            "age_weight": age_weight,
            "gender_weight": gender_weight,
        }
        self.weights = (age_weight, gender_weight)
        self.net = ChapterAgeGenderNet(backbone, weights=weights, normalization=normalization)
        training, self.table = table.mask(~validation), table.mask(validation)
        self.items = TensorDataset(
            features_of(self.net, training.files, size=SIZE), _targets(training.age, training.female)
        )
        self.held = features_of(self.net, self.table.files, size=SIZE)
        self.spec = ModelSpec(
            task=Task.AGE_GENDER,
            input_size=(SIZE, SIZE),
            outputs=AGE_GENDER_OUTPUTS,
            crop_scale=CROP_SCALE,
            points="ibug68",
            provenance={"backbone": backbone, "data": data.name, "recipe": "chapter", "seed": str(seed)},
        )

    def batches(self, epoch: int, train: TrainConfig, share: Share) -> DataLoader[tuple[Tensor, ...]]:
        """Yield (features, targets)."""
        return shuffled(self.items, epoch, train, share)

    def losses(self, outputs: Tensor, targets: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """Both branches' losses, weighted."""
        age, female = targets[0].unbind(1)
        return {
            "age": self.weights[0] * F.l1_loss(outputs[:, 0], age),
            "gender": self.weights[1] * F.binary_cross_entropy(outputs[:, 1], female),
        }

    def validate(self, net: nn.Module) -> dict[str, float]:
        """MAE, CS@5, gender accuracy, and the loss."""
        found = in_batches(net, self.trained_by, self.held)
        loss = sum(self.losses(found, (_targets(self.table.age, self.table.female),)).values())
        age, female = OLDEST * found[:, 0].numpy(), found[:, 1].numpy()
        return age_gender_measures(age, female, self.table.age, self.table.female) | {"val_loss": float(loss)}


def chapter_config(data: Path, backbone: str, weights: str, normalization: Normalization) -> dict[str, Any]:
    """What a chapter model is built from again."""
    return {
        "recipe": "chapter",
        "backbone": backbone,
        "normalization": normalization.value,
        "weights": Path(weights).name,
        "data": data.name,
    }


def _targets(age: FloatArray, female: FloatArray) -> Tensor:
    return torch.from_numpy(np.stack([age / OLDEST, female], axis=1).astype(np.float32))
