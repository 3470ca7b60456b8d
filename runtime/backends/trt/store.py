"""Folder of engines: plans, JSON sidecars that describe them, and build locks.

Files are replaced atomically, and none is trusted: one that cannot be read or does not match is a reason to rebuild and
never an error.
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

from ...atomic_file import write_atomic
from ...errors import ModelError, OutputError
from ...files import cache_folder
from ...models.input_shapes import Profile
from ...models.spec import ModelSpec
from ...output_paths import read_only_note
from .engine_builder import BuiltEngine

try:
    import fcntl
except ImportError:  # Windows: two processes may each build an engine, and the last one wins
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger("mien")

FORMAT = 1


@dataclass(frozen=True, slots=True)
class EngineKey:
    """Everything that an engine depends on."""

    model_sha256: str
    tensorrt: str
    gpu: str
    compute_capability: str
    driver: str
    profile: str
    flags: str

    @property
    def digest(self) -> str:
        """First 16 hexadecimal digits of the key's SHA-256, for file names."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]

    def difference(self, other: EngineKey) -> str:
        """Describe what changed since `other`; empty if nothing did."""
        if self.model_sha256 != other.model_sha256:
            return "the model file changed"
        changed = [f.name for f in fields(self) if getattr(self, f.name) != getattr(other, f.name)]
        return ", ".join(
            f"{name.replace('_', ' ')} was {getattr(other, name)}, is {getattr(self, name)}" for name in changed
        )


@dataclass(frozen=True, slots=True)
class Sidecar:
    """Contents of the JSON file next to a plan.

    Attributes:
        key: Key of the engine.
        plan_sha256: Digest of the plan.
        profile: Input shapes that the engine accepts.
        types: Number of heavy layers by data type; see `engine_types`.
        spec: Metadata of the model.
    """

    key: EngineKey
    plan_sha256: str
    profile: Profile
    types: Mapping[str, int]
    spec: ModelSpec


def engine_folder() -> Path:
    """Return the default folder of engines."""
    return cache_folder() / "engines"


def check_engine_folder(folder: Path) -> None:
    """Create `folder` if needed; raise OutputError unless engines can be saved in it."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"{folder} cannot be created ({error.strerror}); set MIEN_CACHE=DIR to use another place"
        ) from error
    if not os.access(folder, os.W_OK):
        raise OutputError(
            f"no permission to write into {folder}{read_only_note(folder)}; set MIEN_CACHE=DIR to use another place"
        )


def plan_path(folder: Path, stem: str, key: EngineKey) -> Path:
    """Return the path of the engine with this key; `stem` is the model's file name without suffix."""
    return folder / f"{stem}-{key.digest}.plan"


def read_plan(path: Path, key: EngineKey) -> tuple[bytes, Sidecar] | str:
    """Read a plan and its sidecar, or return the reason why they cannot be used."""
    sidecar = path.with_suffix(".json")
    try:
        plan = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return _since_last(path, key)
    except OSError as error:
        return f"{path.name} cannot be read ({error.strerror})"
    found = _read(sidecar)
    if found is None or found.key != key:
        return f"{sidecar.name} cannot be read or belongs to another engine"
    if hashlib.sha256(plan).hexdigest() != found.plan_sha256:
        return f"{path.name} is damaged"
    return plan, found


def last_profile(folder: Path, stem: str, any_profile: EngineKey) -> Profile | None:
    """Return the profile of a model's most recent engine, or None.

    Args:
        folder: Folder of engines.
        stem: The model's file name without suffix.
        any_profile: Key of the engine; its profile is ignored.
    """
    for sidecar in _sidecars(folder, stem):
        found = _read(sidecar)
        if found is not None and replace(found.key, profile=any_profile.profile) == any_profile:
            return found.profile
    return None


def _since_last(path: Path, key: EngineKey) -> str:
    """Describe what changed since the newest engine of a model of the same name."""
    for sidecar in _sidecars(path.parent, path.stem.removesuffix(f"-{key.digest}")):
        if (found := _read(sidecar)) is not None and (changed := key.difference(found.key)):
            return changed
    return "none was built yet"


def _sidecars(folder: Path, stem: str) -> list[Path]:
    """List the sidecars of a model's engines, newest first; none if the folder cannot be read."""
    try:
        found = [p for p in folder.glob(f"{glob.escape(stem)}-*.json") if p.stem.rpartition("-")[0] == stem]
    except OSError:  # before Python 3.13
        return []
    return sorted(found, key=_modified_ns, reverse=True)


def _modified_ns(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:  # deleted meanwhile
        return 0


def _read(sidecar: Path) -> Sidecar | None:
    """Parse a sidecar; None if it cannot be read."""
    try:
        raw = json.loads(sidecar.read_text(encoding="utf-8"))
        if raw["format"] != FORMAT:
            return None
        profile = Profile(*(tuple(raw["profile"][name]) for name in ("min", "opt", "max")))
        spec = ModelSpec.from_json(json.dumps(raw["spec"]), origin=str(sidecar))
        return Sidecar(EngineKey(**raw["key"]), str(raw["plan_sha256"]), profile, dict(raw["types"]), spec)
    except (OSError, ValueError, KeyError, TypeError, ModelError):
        return None


def save_engine(
    path: Path, key: EngineKey, built: BuiltEngine, types: Mapping[str, int], spec: ModelSpec, profile: Profile
) -> bool:
    """Save an engine, its sidecar and the kernel timings.

    Returns:
        Whether the engine was saved; if not, a warning is logged.
    """
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
        write_atomic(
            path.with_suffix(".json"), (json.dumps(sidecar, indent=2) + "\n").encode()
        )  # last, since it vouches for the plan
    except OSError as error:
        log.warning("the engine cannot be saved (%s); set MIEN_CACHE=DIR to use another place", error)
        return False
    try:
        write_atomic(_timing_path(path.parent, key), built.timing_cache)
    except OSError as error:
        log.info("the kernel timings cannot be saved (%s); the next build takes longer", error)
    return True


def read_timing_cache(folder: Path, key: EngineKey) -> bytes:
    """Read the kernel timings of earlier builds; empty if there are none."""
    try:
        return _timing_path(folder, key).read_bytes()
    except OSError:
        return b""


def _timing_path(folder: Path, key: EngineKey) -> Path:
    """Return the path of the kernel timings, which all models on one GPU and TensorRT share."""
    about = f"{key.tensorrt}-{key.gpu}-{key.compute_capability}"
    return folder / f"timings-{hashlib.sha256(about.encode()).hexdigest()[:16]}.cache"


@contextlib.contextmanager
def build_lock(path: Path) -> Iterator[None]:
    """Hold the lock of one engine, or continue without where locking fails: files are replaced atomically."""
    with contextlib.ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(path.with_suffix(".lock").open("a"))
            if fcntl is not None:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    log.warning("another process is building %s; waiting for it", path.name)
                    fcntl.flock(file, fcntl.LOCK_EX)
        except OSError as error:
            log.info("%s is built without a lock (%s)", path.name, error)
        yield
