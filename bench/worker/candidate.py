"""A benchmark candidate, as sent to the process that measures it."""

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
"""Path of a baseline with the reference network's weights, which are not stored in a file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One way to run one model.

    Attributes:
        model: Name in the report.
        file: Model file as named by the user.
        path: File to open.
        device: Value of a `Provider`, or a device name of PyTorch.
        opener: ``module:function`` that takes the candidate and returns a `Target`; see `name_of`.
        baseline: Value of a `Baseline`; empty for a candidate on a provider.
        mode: Value of a `CallMode`; empty for the runner's own choice.
        threads: Threads per operator; 0: the library's default.
        level: Scope of the timing.
        batch: Images per call.
        models: Model files of a pipeline by task.
    """

    model: str
    file: str
    path: Path
    device: str
    opener: str
    baseline: str = ""
    mode: str = ""
    threads: int = 1
    level: Level = Level.MODEL
    batch: int = 1
    models: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        """Serialize to one line."""
        return json.dumps(asdict(self), default=str)

    @classmethod
    def from_json(cls, text: str) -> Candidate:
        """Parse the output of `to_json`."""
        raw: dict[str, Any] = json.loads(text)
        return cls(**raw | {"path": Path(raw["path"]), "level": Level(raw["level"])})


def name_of(opener: Callable[[Candidate], object]) -> str:
    """Return ``module:function``, by which another interpreter can import an opener."""
    return f"{opener.__module__}:{opener.__qualname__}"


def save_arrays(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    """Write named arrays for another process to read."""
    save: Callable[..., None] = np.savez  # its type stubs take our names for its own parameters
    save(path, **arrays)
