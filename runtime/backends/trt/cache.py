"""Engine cache: load the TensorRT engine of a model, or build it.

An engine works with one model file, TensorRT version, GPU, driver and profile only. Together they form its key,
recorded in a JSON file next to it; an engine is loaded only if its key matches exactly.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...errors import ProviderError
from ...models.input_shapes import Profile, profile_for
from ...models.model_file import ModelFile, ModelSource
from ...models.spec import ModelSpec, Precision, precision_of
from .device import Accelerator
from .engine_builder import (
    DEFAULT_WORKSPACE_MB,
    BuiltEngine,
    Progress,
    build_engine,
    engine_logger,
    load_engine,
)
from .layer_precision import check_types, engine_types
from .store import (
    EngineKey,
    build_lock,
    engine_folder,
    last_profile,
    plan_path,
    read_plan,
    read_timing_cache,
    save_engine,
)

log = logging.getLogger("mien")

_FLAGS = "strongly typed, without TF32"


@dataclass(frozen=True, slots=True)
class Engine:
    """A loaded engine.

    Attributes:
        engine: The `tensorrt.ICudaEngine`.
        spec: Metadata of the model.
        profile: Input shapes that it accepts.
        types: Number of heavy layers by data type; see `engine_types`.
        path: Its file; None if it could not be saved.
        reason: Why it was built; empty if it was loaded from the cache.
    """

    engine: Any
    spec: ModelSpec
    profile: Profile
    types: Mapping[str, int]
    path: Path | None
    reason: str


def engine_key(source: ModelSource, accelerator: Accelerator) -> EngineKey:
    """Return the key of a model's engines on this machine, with the profile left empty.

    Raises:
        ModelError: The file is missing.
    """
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
    """Load the engine of a model, or build it, which takes seconds to minutes; the reason for a build is logged.

    If two processes need the same engine, one builds it while the other waits.

    Args:
        source: Path of the model, or the file already read.
        accelerator: TensorRT and the GPU.
        profile: Input shapes; by default those of the model's most recent engine, else `profile_for`.
        folder: Folder of engines, by default ``engines`` in the cache folder.
        build: Build the engine if none can be loaded.
        workspace_mb: See `build_engine`.
        progress: Called with the phase and the completed fraction while the engine is built.

    Raises:
        ModelError: The file is not a mien model, or TensorRT cannot read it.
        ProviderError: The engine cannot be built, does not compute in the file's precision, or is missing while `build`
            is false.
    """
    model = ModelFile.of(source)
    spec = model.spec
    folder = folder or engine_folder()
    any_profile = engine_key(model, accelerator)
    profile = profile or last_profile(folder, model.stem, any_profile) or profile_for(spec)
    key = replace(any_profile, profile=str(profile))
    path = plan_path(folder, model.stem, key)
    if not build:
        found = _load_cached(path, key, accelerator)
        if isinstance(found, str):
            raise ProviderError(
                f"no TensorRT engine of {model.name} can be loaded ({found}); mien engine {model} builds it"
            )
        return found
    with build_lock(path):
        found = _load_cached(path, key, accelerator)
        if isinstance(found, Engine):
            return found
        log.warning("building a TensorRT engine of %s for %s: %s", model.name, accelerator.gpu.name, found)
        trt = accelerator.tensorrt
        built = build_engine(
            trt,
            model,
            profile,
            workspace_mb=workspace_mb,
            timing_cache=read_timing_cache(folder, key),
            progress=progress,
        )
        engine, types = _load_built(trt, built, precision_of(spec, origin=model.origin), name=model.name)
        saved = save_engine(path, key, built, types, spec, profile)
        return Engine(engine, spec, profile, types, path if saved else None, found)


def _load_cached(path: Path, key: EngineKey, accelerator: Accelerator) -> Engine | str:
    """Load the engine at `path`, or return the reason why it cannot be used."""
    found = read_plan(path, key)
    if isinstance(found, str):
        return found
    plan, known = found
    engine = load_engine(accelerator.tensorrt, plan, engine_logger(accelerator.tensorrt))
    if engine is None:
        return "TensorRT does not load the cached one"
    return Engine(engine, known.spec, known.profile, known.types, path, "")


def _load_built(trt: Any, built: BuiltEngine, precision: Precision, *, name: str) -> tuple[Any, dict[str, int]]:
    """Load an engine that was just built, and check that its heavy layers compute in the file's precision."""
    logger = engine_logger(trt)
    engine = load_engine(trt, built.plan, logger)
    if engine is None:
        why = "; ".join(logger.errors[-1:]) or "no reason given"
        raise ProviderError(f"TensorRT does not load the engine that it built of {name} ({why})")
    types = engine_types(trt, engine)
    check_types(types, precision, quantized=built.types.get("INT8", 0), name=name)
    return engine, types
