"""Interface through which bench measures checkpoints and eager baselines without importing torch."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from ..runtime.models.runner import Runner
from ..runtime.models.spec import ModelSpec


class PyTorchBridge(Protocol):
    """Access to PyTorch checkpoints. `mien.export.bridge` implements it, and `cli.py` passes it to the commands."""

    def export(self, checkpoint: Path, target: Path) -> Path:
        """Export a checkpoint to `target` and return the written file."""
        ...

    def export_reference(self, target: Path) -> Path:
        """Write torchvision's mobilenet_v2 at 224 px, with seeded weights, as a model file."""
        ...

    def find_checkpoint(self, spec: ModelSpec, model: Path) -> Path | None:
        """Find the checkpoint that a model was exported from: next to the file, or among the shipped ones."""
        ...

    def open_checkpoint(self, checkpoint: Path, *, threads: int) -> Runner:
        """Open a checkpoint in eager PyTorch on the CPU."""
        ...

    def baseline_opener(self) -> str:
        """Return the ``module:function`` that opens a baseline in a separate process; see `Candidate.opener`."""
        ...
