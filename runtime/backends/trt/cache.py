"""Engines that were built on this machine, kept under the user's cache folder.

An engine belongs to one model file, TensorRT, GPU, driver and profile. All of that is its key and stands in the JSON
beside it; an engine whose key is not exactly the one wanted is never loaded.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mien.runtime.backends.trt.device import Accelerator
from mien.runtime.backends.trt.engine_builder import (
    DEFAULT_WORKSPACE_MB,
    Built,
    Progress,
    build_engine,
    engine_logger,
    load_engine,
)
from mien.runtime.backends.trt.layer_precision import check_types, engine_types
from mien.runtime.backends.trt.store import (
    EngineKey,
    engine_folder,
    keep,
    last_profile,
    locked,
    plan_path,
    read_plan,
    timings,
)
from mien.runtime.errors import ProviderError
from mien.runtime.models.input_shapes import Profile, profile_for
from mien.runtime.models.model_file import ModelFile, ModelSource
from mien.runtime.models.spec import ModelSpec, Precision, precision_of

log = logging.getLogger("mien")

_FLAGS = "strongly typed, without TF32"


@dataclass(frozen=True, slots=True)
class Engine:
    """An engine that TensorRT has loaded. path: where it is kept, None if it could not be. reason: why it was built."""

    engine: Any
    spec: ModelSpec
    profile: Profile
    types: Mapping[str, int]
    path: Path | None
    reason: str


def engine_key(source: ModelSource, accelerator: Accelerator) -> EngineKey:
    """The key of a model's engines on this machine, whatever their profile: it is empty."""
    gpu = accelerator.gpu
    return EngineKey(
        model_sha256=ModelFile.of(source).sha256,
        tensorrt=str(accelerator.tensorrt.__version__),
        gpu=gpu.name,
        compute_capability=gpu.compute_capability,
        driver=gpu.driver,
        profile="",
        flags=_FLAGS,
    )


def open_engine(
    source: ModelSource,
    accelerator: Accelerator,
    *,
    profile: Profile | None = None,
    folder: Path | None = None,
    build: bool = True,
    workspace_mb: int = DEFAULT_WORKSPACE_MB,
    progress: Progress | None = None,
) -> Engine:
    """Load the engine of a model file, or build it: this takes from seconds to minutes, and its reason is logged.

    profile: by default that of the engine of this file that was built last, else that of `profile_for`. folder: by
    default ``engines`` in the cache folder. build: whether to build it where none can be loaded. Of two processes that
    want the same engine, one builds it, the other waits.

    Raises:
        ModelError: no model file of mien, or one that TensorRT cannot read.
        ProviderError: it cannot be built or does not compute in the file's precision, or there is none to be loaded.
    """
    model = ModelFile.of(source)
    spec = model.spec
    folder = folder or engine_folder()
    any_profile = engine_key(model, accelerator)
    profile = profile or last_profile(folder, model.stem, any_profile) or profile_for(spec)
    key = replace(any_profile, profile=str(profile))
    path = plan_path(folder, model.stem, key)
    if not build:
        found = _kept(path, key, accelerator)
        if isinstance(found, str):
            raise ProviderError(
                f"no TensorRT engine of {model.name} can be loaded ({found}); mien engine {model} builds it"
            )
        return found
    with locked(path):
        found = _kept(path, key, accelerator)
        if isinstance(found, Engine):
            return found
        log.warning("building a TensorRT engine of %s for %s: %s", model.name, accelerator.gpu.name, found)
        trt = accelerator.tensorrt
        built = build_engine(
            trt, model, profile, workspace_mb=workspace_mb, timing_cache=timings(folder, key), progress=progress
        )
        engine, types = _checked(trt, built, precision_of(spec, origin=model.origin), name=model.name)
        saved = keep(path, key, built, types, spec, profile)
        return Engine(engine, spec, profile, types, path if saved else None, found)


def _kept(path: Path, key: EngineKey, accelerator: Accelerator) -> Engine | str:
    """The engine at `path`, or why it cannot be used, in words."""
    found = read_plan(path, key)
    if isinstance(found, str):
        return found
    plan, known = found
    engine = load_engine(accelerator.tensorrt, plan, engine_logger(accelerator.tensorrt))
    if engine is None:
        return "TensorRT does not load the one there is"
    return Engine(engine, known.spec, known.profile, known.types, path, "")


def _checked(trt: Any, built: Built, precision: Precision, *, name: str) -> tuple[Any, dict[str, int]]:
    """Load an engine that was just built, and tell in what its heavy layers compute: it must be the file's precision.

    Raises:
        ProviderError: TensorRT does not load it, or it computes in something else.
    """
    logger = engine_logger(trt)
    engine = load_engine(trt, built.plan, logger)
    if engine is None:
        why = "; ".join(logger.errors[-1:]) or "it does not say why"
        raise ProviderError(f"TensorRT does not load the engine that it built of {name} ({why})")
    types = engine_types(trt, engine)
    check_types(types, precision, quantised=built.types.get("INT8", 0), name=name)
    return engine, types
