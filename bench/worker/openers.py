"""Functions that open a candidate in its process; see `Candidate.opener`."""

from __future__ import annotations

from ...runtime.backends.open_runner import open_model as open_runner
from ...runtime.backends.ort.io_binding import CallMode
from ...runtime.backends.ort.onnx_runner import OnnxRunner
from ...runtime.errors import InputError, ProviderError
from ...runtime.models.model_file import ModelFile
from ...runtime.models.runner import Provider
from ..timing.measurement import Level
from .candidate import Candidate
from .foreign import open_foreign
from .pipeline_target import PipelineTarget
from .targets import ModelTarget, Target


def open_model(candidate: Candidate) -> Target:
    """Open a model file on the provider `candidate.device`.

    Raises:
        InputError: A foreign model, which mien cannot run on a picture, was requested at the level picture.
        ModelError: The file is not a model.
        ProviderError: The model does not run on the provider, or not in the mode `candidate.mode`.
    """
    if ModelFile.of(candidate.path).metadata is None:
        if candidate.level is Level.PICTURE:
            raise InputError("a foreign model can only be measured at the level model")
        return open_foreign(candidate)
    provider = Provider(candidate.device)
    if not candidate.mode:
        return ModelTarget(open_runner(candidate.path, provider=provider, threads=candidate.threads), candidate)
    mode = CallMode(candidate.mode)
    runner = OnnxRunner(candidate.path, provider=provider, threads=candidate.threads, mode=mode)
    if runner.mode is not mode:
        raise ProviderError(f"no CUDA graph was captured, as not every node of {candidate.path.name} runs on CUDA")
    return ModelTarget(runner, candidate)


def open_pipeline(candidate: Candidate) -> Target:
    """Open the pipeline on the clip `candidate.path`."""
    return PipelineTarget(candidate)
