"""Face detection task of the training loop."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ....bench.accuracy.metrics import Detections, detection_curve
from ....bench.data.face_boxes import BOXES, FaceTable, has_boxes, held_out_pictures, pictures_in_test_split, read_faces
from ....runtime.errors import InputError
from ....runtime.models.spec import ModelSpec, Task
from ....runtime.values import FloatArray, Image
from ....runtime.vision.boxes import select_boxes
from ....runtime.vision.resize import pad_to_multiple, reduced
from ....runtime.wording import counted
from ...networks.build_network import copy_shared_layers, load_initial_weights
from ...networks.checkpoint import load_checkpoint
from ...networks.detector_net import LEVELS, OUTPUTS, DetectorNet
from ..batches import predict_batches
from ..config import NO_TEACHERS, DistillationConfig, NetworkConfig, ProgressCallback, no_progress
from ..distillation import Teachers
from ..losses import detector_losses, distillation_losses
from ..pictures import read_training_image
from .detector_scenes import DetectorScenes
from .unlabelled_faces import readable_pictures

MAX_SIDE_PX = 640
"""Larger pictures are reduced for the validation, as at run time."""
MIN_SCORE = 0.05
"""Minimum score of a detection in the validation, low enough for a whole precision-recall curve."""
log = logging.getLogger("mien")


class DetectorTraining:
    """Training of the detector; with ImageNet weights, the layers up to stride 4, the most expensive ones, are frozen.

    With teachers, it also learns from their scores, boxes and features, and starts from the first one's layers as far
    as it has them.

    See `Training` for the attributes.
    """

    score = "missed"
    trained_by = "raw_and_pyramid"

    def __init__(
        self,
        data: Sequence[Path],
        network: NetworkConfig,
        *,
        input_size: int = 320,
        scenes: int = 2400,
        distillation: DistillationConfig = NO_TEACHERS,
    ) -> None:
        self.net = DetectorNet(network.backbone, weights=network.backbone_weights, normalization=network.normalization)
        training, validation, tested = zip(*(split(folder) for folder in data), strict=True)
        labelled = [file for table in (*training, *validation, *tested) for file in table.files]
        self.teachers = Teachers(distillation, Task.DETECTOR, labelled)
        if self.teachers and network.init_from is None:
            self._start_from(distillation.teachers[0], network)
        started = load_initial_weights(self.net, network.init_from, new_layers_only=network.new_layers_only)
        if self.net.backbone.pretrained and network.init_from is None:
            self.net.backbone.stages[0].requires_grad_(False)
        self.config: dict[str, Any] = {
            **network.settings(*data, labels=[*training, *validation, self.teachers.files]),
            **started,
            **self.teachers.settings,
            "input_size": input_size,
            "scenes": scenes,
        }
        self.spec = ModelSpec(
            task=Task.DETECTOR,
            input_size=(input_size, input_size),
            outputs=OUTPUTS,
            classes=("face",),
            provenance=network.provenance(*data) | started | self.teachers.provenance,
        )
        self.dataset = DetectorScenes(
            training,
            size=input_size,
            length=scenes,
            seed=network.seed,
            unlabelled=self.teachers.files,
        )
        boxed = [v for folder, v in zip(data, validation, strict=True) if has_boxes(folder)]
        if not boxed:
            raise InputError(f"no --data folder has a {BOXES}; one is needed to validate the detector")
        self.held = FaceTable.concat(boxed)
        if not any(len(boxes) for boxes in self.held.boxes):
            raise InputError(
                f"the validation split, {counted(len(self.held), 'picture')} of the folders with {BOXES}, shows no "
                "face; label more pictures"
            )

    def _start_from(self, teacher: Path, network: NetworkConfig) -> None:
        """Copy the layers that a teacher has too, unless its input scale would spoil pretrained weights."""
        checkpoint = load_checkpoint(teacher)
        if network.weights != "none" and checkpoint.config["normalization"] != network.normalization.value:
            log.warning("no layer starts from %s, as its input scale is another than that of --weights", teacher)
        else:
            copy_shared_layers(self.net, checkpoint.weights)

    def prepare(self, progress: ProgressCallback = no_progress) -> None:
        """Read the pictures, and check the unlabelled ones, which are read again as they are drawn."""
        self.teachers.to(next(self.net.parameters()).device)
        self.dataset.unlabelled = readable_pictures(self.teachers.files, progress)
        self.dataset.read_images()
        self.images = [read_training_image(f) for f in self.held.files]

    def losses(self, outputs: tuple[Tensor, Tensor, list[Tensor]], targets: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """Compute the losses of a batch."""
        logits, boxes, levels = outputs
        labelled_boxes, labels, images = targets
        parts = detector_losses(logits, boxes, labelled_boxes, labels)
        if not self.teachers:
            return parts
        with torch.no_grad():
            taught = [teacher.net.raw_and_pyramid(images) for teacher in self.teachers.members]
        return parts | self.teachers.weigh(distillation_losses(logits, boxes, levels, taught))

    def validate(self, net: nn.Module) -> dict[str, float]:
        """Compute AP50 by minimum face size, and recall at 90 % precision for faces of at least 40 px."""
        pictures = []
        for image, labelled in zip(self.images, self.held.boxes, strict=True):
            boxes, scores = _detect(net, image)
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


def split(folder: Path) -> tuple[FaceTable, FaceTable, FaceTable]:
    """Read a folder, and split it into training, validation and test as the other tasks do."""
    table = read_faces(folder)
    held = held_out_pictures(folder, table)
    tested = held & pictures_in_test_split(folder, table)
    return table.mask(~held), table.mask(held & ~tested), table.mask(tested)


def _detect(net: nn.Module, image: Image) -> tuple[FloatArray, FloatArray]:
    """Return the boxes (n, 4), xyxy in px, and the scores (n,) of the faces in an image (h, w, 3) uint8 BGR."""
    scaled, factor = reduced(image, MAX_SIDE_PX)
    boxes, scores = predict_batches(net, torch.from_numpy(pad_to_multiple(scaled, LEVELS[-1])).unsqueeze(0))
    found, found_scores = select_boxes(boxes[0].numpy(), scores[0].numpy(), threshold=MIN_SCORE)
    return found / factor, found_scores
