"""Teachers: trained networks whose predictions a student learns, on labelled and on unlabelled pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...runtime.errors import InputError
from ...runtime.models.spec import ModelSpec, Task
from ...runtime.pictures.folders import pictures_in
from ..networks.build_network import build_network
from ..networks.checkpoint import load_checkpoint
from ..networks.frozen_backbone_nets import RECIPE
from ..networks.half_precision import fold_batch_norms
from .config import NO_TEACHERS, DistillationConfig


@dataclass(frozen=True, slots=True)
class Teacher:
    """Trained network with frozen weights.

    Attributes:
        net: Network in evaluation mode.
        spec: Its description, with the digest of its weights.
    """

    net: Any
    spec: ModelSpec


class Teachers:
    """Teachers of a training, and the pictures that only they label.

    Attributes:
        members: The teachers; none for a training on labels alone.
        files: The unlabelled pictures.
        settings: Part of a checkpoint's configuration that names them.
        provenance: Part of a model file's provenance that names them.
    """

    def __init__(self, config: DistillationConfig, task: Task, labelled: Sequence[Path]) -> None:
        """Open the teachers, and list the pictures of the unlabelled folders.

        Args:
            config: Checkpoints and folders.
            task: Task of the student.
            labelled: Pictures with labels, for training or held out, to leave out of the unlabelled folders.

        Raises:
            ModelError: A file is not a checkpoint.
            InputError: A checkpoint is for another task; unlabelled pictures or a weight were given without a teacher;
                or a folder has no pictures, or only labelled ones.
        """
        self.members = [_open_teacher(path, task) for path in config.teachers]
        if not self.members and config.unlabelled:
            raise InputError("--unlabelled pictures need a --teacher to label them; pass one")
        if not self.members and config.weight != NO_TEACHERS.weight:
            raise InputError("--teacher-weight needs a --teacher; pass one")
        if not 0 < config.weight < math.inf:
            raise InputError(f"expected a --teacher-weight above 0, found {config.weight:g}")
        self._weight = config.weight
        known = {file.resolve() for file in labelled} if config.unlabelled else set()
        self.files = [f for folder in config.unlabelled for f in pictures_in(folder) if f.resolve() not in known]
        if config.unlabelled and not self.files:
            raise InputError("all --unlabelled pictures are pictures of --data, which are left out; pass other folders")
        digests = [teacher.spec.weights_sha256 for teacher in self.members]
        names = [folder.name for folder in config.unlabelled]
        self.settings: dict[str, Any] = {}
        self.provenance: dict[str, str] = {}
        if self.members:
            self.settings = {"teachers": digests, "teacher_weight": config.weight, "unlabelled": names}
            self.provenance = {"teachers": ", ".join(digest[:12] for digest in digests)}
        if names:
            self.provenance["unlabelled"] = ", ".join(names)

    def __bool__(self) -> bool:
        return bool(self.members)

    def to(self, device: torch.device) -> None:
        """Move the networks to a device."""
        for teacher in self.members:
            teacher.net.to(device)

    def weigh(self, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the losses against the teachers' predictions, weighted, and with names that say so."""
        return {f"teacher_{name}": self._weight * loss for name, loss in losses.items()}


def _open_teacher(path: Path, task: Task) -> Teacher:
    checkpoint = load_checkpoint(path)
    found = checkpoint.spec.task
    if found is not task:
        raise InputError(f"--teacher {path} is a model for {found.value}, expected one for {task.value}")
    if checkpoint.config.get("recipe") == RECIPE:
        raise InputError(f"--teacher {path} was trained with --recipe {RECIPE}, expected --recipe own")
    net = build_network(checkpoint).requires_grad_(False)
    fold_batch_norms(net)  # twice as fast
    return Teacher(net.to(memory_format=torch.channels_last), checkpoint.spec)
