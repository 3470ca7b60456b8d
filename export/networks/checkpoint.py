"""Checkpoints: weights, spec, configuration and metrics in one file that loads with ``weights_only=True``."""

from __future__ import annotations

import hashlib
import io
import pickle
import struct
import warnings
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...runtime.atomic_file import write_file
from ...runtime.errors import InputError, ModelError
from ...runtime.file_kinds import FileKind, check_file, is_folder, kind_of_file
from ...runtime.models.spec import ModelSpec

FORMAT = "mien-checkpoint"
VERSION = 1
UNREADABLE = (
    *(RuntimeError, EOFError, OSError, ValueError, LookupError, TypeError),
    *(struct.error, pickle.UnpicklingError),
)
"""What `torch.load` raises for a file that it cannot read."""
CHECKPOINTS = Path(__file__).parents[1] / "weights"
"""Folder of the shipped checkpoints."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Trained model.

    Attributes:
        spec: Description, which exporting copies to the model file.
        config: Arguments to build the network, and training settings.
        metrics: Metrics on the validation split.
        weights: State dict of the network.
        training: State that ``--resume`` needs (optimizer, epoch, history); empty in a finished model.
    """

    spec: ModelSpec
    config: dict[str, Any]
    metrics: dict[str, float]
    weights: dict[str, Tensor]
    training: dict[str, Any] = field(default_factory=dict)


def weights_sha256(weights: dict[str, Tensor]) -> str:
    """Return the SHA-256 of names and values, independent of the file format."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode())
        digest.update(weights[name].detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint atomically: an existing file is replaced only once the new one is complete.

    Args:
        path: File to write.
        checkpoint: Model to write; the digest in its spec is computed from its weights.

    Raises:
        OutputError: `path` cannot be written.
    """
    spec = replace(checkpoint.spec, weights_sha256=weights_sha256(checkpoint.weights))
    content = {
        "format": FORMAT,
        "version": VERSION,
        "spec": spec.to_json(),
        "config": checkpoint.config,
        "metrics": checkpoint.metrics,
        "weights": {k: v.detach().cpu().contiguous().clone() for k, v in checkpoint.weights.items()},
        "training": checkpoint.training,
    }
    buffer = io.BytesIO()
    torch.save(content, buffer)
    write_file(path, buffer.getvalue())


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint without executing any code that the file might contain.

    Raises:
        ModelError: The file is missing, truncated, not a mien checkpoint, or of a later version.
    """
    if is_folder(path):
        inside = path / "best.pt"
        raise ModelError(f"{path} is a folder, expected a checkpoint{f'; try {inside}' if inside.is_file() else ''}")
    try:
        check_file(path, "checkpoint")
    except InputError as error:
        raise ModelError(str(error)) from error
    try:
        with warnings.catch_warnings():  # torch warns about a foreign pickle before rejecting it
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except UNREADABLE as error:
        kind = kind_of_file(path)
        if kind not in (FileKind.CHECKPOINT, FileKind.ARCHIVE, FileKind.UNKNOWN):
            raise ModelError(f"{path} is not a checkpoint: it holds {kind.value}; train one with mien train") from error
        if isinstance(error, pickle.UnpicklingError):
            raise ModelError(f"{path} is not a checkpoint: it contains more than tensors and plain values") from error
        raise ModelError(f"{path} is truncated, damaged or not a checkpoint; copy it again, or retrain it") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ModelError(f"{path} was not written by mien train")
    try:
        if content["version"] > VERSION:
            raise ModelError(
                f"{path} has checkpoint version {content['version']}, this mien reads up to {VERSION}; upgrade mien"
            )
        return Checkpoint(
            spec=ModelSpec.from_json(content["spec"], origin=str(path)),
            config=dict(content["config"]),
            metrics=dict(content["metrics"]),
            weights=dict(content["weights"]),
            training=dict(content["training"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{path} is a damaged checkpoint ({type(error).__name__}: {error})") from error
