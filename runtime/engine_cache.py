"""Engines that were built on this machine, kept under the user's cache folder.

An engine belongs to one model file, TensorRT, GPU, driver and profile. All of that is its key and stands in the JSON
beside it; an engine whose key is not exactly the one wanted is never loaded.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import json
import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from .accelerator import Accelerator
from .engine_build import (
    DEFAULT_WORKSPACE_MB,
    Built,
    Profile,
    Progress,
    build_engine,
    check_types,
    engine_logger,
    engine_types,
    load_engine,
    profile_for,
)
from .errors import ModelError, OutputError, ProviderError
from .files import cache_folder, sha256_of, write_whole
from .onnx_session import model_spec, precision_of
from .spec import ModelSpec

try:
    import fcntl
except ImportError:  # Windows: two processes then each build an engine, and the last one is kept
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger("mien")

FORMAT = 1
_FLAGS = "strongly typed"


@dataclass(frozen=True, slots=True)
class EngineKey:
    """All that an engine depends on."""

    model_sha256: str
    tensorrt: str
    gpu: str
    compute_capability: str
    driver: str
    profile: str
    flags: str

    @property
    def digest(self) -> str:
        """Sixteen hexadecimal digits that stand for the whole key in a file name."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]

    def difference(self, other: EngineKey) -> str:
        """What changed since `other`, in words; empty if nothing did."""
        if self.model_sha256 != other.model_sha256:
            return "the model file changed"
        changed = [f.name for f in fields(self) if getattr(self, f.name) != getattr(other, f.name)]
        return ", ".join(
            f"{name.replace('_', ' ')} was {getattr(other, name)}, is {getattr(self, name)}" for name in changed
        )


@dataclass(frozen=True, slots=True)
class Engine:
    """An engine that TensorRT has loaded. path: where it is kept, None if it could not be. reason: why it was built."""

    engine: Any
    spec: ModelSpec
    profile: Profile
    types: Mapping[str, int]
    path: Path | None
    reason: str


def engine_key(model: Path, accelerator: Accelerator) -> EngineKey:
    """The key of a model's engines on this machine, whatever their profile: it is empty.

    Raises:
        ModelError: no such file.
    """
    if not model.is_file():
        raise ModelError(f"no model {model}")
    gpu = accelerator.gpu
    return EngineKey(
        model_sha256=sha256_of(model),
        tensorrt=str(accelerator.tensorrt.__version__),
        gpu=gpu.name,
        compute_capability=gpu.compute_capability,
        driver=gpu.driver,
        profile="",
        flags=_FLAGS,
    )


def open_engine(
    model: Path,
    accelerator: Accelerator,
    *,
    profile: Profile | None = None,
    folder: Path | None = None,
    workspace_mb: int = DEFAULT_WORKSPACE_MB,
    progress: Progress | None = None,
) -> Engine:
    """Load the engine of a model file, or build it: this takes from seconds to minutes, and its reason is logged.

    profile: by default that of the engine of this file that was built last, else that of `profile_for`. folder: by
    default ``engines`` in the cache folder. Of two processes that want the same engine, one builds it, the other waits.

    Raises:
        ModelError: no model file of mien, or one that TensorRT cannot read.
        ProviderError: it cannot be built or does not compute in the file's precision.
    """
    folder = folder or engine_folder()
    any_profile = engine_key(model, accelerator)
    profile = profile or _last_profile(model, any_profile, folder) or profile_for(model_spec(model))
    key = replace(any_profile, profile=str(profile))
    path = _path(folder, model, key)
    with _locked(path):
        engine, reason = _kept(path, key, accelerator)
        if engine is not None and (known := _read(path.with_suffix(".json"))) is not None:
            return Engine(engine, known.spec, profile, known.types, path, "")
        spec = model_spec(model)
        log.warning("building a TensorRT engine of %s for %s: %s", model.name, accelerator.gpu.name, reason)
        trt = accelerator.tensorrt
        built = build_engine(
            trt, model, profile, workspace_mb=workspace_mb, timing_cache=_timings(path.parent, key), progress=progress
        )
        logger = engine_logger(trt)
        engine = load_engine(trt, built.plan, logger)
        if engine is None:
            why = "; ".join(logger.errors[-1:]) or "it does not say why"
            raise ProviderError(f"TensorRT does not load the engine that it built of {model.name} ({why})")
        types = engine_types(trt, engine)
        check_types(types, precision_of(spec, origin=str(model)), name=model.name)
        saved = _save(path, key, built, types, spec, profile)
        return Engine(engine, spec, profile, types, path if saved else None, reason)


def built_profile(model: Path, accelerator: Accelerator, *, folder: Path | None = None) -> Profile | None:
    """The profile of the engine of this model file that was built last on this machine as it is; None without one."""
    return _last_profile(model, engine_key(model, accelerator), folder or engine_folder())


