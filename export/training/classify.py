"""`mien train classify`: transfer learning on a folder a class, as in the chapter, or a small network from scratch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, TensorDataset

from mien.bench.data.class_folders import ClassTable, read_classes
from mien.export.networks.build_network import classifier
from mien.export.networks.frozen_backbone_nets import ChapterClassifier
from mien.export.networks.normalization import Normalization
from mien.export.networks.residual_net import ResLayerNet
from mien.export.training.augmentation import colour
from mien.export.training.config import Share, TrainConfig
from mien.export.training.frozen_features import features_of
from mien.export.training.loop import in_batches, shuffled
from mien.runtime.errors import InputError
from mien.runtime.images import read_image
from mien.runtime.models.spec import ModelSpec, Task
from mien.runtime.values import Image
from mien.runtime.vision.crop import resized

OUTPUTS = ("probabilities",)


class ClassPictures(Dataset[tuple[Tensor, Tensor]]):
    """Whole pictures, mirrored and recoloured at random: image (h, w, 3) uint8 and label."""

    def __init__(self, table: ClassTable, *, size: int, seed: int) -> None:
        self.images = [resized(read_image(f), size) for f in table.files]
        self.labels = table.labels
        self.seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        rng = np.random.default_rng((self.seed, self.epoch, index))
        pixels = self.images[index]
        if rng.random() < 0.5:
            pixels = np.ascontiguousarray(pixels[:, ::-1])
        return torch.from_numpy(colour(pixels, rng)), torch.tensor(self.labels[index])


class ClassifyTraining:
    """The classification task. A pretrained backbone is frozen and its features are computed once."""

    score = "val_loss"

    def __init__(
        self,
        data: Path,
        *,
        backbone: str,
        weights: str,
        normalization: Normalization,
        input_size: int = 224,
        seed: int = 0,
    ) -> None:
        table = read_classes(data)
        validation = table.validation()
        training, held = table.mask(~validation), table.mask(validation)
        self.config: dict[str, Any] = {
            "backbone": backbone,
            "normalization": normalization.value,
            "classes": len(table.classes),
            "input_size": input_size,
            "weights": Path(weights).name,
            "data": data.name,
        }
        self.spec = ModelSpec(
            task=Task.CLASSIFY,
            input_size=(input_size, input_size),
            outputs=OUTPUTS,
            classes=table.classes,
            provenance={"backbone": backbone, "data": data.name, "seed": str(seed)},
        )
        self.net = classifier(backbone, classes=len(table.classes), weights=weights, normalization=normalization)
        self.items: Dataset[Any]
        self.held_labels = torch.from_numpy(held.labels)
        if isinstance(self.net, ResLayerNet):
            self.trained_by = "logits"
            self.items = ClassPictures(training, size=input_size, seed=seed)
            self.held = torch.from_numpy(stacked(held, input_size))
        else:
            self.trained_by = "head_of"
            pooled, labels = _pooled_features(self.net, training, input_size)
            self.items = TensorDataset(pooled, labels)
            self.held = features_of(self.net, held.files, size=input_size, reduce=pool)

    def batches(self, epoch: int, train: TrainConfig, share: Share) -> DataLoader[tuple[Tensor, ...]]:
        """Yield (features or images, labels)."""
        if isinstance(self.items, ClassPictures):
            self.items.epoch = epoch
        return shuffled(self.items, epoch, train, share)  # type: ignore[arg-type]

    def losses(self, outputs: Tensor, targets: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """Cross-entropy of one batch."""
        return {"entropy": cross_entropy(outputs, targets[0])}

    def validate(self, net: nn.Module) -> dict[str, float]:
        """Loss and accuracy in percent."""
        logits = in_batches(net, self.trained_by, self.held)
        right = predicted_class(logits) == self.held_labels
        return {
            "val_loss": float(cross_entropy(logits, self.held_labels)),
            "accuracy": float(100 * right.float().mean()),
        }


def _pooled_features(net: ChapterClassifier, table: ClassTable, size: int) -> tuple[Tensor, Tensor]:
    """Features of every picture and of its mirror image, and their labels."""
    both = [features_of(net, table.files, size=size, mirrored=m, reduce=pool) for m in (False, True)]
    return torch.cat(both), torch.from_numpy(table.labels).repeat(2)


def pool(features: Tensor) -> Tensor:
    """The head's first layer, which changes nothing when it is run again."""
    return F.adaptive_avg_pool2d(features, 1)


def stacked(table: ClassTable, size: int) -> Image:
    """All pictures (n, size, size, 3)."""
    if not len(table):
        raise InputError("the validation split is empty; more pictures are needed")
    return np.stack([resized(read_image(f), size) for f in table.files])


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Of one logit (b, 1) for the second of two classes, or of a logit for each class."""
    if logits.shape[1] == 1:
        return F.binary_cross_entropy_with_logits(logits[:, 0], labels.float())
    return F.cross_entropy(logits, labels)


def predicted_class(logits: Tensor) -> Tensor:
    """Class indices (b,)."""
    return (logits[:, 0] > 0).long() if logits.shape[1] == 1 else logits.argmax(dim=1)
