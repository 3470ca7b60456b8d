"""Open models as they are named on the command line."""

from __future__ import annotations

from pathlib import Path

from ..runtime.errors import ProviderError
from ..runtime.open_model import open_model
from ..runtime.pipeline import Pipeline
from ..runtime.runner import Precision, Provider, Runner
from .messages import needs_torch


def open_runner(path: Path, *, provider: Provider, threads: int) -> Runner:
    """Open a model file, or a checkpoint in eager PyTorch on the CPU.

    Raises:
        ModelError: neither of the two.
        ProviderError: `provider` is not what would really run.
    """
    if path.suffix.lower() != ".pt":
        return open_model(path, provider=provider, threads=threads)
    if provider not in (Provider.AUTO, Provider.CPU):
        raise ProviderError(
            f"{provider.value} was asked for, but {path} is a checkpoint, which runs in PyTorch on the CPU; run: "
            f"mien export {path} -o {path.stem}.onnx, and take that file"
        )
    with needs_torch():
        from .eager_runner import EagerRunner
    return EagerRunner(path, threads=threads)


def open_pipeline(
    model: Path | None,
    detector: Path | None,
    age_gender: Path | None = None,
    *,
    bundle: Path | None = None,
    precision: Precision = Precision.FP32,
    attributes: bool = False,
    provider: Provider,
    threads: int,
    max_side: int,
) -> Pipeline:
    """Open the models of a pipeline; but for the detector they may be checkpoints. A named model is wanted."""
    return Pipeline.load(
        model=model,
        detector=detector,
        age_gender=age_gender,
        bundle=bundle,
        precision=precision,
        attributes=attributes or age_gender is not None,
        provider=provider,
        threads=threads,
        max_side=max_side,
        open_runner=open_runner,
    )
