"""`mien train landmarks`: data, network and losses of the landmark model, for the loop."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mien.bench.accuracy.metrics import area_under_curve, depth_error, failure_rate, normalized_mean_error
from mien.bench.data.face_boxes import read_faces
from mien.bench.data.landmark_labels import DEPTHS, read_landmarks
from mien.bench.data.splits import training_split
from mien.export.networks.build_network import continue_from
from mien.export.networks.landmark_net import OUTPUTS, LandmarkNet
from mien.export.networks.normalization import Normalization
from mien.export.training.augmentation import LIGHT_AUGMENTATION, STRONG
from mien.export.training.config import Share, TrainConfig
from mien.export.training.landmark_crops import CropSize, LandmarkCrops, shifted_crops, validation_crops
from mien.export.training.loop import predict_batches, shuffled
from mien.export.training.losses import landmark_losses
from mien.runtime.errors import InputError
from mien.runtime.images import pictures_in
from mien.runtime.models.spec import ModelSpec, Task

CROP_SCALE = 1.3


class LandmarkTraining:
    """The landmark task: fine-tunes the whole network, or with `frozen` only decoder and heads."""

    score = "nme"
    trained_by = "heat_maps"

    def __init__(
        self,
        data: Path,
        *,
        backbone: str,
        weights: str,
        normalization: Normalization,
        frozen: bool,
        input_size: int = 112,
        negatives: Path | None = None,
        init_from: Path | None = None,
        light_augmentation: bool = False,
        dims: int | None = None,
        seed: int = 0,
    ) -> None:
        table = read_landmarks(data)
        has_depth = bool(np.isfinite(table.depth).any())
        if dims == 3 and not has_depth:
            raise InputError(f"{data} has no {DEPTHS} to learn depth from; train with --dims 2")
        dims = dims or (3 if has_depth else 2)
        if dims == 2:
            table = replace(table, depth=np.full_like(table.depth, np.nan))
        validation = training_split(table.subjects, data, noun="subject")
        self.config: dict[str, Any] = {
            "backbone": backbone,
            "normalization": normalization.value,
            "input_size": input_size,
            "frozen": frozen,
            "light_augmentation": light_augmentation,
            "dims": dims,
            "weights": Path(weights).name,
            "data": data.name,
            "negatives": negatives.name if negatives is not None else None,
        }
        provenance = {"backbone": backbone, "data": data.name, "seed": str(seed)}
        self.net = LandmarkNet(
            backbone,
            weights="none" if init_from is not None else weights,
            normalization=normalization,
            input_size=input_size,
            dims=dims,
        )
        if init_from is not None:
            provenance["started_from"] = self.config["started_from"] = continue_from(init_from, self.net)
        if frozen:
            self.net.backbone.requires_grad_(False)
        self.spec = ModelSpec(
            task=Task.LANDMARKS,
            input_size=(input_size, input_size),
            outputs=OUTPUTS,
            crop_scale=CROP_SCALE,
            points="ibug68",
            dims=dims,
            provenance=provenance,
        )
        shape = CropSize(input_size, CROP_SCALE)
        training = ~validation
        boxes = [b for b, keep in zip(read_faces(data).boxes, training, strict=True) if keep]
        self.crops = LandmarkCrops(
            table.mask(training),
            shape=shape,
            seed=seed,
            faces_of=boxes,
            negatives=pictures_in(negatives) if negatives is not None else (),
            strength=LIGHT_AUGMENTATION if light_augmentation else STRONG,
        )
        held = table.mask(validation)
        self.sources = np.array(held.sources)
        self.images, self.points = validation_crops(held, shape)
        self.lost = shifted_crops(held, shape, shift=0.8)

    def batches(self, epoch: int, train: TrainConfig, share: Share) -> DataLoader[tuple[Tensor, ...]]:
        """Yield (images, points, presence)."""
        self.crops.epoch = epoch
        return shuffled(self.crops, epoch, train, share)

    def losses(self, outputs: tuple[Tensor, Tensor, Tensor], targets: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """Parts of the loss of one batch."""
        return landmark_losses(*outputs, *targets)

    def validate(self, net: nn.Module) -> dict[str, float]:
        """NME by source, depth error, and how well presence tells a face from a crop that has lost it."""
        predicted, presence = predict_batches(net, self.images)
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
        lost = predict_batches(net, self.lost)[1]
        metrics["presence_accuracy"] = float(50 * (presence > 0.5).mean() + 50 * (lost < 0.5).mean())
        return metrics
