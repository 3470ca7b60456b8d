"""Gives `mien.bench` access to PyTorch for checkpoints and eager baselines.

Only the methods import torch, so that a device without it can still measure model files.
"""

from __future__ import annotations

from pathlib import Path

from ..runtime.errors import ModelError
from ..runtime.models.runner import Runner
from ..runtime.models.spec import ModelSpec


class TorchBridge:
    """Implementation of `mien.bench.bridge.PyTorchBridge`."""

    def export(self, checkpoint: Path, target: Path) -> Path:
        """Export a checkpoint to `target` and return the written file."""
        from .convert.to_onnx import export_onnx

        return export_onnx(checkpoint, target).path

    def export_reference(self, target: Path) -> Path:
        """Write torchvision's mobilenet_v2 at 224 px, with seeded weights, as a model file."""
        from .convert.to_onnx import write_graph
        from .networks.reference_net import SPEC, seeded_reference_net

        write_graph(seeded_reference_net(), SPEC, target)
        return target

    def find_checkpoint(self, spec: ModelSpec, model: Path) -> Path | None:
        """Find the checkpoint that a model was exported from: next to the file, or among the shipped ones."""
        from .networks.checkpoint import CHECKPOINTS, load_checkpoint

        for path in [*sorted(model.parent.glob("*.pt")), *sorted(CHECKPOINTS.glob("*.pt"))]:
            try:
                if load_checkpoint(path).spec.weights_sha256 == spec.weights_sha256:
                    return path
            except ModelError:
                continue  # a .pt file from another program
        return None

    def open_checkpoint(self, checkpoint: Path, *, threads: int) -> Runner:
        """Open a checkpoint in eager PyTorch on the CPU."""
        from .pytorch.eager_runner import open_checkpoint

        return open_checkpoint(checkpoint, threads=threads)

    def baseline_opener(self) -> str:
        """Return the ``module:function`` that opens a baseline in a separate process."""
        return "mien.export.pytorch.bench_targets:open_baseline"
