"""Functions that open a candidate in the measured process; see `Candidate.opener`."""

from __future__ import annotations

from ...runtime.backends.open_runner import open_model as open_runner
from ...runtime.errors import InputError
from ...runtime.models.model_file import ModelFile
from ...runtime.models.runner import Provider
from ..timing.measurement import Level
from .candidate import Candidate
from .foreign import open_foreign
from .pipeline_target import PipelineTarget
from .targets import ModelTarget, Target


def open_model(candidate: Candidate) -> Target:
    """Open a model file on the provider `candidate.device`: one of mien behind its runner, a foreign one bare."""
    if ModelFile.of(candidate.path).metadata is None:
        if candidate.level is Level.PICTURE:
            raise InputError("a foreign file can only be measured at the level model")
        return open_foreign(candidate)
    runner = open_runner(candidate.path, provider=Provider(candidate.device), threads=candidate.threads)
    return ModelTarget(runner, candidate)


def open_pipeline(candidate: Candidate) -> Target:
    """Open the pipeline over the clip `candidate.path`."""
    return PipelineTarget(candidate)
