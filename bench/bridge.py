"""Interface through which bench measures checkpoints and eager baselines without importing torch."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from ..runtime.models.runner import Runner
from ..runtime.models.spec import ModelSpec


class PyTorchBridge(Protocol):
    """Exports, opens and finds checkpoints. `mien.export.bridge` implements it; `cli.py` hands it in."""

    def export(self, checkpoint: Path, target: Path) -> Path:
        """Export a checkpoint to `target` and return the file that was written."""
        ...

    def export_reference(self, target: Path) -> Path:
        """Write torchvision's mobilenet_v2 at 224 px, with seeded weights, as a model file."""
        ...

    def find_checkpoint(self, spec: ModelSpec, model: Path) -> Path | None:
        """Find the checkpoint whose weights a model file holds: beside the file, or among the shipped ones."""
        ...

    def open_checkpoint(self, checkpoint: Path, *, threads: int) -> Runner:
        """Open a checkpoint in eager PyTorch on the CPU."""
        ...

    def baseline_opener(self) -> str:
        """Name the ``module:function`` that opens a baseline in a separate process; see `Candidate.opener`."""
        ...
