"""The candidate of a benchmark, as it is sent to the process that measures it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..timing.measurement import Level

REFERENCE_NETWORK = Path()
"""Path of a baseline that has the reference network's own weights, which lie in no file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One way to run one model.

    Attributes:
        model: Name in the report.
        file: The model's file as the user named it.
        path: File to open.
        device: What runs it: a `Provider`'s value, or PyTorch's name of a device.
        opener: ``module:function`` that takes the candidate and returns a `Target`; see `name_of`.
        baseline: A `Baseline`'s value; empty for a candidate on a provider.
        threads: Threads of one operator; 0 leaves the library's default.
        level: How much of the way from picture to result is timed.
        batch: Images in a call.
        models: Model files of a pipeline by task.
    """

    model: str
    file: str
    path: Path
    device: str
    opener: str
    baseline: str = ""
    threads: int = 1
    level: Level = Level.MODEL
    batch: int = 1
    models: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """Serialize to one line."""
        return json.dumps(asdict(self), default=str)

    @classmethod
    def from_json(cls, text: str) -> Candidate:
        """Parse what `to_json` wrote."""
        raw: dict[str, Any] = json.loads(text)
        return cls(**raw | {"path": Path(raw["path"]), "level": Level(raw["level"])})


def name_of(opener: Callable[[Candidate], object]) -> str:
    """Name a module's function as ``module:function``, by which another interpreter finds it."""
    return f"{opener.__module__}:{opener.__qualname__}"


def save_arrays(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write arrays by name, for another process to read."""
    save: Callable[..., None] = np.savez  # its stubs mistake our names for its own parameters
    save(path, **arrays)
