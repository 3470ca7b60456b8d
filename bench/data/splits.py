"""Splits data by group (a person, or near-duplicates) into training, validation and test, identically everywhere."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...runtime.errors import InputError
from ...runtime.wording import counted

HELD_OUT = 0.1
"""Fraction of the groups held out from training."""
HELD_OUT_PICTURES = 0.2
"""The same for classes and for the detector's boxed pictures, of which there are fewer."""


def held_out(groups: Sequence[str], fraction: float = HELD_OUT) -> npt.NDArray[np.bool_]:
    """Mark the rows (n,) of the validation and the test split.

    A group is never divided, and its side depends on its name alone. With two or more groups, both sides get at least
    one.

    Args:
        groups: Group (n,) of each row.
        fraction: Fraction of the groups to hold out.
    """
    position = _positions(groups)
    if len(position) > 1:
        fraction = max(fraction, np.nextafter(min(position.values()), 1))
        fraction = min(fraction, max(position.values()))
    return np.array([position[group] < fraction for group in groups], dtype=bool)


def in_test_split(groups: Sequence[str], fraction: float = HELD_OUT) -> npt.NDArray[np.bool_]:
    """Mark those of the held-out rows (n,) that do not validate: no epoch is chosen on them.

    They are half of the groups. Of a single held-out group, there is no test split.

    Args:
        groups: Group (n,) of each held-out row.
        fraction: Fraction of the groups that was held out.
    """
    position = _positions(groups)
    limit = max(fraction / 2, np.nextafter(min(position.values(), default=0), 1))
    return np.array([position[group] >= limit for group in groups], dtype=bool)


def held_out_from_training(
    groups: Sequence[str], folder: Path, *, noun: str, given: npt.NDArray[np.bool_] | None = None
) -> npt.NDArray[np.bool_]:
    """Mark the rows (n,) of the validation and the test split, and check that neither side is empty.

    Args:
        groups: Group (n,) of each row.
        folder: Their folder, for the error message.
        noun: Word for a group, for the error message.
        given: Split (n,) defined by the data set itself; None: split by group name.

    Raises:
        InputError: One side would be empty.
    """
    held = held_out(groups) if given is None else given
    if not held.all() and held.any():
        return held
    if given is None:
        raise InputError(f"{folder}: expected at least 2 {noun}s, to hold one out, found {len(set(groups))}")
    share, part = ("all of the", "training") if held.all() else ("none of the", "validation")
    raise InputError(
        f"{folder}: the data set's own split holds out {share} {counted(len(held), 'picture')}; add pictures to its "
        f"{part} part"
    )


def _positions(groups: Sequence[str]) -> dict[str, float]:
    return {group: _unit_hash(group) for group in groups}


def _unit_hash(text: str) -> float:
    return int.from_bytes(hashlib.sha256(os.fsencode(text)).digest()[:8], "big") / 2**64
