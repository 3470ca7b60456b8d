"""Checkpoints: weights, spec, configuration and metrics in one file that loads with ``weights_only=True``."""

from __future__ import annotations

import hashlib
import os
import pickle
import struct
import warnings
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mien.runtime.errors import ModelError, OutputError
from mien.runtime.models.spec import ModelSpec

FORMAT = "mien-checkpoint"
VERSION = 1


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A trained model.

    config: the arguments its network is built from. metrics: of the validation split. training: what `--resume`
    needs (optimizer, schedule, epoch, history); empty in a finished model.
    """

    spec: ModelSpec
    config: dict[str, Any]
    metrics: dict[str, float]
    weights: dict[str, Tensor]
    training: dict[str, Any] = field(default_factory=dict)


def weights_sha256(weights: dict[str, Tensor]) -> str:
    """Digest of names and values, independent of the file they lie in."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode())
        digest.update(weights[name].detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint; the old file stays whole until the new one is.

    Raises:
        OutputError: the place cannot be written.
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
    partial = path.with_name(path.name + ".partial")
    try:
        torch.save(content, partial)
        os.replace(partial, path)
    except (OSError, RuntimeError) as error:
        partial.unlink(missing_ok=True)
        raise OutputError(f"cannot write {path} ({error})") from error


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint without running any code that it might hold.

    Raises:
        ModelError: missing, truncated, not a checkpoint of mien, or of a later version.
    """
    if not path.is_file():
        raise ModelError(f"no checkpoint {path}")
    try:
        with warnings.catch_warnings():  # a foreign pickle is warned of before it is refused
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ModelError(f"{path} is not a checkpoint: it holds more than tensors and plain values") from error
    except (RuntimeError, EOFError, OSError, ValueError, LookupError, TypeError, struct.error) as error:
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise ModelError(f"{path} is truncated or not a checkpoint ({reason})") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ModelError(f"{path} was not written by mien train")
    try:
        if content["version"] > VERSION:
            raise ModelError(f"{path} is of checkpoint version {content['version']}, this mien reads up to {VERSION}")
        return Checkpoint(
            spec=ModelSpec.from_json(content["spec"], origin=str(path)),
            config=dict(content["config"]),
            metrics=dict(content["metrics"]),
            weights=dict(content["weights"]),
            training=dict(content["training"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"{path} is a damaged checkpoint ({type(error).__name__}: {error})") from error


CHECKPOINTS = Path(__file__).parents[1] / "weights"
