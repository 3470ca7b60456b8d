"""From a model file to a `Runner` on whatever provider was asked for."""

from __future__ import annotations

import logging
from pathlib import Path

from .accelerator import Accelerator, find_accelerator
from .engine_build import Profile
from .engine_cache import built_profile
from .engine_runner import EngineRunner
from .errors import ProviderError
from .onnx_runner import OnnxRunner
from .runner import DEFAULT_THREADS, Provider, Runner

log = logging.getLogger("mien")


def open_model(path: Path, *, provider: Provider = Provider.AUTO, threads: int = DEFAULT_THREADS) -> Runner:
    """Open a model file.

    `Provider.AUTO` takes an engine that is built already, else CUDA if it works, else the CPU, and logs why.
    `Provider.TENSORRT` builds the engine if it must. threads: of one operator on the CPU, 0 for all cores.

    Raises:
        ModelError: missing, no ONNX file, or without mien's metadata.
        ProviderError: `provider` is not what would really run.
    """
    if provider is Provider.TENSORRT:
        return EngineRunner(path)
    if provider is Provider.AUTO and (ready := ready_engine(path)) is not None:
        accelerator, profile = ready
        return EngineRunner(path, accelerator=accelerator, profile=profile)
    return OnnxRunner(path, provider=provider, threads=threads)


def ready_engine(path: Path) -> tuple[Accelerator, Profile] | None:
    """TensorRT, a GPU and the profile of this model's engine, if all are here; building it is never a surprise."""
    if not path.is_file():
        return None  # whoever opens it says so
    try:
        accelerator = find_accelerator()
    except ProviderError as error:
        log.info("auto: no TensorRT (%s)", error)
        return None
    if (profile := built_profile(path, accelerator)) is not None:
        log.info("auto: %s runs in TensorRT", path.name)
        return accelerator, profile
    log.info("auto: no TensorRT engine of %s is built; mien engine %s builds it", path.name, path)
    return None
