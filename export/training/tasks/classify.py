"""Classification task of the training loop: transfer learning on folders of images, or a small network from scratch."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import Dataset, TensorDataset

from ....bench.data.class_folders import ClassTable, read_classes
from ....runtime.models.spec import ModelSpec, Task
from ....runtime.vision.resize import resized
from ...networks.build_network import build_classifier
from ...networks.residual_net import ResLayerNet
from ..augmentation import colour
from ..batches import AugmentedDataset, predict_batches
from ..config import NetworkConfig, ProgressCallback, no_progress
from ..losses import classification_loss
from ..pictures import read_training_image
from .frozen_features import compute_features

OUTPUTS = ("probabilities",)


class ClassImages(AugmentedDataset):
    """Whole images, mirrored and recoloured at random.

    Samples are (image, label): image (size, size, 3) uint8 BGR and the class index.
    """

    def __init__(self, table: ClassTable, *, size: int, seed: int) -> None:
        super().__init__(seed)
        self.images = [resized(read_training_image(f), size) for f in table.files]
        self.labels = table.labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        rng = self.rng(index)
        pixels = self.images[index]
        if rng.random() < 0.5:
            pixels = np.ascontiguousarray(pixels[:, ::-1])
        return torch.from_numpy(colour(pixels, rng)), torch.tensor(self.labels[index])


class ClassifyTraining:
    """Training of a classifier; a pretrained backbone is frozen and its features are computed once.

    See `Training` for the attributes.
    """

    score = "val_loss"

    def __init__(
        self,
        data: Path,
        network: NetworkConfig,
        *,
        input_size: int = 224,
    ) -> None:
        table = read_classes(data)
        held = table.held_out()
        self.training, self.held = table.mask(~held), table.mask(held)
        self.config: dict[str, Any] = {
            **network.settings(data, labels=[table]),
            "classes": list(table.classes),
            "input_size": input_size,
        }
        self.spec = ModelSpec(
            task=Task.CLASSIFY,
            input_size=(input_size, input_size),
            outputs=OUTPUTS,
            classes=table.classes,
            provenance=network.provenance(data),
        )
        self.net = build_classifier(
            network.backbone,
            classes=len(table.classes),
            weights=network.weights,
            normalization=network.normalization,
        )
        self.trained_by = "logits" if isinstance(self.net, ResLayerNet) else "head_of"
        self.size, self.seed = input_size, network.seed

    def prepare(self, progress: ProgressCallback = no_progress) -> None:
        """Compute the features of a frozen backbone, or read the images for a network trained as a whole."""
        self.dataset: Dataset[Any]
        if isinstance(self.net, ResLayerNet):
            self.dataset = ClassImages(self.training, size=self.size, seed=self.seed)
            held = [resized(read_training_image(f), self.size) for f in self.held.files]
            self.held_inputs = torch.from_numpy(np.stack(held))
            return
        # Pooling is the head's first layer; on pooled features it has no effect.
        pooled = partial(
            compute_features,
            self.net,
            size=self.size,
            reduce=lambda features: F.adaptive_avg_pool2d(features, 1),
            progress=progress,
        )
        features = [pooled(self.training.files, mirrored=mirrored) for mirrored in (False, True)]
        self.dataset = TensorDataset(torch.cat(features), torch.from_numpy(self.training.labels).repeat(2))
        self.held_inputs = pooled(self.held.files)

    def losses(self, outputs: Tensor, targets: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """Compute the cross entropy of a batch."""
        return {"entropy": classification_loss(outputs, targets[0])}

    def validate(self, net: nn.Module) -> dict[str, float]:
        """Compute the loss, and the accuracy in percent."""
        (logits,) = predict_batches(net, self.held_inputs, method=self.trained_by)
        predicted = (logits[:, 0] > 0).long() if logits.shape[1] == 1 else logits.argmax(dim=1)
        labels = torch.from_numpy(self.held.labels)
        return {
            "val_loss": float(classification_loss(logits, labels)),
            "accuracy": float(100 * (predicted == labels).float().mean()),
        }
