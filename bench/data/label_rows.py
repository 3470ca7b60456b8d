"""Selects rows of label tables."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Table = TypeVar("Table", bound="DataclassInstance")


def select_rows(table: Table, keep: npt.NDArray[Any], *, whole: Collection[str] = ()) -> Table:
    """Return a table of some of the rows.

    Args:
        table: Dataclass whose fields are tuples or arrays (n, …), or None.
        keep: Boolean mask (n,), or indices.
        whole: Fields that are not about rows, and are kept as they are.
    """

    def selected(column: Any) -> Any:
        if isinstance(column, tuple):
            return tuple(column[i] for i in np.arange(len(column))[keep])
        return None if column is None else column[keep]

    return replace(table, **{f.name: selected(getattr(table, f.name)) for f in fields(table) if f.name not in whole})
