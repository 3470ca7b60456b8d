"""Landmark task of the training loop."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ....bench.accuracy.metrics import area_under_curve, depth_error, failure_rate, normalized_mean_error
from ....bench.data.face_boxes import landmarked_faces
from ....bench.data.landmark_labels import DEPTHS, read_landmarks
from ....bench.data.splits import held_out_from_training
from ....runtime.errors import InputError
from ....runtime.models.spec import ModelSpec, Task
from ....runtime.pictures.folders import pictures_in
from ...networks.build_network import load_initial_weights
from ...networks.landmark_net import OUTPUTS, LandmarkNet
from ..augmentation import LIGHT, STRONG
from ..batches import predict_batches
from ..config import NO_TEACHERS, DistillationConfig, NetworkConfig, ProgressCallback, no_progress
from ..distillation import Teachers
from ..losses import landmark_losses
from .label_offsets import label_offsets
from .landmark_crops import LANDMARK_CROP_SCALE, LandmarkCrops, shifted_crops, validation_crops
from .taught_points import teach_points
from .unlabelled_faces import find_faces


class LandmarkTraining:
    """Training of the landmark network, or with `frozen` only of its decoder and heads.

    See `Training` for the attributes.
    """

    score = "nme"
    trained_by = "heat_maps"

    def __init__(
        self,
        data: Path,
        network: NetworkConfig,
        *,
        frozen: bool = False,
        input_size: int = 112,
        negatives: Path | None = None,
        light_augmentation: bool = False,
        dims: int | None = None,
        distillation: DistillationConfig = NO_TEACHERS,
    ) -> None:
        table = read_landmarks(data)
        has_depth = bool(np.isfinite(table.depth).any())
        if dims == 3 and not has_depth:
            raise InputError(f"{data} has no {DEPTHS} to learn depth from; train with --dims 2")
        dims = dims or (3 if has_depth else 2)
        if dims == 2:
            table = replace(table, depth=np.full_like(table.depth, np.nan))
        faces = landmarked_faces(table, data)
        boxes_of = dict(zip(faces.files, faces.boxes, strict=True))
        other_files = pictures_in(negatives) if negatives is not None else []
        held = held_out_from_training(table.subjects, data, noun="subject")
        self.net = LandmarkNet(
            network.backbone,
            weights=network.backbone_weights,
            normalization=network.normalization,
            input_size=input_size,
            dims=dims,
        )
        started = load_initial_weights(self.net, network.init_from, new_layers_only=network.new_layers_only)
        if frozen:
            self.net.backbone.requires_grad_(False)
        self.initialized = bool(started) and not network.new_layers_only
        self.teachers = Teachers(distillation, Task.LANDMARKS, table.files)
        self.config: dict[str, Any] = {
            **network.settings(data, labels=[table, faces, other_files, self.teachers.files]),
            **started,
            **self.teachers.settings,
            "input_size": input_size,
            "frozen": frozen,
            "light_augmentation": light_augmentation,
            "dims": dims,
            "negatives": negatives.name if negatives is not None else None,
        }
        self.spec = ModelSpec(
            task=Task.LANDMARKS,
            input_size=(input_size, input_size),
            outputs=OUTPUTS,
            crop_scale=LANDMARK_CROP_SCALE,
            points="ibug68",
            dims=dims,
            provenance=network.provenance(data) | started | self.teachers.provenance,
        )
        self.training = table.mask(~held)
        self.dataset = LandmarkCrops(
            self.training,
            size=input_size,
            seed=network.seed,
            faces_of=[boxes_of[file] for file in self.training.files],
            negatives=other_files,
            strength=LIGHT if light_augmentation else STRONG,
        )
        self.held = table.mask(held & ~table.in_test_split())
        self.sources = np.array(self.held.sources)

    def prepare(self, progress: ProgressCallback = no_progress) -> None:
        """Read the pictures, let the teachers look at the faces, and cut the crops to validate on."""
        self.dataset.read_images()
        if self.initialized:
            self.dataset.offsets = label_offsets(self.net, self.training, self.dataset.size)
        if self.teachers:
            self._learn_from_teachers(progress)
        images, self.points = validation_crops(self.held, self.dataset.size)
        self.images = torch.from_numpy(images)
        self.lost = torch.from_numpy(shifted_crops(self.held, self.dataset.size, shift=0.8))

    def _learn_from_teachers(self, progress: ProgressCallback) -> None:
        self.teachers.to(next(self.net.parameters()).device)
        unlabelled = find_faces(self.teachers.files, progress)
        files = (*self.training.files, *unlabelled.files)
        points = np.concatenate([self.training.points, unlabelled.points])
        taught = teach_points(self.teachers, files, points, progress=progress)
        if self.net.dims == 2:
            taught.points[..., 2] = np.nan
        self.dataset.add_taught(taught, unlabelled)

    def losses(self, outputs: tuple[Tensor, Tensor, Tensor], targets: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """Compute the losses of a batch."""
        points, is_face, *taught = targets
        parts = landmark_losses(*outputs, points, is_face)
        return parts | self.teachers.weigh(landmark_losses(*outputs, *taught)) if self.teachers else parts

    def validate(self, net: nn.Module) -> dict[str, float]:
        """Compute NME by source, depth error, and how well presence separates good crops from bad ones."""
        predicted, presence = (output.numpy() for output in predict_batches(net, self.images))
        errors = normalized_mean_error(predicted, self.points)
        metrics = {
            "nme": float(errors.mean()),
            "auc8": area_under_curve(errors),
            "fr8": failure_rate(errors),
        }
        for source in np.unique(self.sources):
            metrics[f"nme_{source}"] = float(errors[self.sources == source].mean())
        depth = depth_error(predicted, self.points)
        if np.isfinite(depth).any():
            metrics["depth_error"] = float(np.nanmean(depth))
        lost = predict_batches(net, self.lost)[1].numpy()
        metrics["presence_accuracy"] = float(50 * (presence > 0.5).mean() + 50 * (lost < 0.5).mean())
        return metrics
