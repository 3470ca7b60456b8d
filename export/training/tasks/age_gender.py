"""Age and gender task of the training loop."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ....bench.accuracy.metrics import age_gender_measures
from ....bench.data.age_gender_labels import AgeGenderTable, check_pictures, check_split, join_copies, read_age_gender
from ....runtime.models.spec import ModelSpec, Task
from ....runtime.values import FloatArray
from ....runtime.vision.crop import CROP_SCALE, alignment_matrix
from ....runtime.vision.resize import resized
from ...networks.age_gender_net import OUTPUTS, STD_SCALE, AgeGenderNet
from ...networks.build_network import load_initial_weights
from ..batches import predict_batches
from ..config import NO_TEACHERS, DistillationConfig, NetworkConfig, ProgressCallback, no_progress
from ..distillation import Teachers
from ..losses import age_gender_losses
from ..pictures import read_aligned_crop
from .age_gender_crops import AgeGenderCrops
from .taught_ages import teach_ages
from .teacher_views import Regions, whole_picture
from .unlabelled_faces import find_faces


def read_split(data: Path) -> tuple[AgeGenderTable, AgeGenderTable, AgeGenderTable]:
    """Read a folder of aligned faces and split it by group.

    Returns:
        The training, the validation and the test split.

    Raises:
        InputError: A label is invalid, an image is missing, or a split would be empty.
    """
    table = join_copies(read_age_gender(data))
    held = check_split(table, data)
    tested = held & table.in_test_split()
    return table.mask(~held), table.mask(held & ~tested), table.mask(tested)


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
        distillation: DistillationConfig = NO_TEACHERS,
    ) -> None:
        self.training, self.held, tested = read_split(data)
        self.net = AgeGenderNet(network.backbone, weights=network.backbone_weights, normalization=network.normalization)
        started = load_initial_weights(self.net, network.init_from, new_layers_only=network.new_layers_only)
        if frozen:
            self.net.backbone.requires_grad_(False)
        labelled = (*self.training.files, *self.held.files, *tested.files)
        self.teachers = Teachers(distillation, Task.AGE_GENDER, labelled)
        self.config: dict[str, Any] = {
            **network.settings(data, labels=[self.training, self.held, self.teachers.files]),
            **started,
            **self.teachers.settings,
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
            provenance=network.provenance(data) | started | self.teachers.provenance,
        )
        self.weighted = partial(age_gender_losses, age_weight=age_weight, gender_weight=gender_weight)
        self.dataset = AgeGenderCrops(
            self.training, size=input_size, seed=network.seed, light_augmentation=light_augmentation
        )

    def prepare(self, progress: ProgressCallback = no_progress) -> None:
        """Read all pictures once, let the teachers label the faces, and keep those of the validation split."""
        check_pictures(self.training)
        if self.teachers:
            self._learn_from_teachers(progress)
        size = self.dataset.size
        self.images = torch.from_numpy(np.stack([resized(read_aligned_crop(f), size) for f in self.held.files]))

    def _learn_from_teachers(self, progress: ProgressCallback) -> None:
        self.teachers.to(next(self.net.parameters()).device)
        unlabelled = find_faces(self.teachers.files, progress)
        aligned = [whole_picture(file) for file in self.training.files]
        aligned += [alignment_matrix(points, scale=CROP_SCALE, size=1) for points in unlabelled.points]
        faces = Regions((*self.training.files, *unlabelled.files), np.stack(aligned))
        self.dataset.add_taught(teach_ages(self.teachers, faces, progress=progress), unlabelled)

    def losses(self, outputs: tuple[Tensor, Tensor], targets: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """Compute the losses of a batch."""
        age, female, *taught = targets
        parts = self.weighted(*outputs, age, female)
        return parts | self.teachers.weigh(self.weighted(*outputs, *taught)) if self.teachers else parts

    def validate(self, net: nn.Module) -> dict[str, float]:
        """Compute mean absolute error, CS@5, gender accuracy, and the scale of the age's standard deviation."""
        age, female, std = (output.numpy() for output in predict_batches(net, self.images))
        measures = age_gender_measures(age, female, self.held.age, self.held.female)
        return measures | {STD_SCALE: deviation_scale(age, std, self.held.age)}


def deviation_scale(age: FloatArray, std: FloatArray, labelled: FloatArray) -> float:
    """Return the factor on standard deviations (n,) for which 68 % of the labelled ages lie within one."""
    return float(np.percentile(np.abs(age - labelled) / np.maximum(std, 1e-6), 68))
