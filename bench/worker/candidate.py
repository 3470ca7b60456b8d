"""What a measured process is told to open."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mien.bench.timing.measurement import Level


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One candidate, as told to a fresh interpreter.

    opener: ``module:function``, which takes the job and returns a `Target`; see `name_of`. path: the file to open.
    device: what is to run it: a provider, or PyTorch's name of a device. models: of a pipeline, files by role.
    """

    opener: str
    path: str
    device: str
    threads: int
    level: Level = Level.MODEL
    batch: int = 1
    models: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """One line."""
        return json.dumps(asdict(self) | {"level": self.level.value})

    @classmethod
    def from_json(cls, text: str) -> Job:
        """What `to_json` wrote."""
        raw: dict[str, Any] = json.loads(text)
        raw["level"] = Level(raw["level"])
        return cls(**raw)


def name_of(opener: Callable[[Job], object]) -> str:
    """How another interpreter finds a function of a module."""
    return f"{opener.__module__}:{opener.__qualname__}"


def save_arrays(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write arrays for another process to read, by name."""
    save: Callable[..., None] = np.savez  # its stubs take a name of ours for one of theirs
    save(path, **arrays)
