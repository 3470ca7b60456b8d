"""The split into training and validation: by person or near-duplicate group, and the same on every machine."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from mien.runtime.errors import InputError

HELD_OUT = 0.1
"""Share of the groups that training never sees."""
HELD_OUT_PICTURES = 0.2
"""The same share for the detector's boxed pictures, which are fewer."""


def held_out(groups: Sequence[str], fraction: float = HELD_OUT) -> npt.NDArray[np.bool_]:
    """Mark the validation rows (n,). A group falls on one side whole, whatever other rows there are.

    Of two groups or more at least one is held out, and at least one is left to train on.
    """
    position = {group: _unit_hash(group) for group in groups}
    if len(position) > 1:
        fraction = max(fraction, np.nextafter(min(position.values()), 1))
        fraction = min(fraction, max(position.values()))
    return np.array([position[group] < fraction for group in groups], dtype=bool)


def training_split(groups: Sequence[str], folder: Path, *, noun: str) -> npt.NDArray[np.bool_]:
    """Mark the validation rows (n,) of a folder's groups. noun: what a group is, for the error.

    Raises:
        InputError: one side would be empty.
    """
    validation = held_out(groups)
    if validation.all() or not validation.any():
        raise InputError(f"{folder}: {len(set(groups))} {noun}(s) are too few to hold one out")
    return validation


def _unit_hash(text: str) -> float:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64
