"""`mien train detector`: data, network and losses of the face detector, for the loop."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mien.bench.accuracy.metrics import Detections, detection_curve
from mien.bench.data.face_boxes import BOXES, FaceTable, held_out_pictures, read_faces
from mien.export.networks.build_network import continue_from
from mien.export.networks.detector_net import LEVELS, OUTPUTS, DetectorNet
from mien.export.networks.normalization import Normalization
from mien.export.training.config import Share, TrainConfig
from mien.export.training.detector_scenes import DetectorScenes
from mien.export.training.loop import shuffled
from mien.export.training.losses import detector_losses
from mien.runtime.errors import InputError
from mien.runtime.faces.detector import reduced
from mien.runtime.images import read_image
from mien.runtime.models.spec import ModelSpec, Task
from mien.runtime.values import FloatArray, Image
from mien.runtime.vision.boxes import pad_to_multiple, select_boxes


class DetectorTraining:
    """The detector task. The layers up to stride 4 stay as pretrained: they are the dearest to train."""

    score = "missed"
    trained_by = "raw"

    def __init__(
        self,
        data: Sequence[Path],
        *,
        backbone: str,
        weights: str,
        normalization: Normalization,
        input_size: int = 320,
        scenes: int = 2400,
        init_from: Path | None = None,
        seed: int = 0,
    ) -> None:
        if input_size % LEVELS[-1]:
            raise InputError(f"wanted an input size that is a multiple of {LEVELS[-1]}, found {input_size}")
        self.config: dict[str, Any] = {
            "backbone": backbone,
            "weights": Path(weights).name,
            "normalization": normalization.value,
            "input_size": input_size,
            "scenes": scenes,
            "data": [d.name for d in data],
        }
        pretrained = "none" if init_from is not None else weights
        self.net = DetectorNet(backbone, weights=pretrained, normalization=normalization)
        provenance = {"backbone": backbone, "data": ", ".join(d.name for d in data), "seed": str(seed)}
        if init_from is not None:
            provenance["started_from"] = self.config["started_from"] = continue_from(init_from, self.net)
        if self.net.backbone.pretrained:
            self.net.backbone.stages[0].requires_grad_(False)
        self.spec = ModelSpec(
            task=Task.DETECTOR,
            input_size=(input_size, input_size),
            outputs=OUTPUTS,
            classes=("face",),
            provenance=provenance,
        )
        training, validation = zip(*(split(folder) for folder in data), strict=True)
        self.scenes = DetectorScenes(training, size=input_size, length=scenes, seed=seed)
        held = [v for folder, v in zip(data, validation, strict=True) if (folder / BOXES).is_file()]
        if not held or not len(held[0]):
            raise InputError(f"no folder with {BOXES} among the data: there is nothing to validate the detector on")
        self.held = FaceTable.concat(held)
        self.images = [read_image(f) for f in self.held.files]

    def batches(self, epoch: int, train: TrainConfig, share: Share) -> DataLoader[tuple[Tensor, ...]]:
        """Yield (images, boxes, labels)."""
        self.scenes.epoch = epoch
        return shuffled(self.scenes, epoch, train, share)

    def losses(self, outputs: tuple[Tensor, Tensor], targets: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """Parts of the loss of one batch."""
        return detector_losses(*outputs, *targets)

    def validate(self, net: nn.Module) -> dict[str, float]:
        """AP50 over held-out pictures by size of face, and the recall at 90 % precision from 40 px on."""
        pictures = []
        for image, labelled in zip(self.images, self.held.boxes, strict=True):
            boxes, scores = detect(net, image)
            pictures.append(Detections(boxes, scores, labelled))
        metrics = {}
        for side in (0, 16, 24, 40):
            curve = detection_curve(pictures, min_side_px=side)
            metrics[f"ap50_{side}px"] = curve.average_precision()
        precise = curve.precision >= 0.9
        metrics["recall_40px"] = float(100 * curve.recall[precise].max()) if precise.any() else 0.0
        metrics["score_40px"] = float(curve.scores[precise].min()) if precise.any() else 1.0
        metrics["missed"] = 100 - (metrics["ap50_16px"] + metrics["ap50_40px"]) / 2
        return metrics


def split(folder: Path) -> tuple[FaceTable, FaceTable]:
    """Training and validation rows of a folder; people and pictures fall on the side they have in every task."""
    table = read_faces(folder)
    held = held_out_pictures(folder, table)
    return table.mask(~held), table.mask(held)


def detect(
    net: nn.Module, image: Image, *, max_side: int = 640, threshold: float = 0.05
) -> tuple[FloatArray, FloatArray]:
    """Boxes (n, 4) in px of `image` and scores (n,) by an eager network."""
    scaled, factor = reduced(image, max_side)
    batch = torch.from_numpy(pad_to_multiple(scaled, LEVELS[-1])).unsqueeze(0).to(next(net.parameters()).device)
    net.eval()
    with torch.inference_mode():
        boxes, scores = net(batch)
    kept = select_boxes(boxes[0].cpu().numpy(), scores[0].cpu().numpy(), threshold=threshold)
    return kept[0] / factor, kept[1]
