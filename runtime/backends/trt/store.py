"""The folder of engines: a plan, a JSON beside it that says what it is of, and the lock of who builds it.

All files are replaced whole, and none is trusted: what cannot be read or is not exactly what is wanted has a reason,
and is never an error.
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

from mien.runtime.backends.trt.engine_builder import Built
from mien.runtime.errors import ModelError, OutputError
from mien.runtime.files import cache_folder, write_atomic
from mien.runtime.models.input_shapes import Profile
from mien.runtime.models.spec import ModelSpec

try:
    import fcntl
except ImportError:  # Windows: two processes then each build an engine, and the last one is kept
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger("mien")

FORMAT = 1


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
class Sidecar:
    """What stands beside a plan. types: of its heavy layers, see `engine_types`."""

    key: EngineKey
    plan_sha256: str
    profile: Profile
    types: Mapping[str, int]
    spec: ModelSpec


def engine_folder() -> Path:
    """Where engines are kept."""
    return cache_folder() / "engines"


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


def plan_path(folder: Path, stem: str, key: EngineKey) -> Path:
    """Where the engine of a model file with this key is kept."""
    return folder / f"{stem}-{key.digest}.plan"


def read_plan(path: Path, key: EngineKey) -> tuple[bytes, Sidecar] | str:
    """A plan and what stands beside it, or why it cannot be used, in words."""
    sidecar = path.with_suffix(".json")
    try:
        plan = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return _since_last(path, key)
    except OSError as error:
        return f"{path.name} cannot be read ({error.strerror})"
    found = _read(sidecar)
    if found is None or found.key != key:
        return f"{sidecar.name} cannot be read or is of another engine"
    if hashlib.sha256(plan).hexdigest() != found.plan_sha256:
        return f"{path.name} is damaged"
    return plan, found


def last_profile(folder: Path, stem: str, any_profile: EngineKey) -> Profile | None:
    """The profile of the engine that was kept last of those with this key, whatever their profile; None without one."""
    for sidecar in _sidecars(folder, stem):
        found = _read(sidecar)
        if found is not None and replace(found.key, profile=any_profile.profile) == any_profile:
            return found.profile
    return None


def _since_last(path: Path, key: EngineKey) -> str:
    """What changed since the newest engine of a model of the same name."""
    for sidecar in _sidecars(path.parent, path.stem.removesuffix(f"-{key.digest}")):
        if (found := _read(sidecar)) is not None and (changed := key.difference(found.key)):
            return changed
    return "there is none yet"


def _sidecars(folder: Path, stem: str) -> list[Path]:
    """Sidecars of the engines of a model name, the newest first; none where the folder cannot be read."""
    try:
        found = [p for p in folder.glob(f"{glob.escape(stem)}-*.json") if p.stem.rpartition("-")[0] == stem]
    except OSError:  # before Python 3.13
        return []
    return sorted(found, key=_modified_ns, reverse=True)


def _modified_ns(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:  # somebody deleted it meanwhile
        return 0


def _read(sidecar: Path) -> Sidecar | None:
    """What stands beside an engine; None where it cannot be read."""
    try:
        raw = json.loads(sidecar.read_text(encoding="utf-8"))
        if raw["format"] != FORMAT:
            return None
        profile = Profile(*(tuple(raw["profile"][name]) for name in ("min", "opt", "max")))
        spec = ModelSpec.from_json(json.dumps(raw["spec"]), origin=str(sidecar))
        return Sidecar(EngineKey(**raw["key"]), str(raw["plan_sha256"]), profile, dict(raw["types"]), spec)
    except (OSError, ValueError, KeyError, TypeError, ModelError):
        return None


def keep(path: Path, key: EngineKey, built: Built, types: Mapping[str, int], spec: ModelSpec, profile: Profile) -> bool:
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
        write_atomic(path, built.plan)
        write_atomic(path.with_suffix(".json"), (json.dumps(sidecar, indent=2) + "\n").encode())  # last: it vouches
    except OSError as error:
        log.warning("the engine cannot be kept (%s); MIEN_CACHE=DIR chooses another place for it", error)
        return False
    try:
        write_atomic(_timing_path(path.parent, key), built.timing_cache)
    except OSError as error:
        log.info("the timings of kernels cannot be kept (%s); the next build takes longer", error)
    return True


def timings(folder: Path, key: EngineKey) -> bytes:
    """What earlier builds measured; empty where nothing can be read."""
    try:
        return _timing_path(folder, key).read_bytes()
    except OSError:
        return b""


def _timing_path(folder: Path, key: EngineKey) -> Path:
    """Timings of kernels serve all models on one GPU and TensorRT."""
    about = f"{key.tensorrt}-{key.gpu}-{key.compute_capability}"
    return folder / f"timings-{hashlib.sha256(about.encode()).hexdigest()[:16]}.cache"


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of one engine; where no lock can be had, go on without: files are replaced whole in any case."""
    with contextlib.ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(path.with_suffix(".lock").open("a"))
            if fcntl is not None:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    log.warning("another process builds %s; waiting for it", path.name)
                    fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            log.info("%s is built without a lock (%s)", path.name, error)
        yield
