"""The textbook's training tasks: whole images, and a frozen backbone whose features are computed once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from ....bench.accuracy.metrics import age_gender_measures, normalized_mean_error
from ....bench.data.landmark_labels import LandmarkTable, read_landmarks, rows_by_file
from ....bench.data.splits import held_out_from_training
from ....runtime.errors import warn_once
from ....runtime.models.spec import ModelSpec, Task
from ....runtime.values import FloatArray
from ....runtime.vision.crop import CROP_SCALE
from ....runtime.vision.geometry import landmark_bounds, longer_side
from ....runtime.wording import counted
from ...networks.frozen_backbone_nets import (
    OLDEST,
    RECIPE,
    SIZE,
    FrozenBackboneAgeGenderNet,
    FrozenBackboneLandmarkNet,
)
from ..batches import predict_batches
from ..config import NetworkConfig, ProgressCallback, no_progress
from ..pictures import picture_size, read_aligned_crop
from .age_gender import read_split
from .frozen_features import compute_features


class FrozenBackboneLandmarkTraining:
    """Training of the textbook's landmark head, with an L1 loss on fractions of the image's width and height.

    See `Training` for the attributes.
    """

    score = "nme"
    trained_by = "head_of"

    def __init__(self, data: Path, network: NetworkConfig) -> None:
        table = _single_faces(read_landmarks(data), data)
        held = held_out_from_training(table.subjects, data, noun="subject")
        validation = held & ~table.in_test_split()
        self.config: dict[str, Any] = network.settings(data, labels=[table]) | {"recipe": RECIPE}
        self.net = FrozenBackboneLandmarkNet(
            network.backbone, weights=network.weights, normalization=network.normalization
        )
        self.training, self.held = table.mask(~held), table.mask(validation)
        sizes = np.array([picture_size(f) for f in table.files], dtype=np.float64)
        self.sizes = sizes[validation]
        targets = torch.from_numpy((table.points / sizes[:, None]).reshape(len(table), -1).astype(np.float32))
        self.targets, self.held_targets = targets[torch.from_numpy(~held)], targets[torch.from_numpy(validation)]
        self.spec = ModelSpec(
            task=Task.LANDMARKS,
            input_size=(SIZE, SIZE),
            outputs=("landmarks",),
            # Ratio of image to face in the data, so that a pipeline's crops look like the training images.
            crop_scale=float(np.median(sizes.max(axis=1) / longer_side(landmark_bounds(table.points)))),
            points="ibug68",
            dims=2,
            provenance=network.provenance(data) | {"recipe": RECIPE},
        )

    def prepare(self, progress: ProgressCallback = no_progress) -> None:
        """Compute the features of the backbone."""
        features = compute_features(self.net, self.training.files, size=SIZE, progress=progress)
        self.dataset = TensorDataset(features, self.targets)
        self.held_features = compute_features(self.net, self.held.files, size=SIZE, progress=progress)

    def losses(self, outputs: Tensor, targets: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """Compute the L1 loss of a batch, in fractions of the image."""
        return {"points": F.l1_loss(outputs, targets[0])}

    def validate(self, net: nn.Module) -> dict[str, float]:
        """Compute NME and L1 loss."""
        (found,) = predict_batches(net, self.held_features, method=self.trained_by)
        fractions = found.numpy().reshape(len(found), -1, 2).astype(np.float64)
        errors = normalized_mean_error(fractions * self.sizes[:, None], self.held.points)
        return {"nme": float(errors.mean()), "val_loss": float(F.l1_loss(found, self.held_targets))}


class FrozenBackboneAgeGenderTraining:
    """Training of the textbook's age and gender head: L1 loss on age / 80 and binary cross entropy on gender.

    See `Training` for the attributes.
    """

    score = "mae_years"
    trained_by = "head_of"

    def __init__(
        self,
        data: Path,
        network: NetworkConfig,
        *,
        age_weight: float = 1.0,
        gender_weight: float = 1.0,
    ) -> None:
        self.training, self.held, _ = read_split(data)
        self.config: dict[str, Any] = {
            **network.settings(data, labels=[self.training, self.held]),
            "recipe": RECIPE,
            "age_weight": age_weight,
            "gender_weight": gender_weight,
        }
        self.age_weight, self.gender_weight = age_weight, gender_weight
        self.net = FrozenBackboneAgeGenderNet(
            network.backbone, weights=network.weights, normalization=network.normalization
        )
        self.spec = ModelSpec(
            task=Task.AGE_GENDER,
            input_size=(SIZE, SIZE),
            outputs=("age", "female"),
            crop_scale=CROP_SCALE,
            points="ibug68",
            provenance=network.provenance(data) | {"recipe": RECIPE},
        )

    def prepare(self, progress: ProgressCallback = no_progress) -> None:
        """Compute the features of the backbone."""
        options: dict[str, Any] = {"size": SIZE, "read": read_aligned_crop, "progress": progress}
        features = compute_features(self.net, self.training.files, **options)
        self.dataset = TensorDataset(features, _targets(self.training.age, self.training.female))
        self.held_features = compute_features(self.net, self.held.files, **options)

    def losses(self, outputs: Tensor, targets: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """Compute the weighted losses of a batch."""
        age, female = targets[0].unbind(1)
        return {
            "age": self.age_weight * F.l1_loss(outputs[:, 0], age),
            "gender": self.gender_weight * F.binary_cross_entropy(outputs[:, 1], female),
        }

    def validate(self, net: nn.Module) -> dict[str, float]:
        """Compute mean absolute error, CS@5, gender accuracy and the loss."""
        (found,) = predict_batches(net, self.held_features, method=self.trained_by)
        loss = sum(self.losses(found, (_targets(self.held.age, self.held.female),)).values())
        age, female = OLDEST * found[:, 0].numpy(), found[:, 1].numpy()
        return age_gender_measures(age, female, self.held.age, self.held.female) | {"val_loss": float(loss)}


def _single_faces(table: LandmarkTable, data: Path) -> LandmarkTable:
    """Leave out pictures with several faces: the network locates one, in a whole picture."""
    rows = rows_by_file(table.files)
    single = np.array([len(rows[file]) == 1 for file in table.files])
    if not single.all():
        several = counted(len(rows) - int(single.sum()), "picture")
        warn_once(f"{data}: left out {several} with several faces; --recipe {RECIPE} takes one face in each")
    return table.mask(single)


def _targets(age: FloatArray, female: FloatArray) -> Tensor:
    return torch.from_numpy(np.stack([age / OLDEST, female], axis=1).astype(np.float32))