def _last_profile(model: Path, any_profile: EngineKey, folder: Path) -> Profile | None:
    for sidecar in _sidecars(folder, model.stem):
        found = _read(sidecar)
        if found is None or replace(found.key, profile=any_profile.profile) != any_profile:
            continue
        if not _reason(_path(folder, model, found.key), found.key):
            return found.profile
    return None


def check_engine_folder(folder: Path) -> None:
    """Raise OutputError unless engines can be kept in `folder`; it is made if it is not there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{folder} cannot be made ({error.strerror}); MIEN_CACHE=DIR chooses another place"
        ) from error
    if not os.access(folder, os.W_OK):
        raise OutputError(f"no permission to write into {folder}; MIEN_CACHE=DIR chooses another place")


def engine_folder() -> Path:
    """Where engines are kept."""
    return cache_folder() / "engines"


def _path(folder: Path, model: Path, key: EngineKey) -> Path:
    return folder / f"{model.stem}-{key.digest}.plan"


def _kept(path: Path, key: EngineKey, accelerator: Accelerator) -> tuple[Any | None, str]:
    """The engine at `path`, or None and the reason why a new one is needed."""
    if reason := _reason(path, key):
        return None, reason
    engine = load_engine(accelerator.tensorrt, path.read_bytes(), engine_logger(accelerator.tensorrt))
    return engine, "" if engine is not None else "TensorRT does not load the one there is"


def _reason(path: Path, key: EngineKey) -> str:
    """Why the engine at `path` cannot be used, empty if it can."""
    sidecar = path.with_suffix(".json")
    if not path.is_file() or not sidecar.is_file():
        return _since_last(path, key)
    found = _read(sidecar)
    if found is None or found.key != key:
        return f"{sidecar.name} cannot be read or is of another engine"
    if sha256_of(path) != found.plan_sha256:
        return f"{path.name} is damaged"
    return ""


def _since_last(path: Path, key: EngineKey) -> str:
    """What changed since the newest engine of a model of the same name."""
    for sidecar in _sidecars(path.parent, path.stem.removesuffix(f"-{key.digest}")):
        if (found := _read(sidecar)) is not None and (changed := key.difference(found.key)):
            return changed
    return "there is none yet"


def _sidecars(folder: Path, stem: str) -> list[Path]:
    """Sidecars of the engines of a model name, the newest first."""
    found = [p for p in folder.glob(f"{glob.escape(stem)}-*.json") if p.stem.rpartition("-")[0] == stem]
    return sorted(found, key=lambda p: p.stat().st_mtime_ns, reverse=True)


@dataclass(frozen=True, slots=True)
class _Sidecar:
    key: EngineKey
    plan_sha256: str
    profile: Profile
    types: Mapping[str, int]
    spec: ModelSpec


def _read(sidecar: Path) -> _Sidecar | None:
    """What stands beside an engine; None where it cannot be read."""
    try:
        raw = json.loads(sidecar.read_text(encoding="utf-8"))
        if raw["format"] != FORMAT:
            return None
        profile = Profile(*(tuple(raw["profile"][name]) for name in ("smallest", "usual", "largest")))
        spec = ModelSpec.from_json(json.dumps(raw["spec"]), origin=str(sidecar))
        return _Sidecar(EngineKey(**raw["key"]), str(raw["plan_sha256"]), profile, dict(raw["types"]), spec)
    except (OSError, ValueError, KeyError, TypeError, ModelError):
        return None


def _save(
    path: Path, key: EngineKey, built: Built, types: Mapping[str, int], spec: ModelSpec, profile: Profile
) -> bool:
    """Keep an engine, its sidecar and the timings; where that cannot be done, say so and go on with it in memory."""
    sidecar = {
        "format": FORMAT,
        "key": asdict(key),
        "plan_sha256": hashlib.sha256(built.plan).hexdigest(),
        "profile": asdict(profile),
        "types": dict(types),
        "build_seconds": round(built.seconds, 2),
        "built_utc": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "spec": json.loads(spec.to_json()),
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, built.plan)
        write_whole(_timing_path(path.parent, key), built.timing_cache)
        write_whole(path.with_suffix(".json"), (json.dumps(sidecar, indent=2) + "\n").encode())  # last: it vouches
    except OSError as error:
        log.warning("the engine cannot be kept (%s); MIEN_CACHE=DIR chooses another place for it", error)
        return False
    return True


def _timing_path(folder: Path, key: EngineKey) -> Path:
    """Timings of kernels serve all models on one GPU and TensorRT."""
    about = f"{key.tensorrt}-{key.gpu}-{key.compute_capability}"
    return folder / f"timings-{hashlib.sha256(about.encode()).hexdigest()[:16]}.cache"


def _timings(folder: Path, key: EngineKey) -> bytes:
    try:
        return _timing_path(folder, key).read_bytes()
    except OSError:
        return b""


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold the lock of one engine; where no lock can be had, go on without: files are replaced whole in any case."""
    with contextlib.ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(path.with_suffix(".lock").open("a"))
        except OSError:
            file = None
        if file is not None and fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                log.warning("another process builds %s; waiting for it", path.name)
                fcntl.flock(file, fcntl.LOCK_EX)
        yield
