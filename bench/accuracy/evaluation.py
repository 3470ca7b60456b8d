"""What all evaluations share: reading the pictures, and the result."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt

from ...runtime.errors import InputError
from ...runtime.pictures.images import read_image
from ...runtime.values import Image, Progress
from ...runtime.wording import counted

BATCH = 32
Predicted = TypeVar("Predicted")
Table = TypeVar("Table")
Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Evaluation(Generic[Predicted, Table]):
    """Predictions for labelled pictures, compared with their labels.

    Attributes:
        predicted: Predictions, row by row those of `labels`.
        labels: Labels of the readable pictures.
        summary: Metrics by name, and the error messages of the skipped pictures under ``unreadable``.
    """

    predicted: Predicted
    labels: Table
    summary: dict[str, Any]


class PictureReader:
    """Iterator over (row, picture) that skips unreadable pictures.

    Attributes:
        unreadable: Error message of each skipped picture, by row.
    """

    def __init__(self, files: Sequence[Path], progress: Progress | None = None) -> None:
        self.unreadable: dict[int, str] = {}
        self._files = files
        self._progress = progress

    def __iter__(self) -> Iterator[tuple[int, Image]]:
        for i, file in enumerate(self._files):
            try:
                yield i, read_image(file)
            except InputError as error:
                self.unreadable[i] = str(error)
            if self._progress is not None:
                self._progress(i + 1, len(self._files))

    @property
    def messages(self) -> list[str]:
        """Error messages of the skipped pictures."""
        return list(self.unreadable.values())

    def readable(self) -> npt.NDArray[np.bool_]:
        """Mark the rows (n,) that were read.

        Raises:
            InputError: None of the pictures could be read.
        """
        rows = len(self._files)
        if len(self.unreadable) == rows:
            raise InputError(f"0 of {counted(rows, 'picture')} can be read; the first: {self.messages[0]}")
        return np.array([i not in self.unreadable for i in range(rows)])


def in_batches(items: Iterable[tuple[int, Item]]) -> Iterator[dict[int, Item]]:
    """Group numbered items into batches of up to `BATCH`."""
    batch: dict[int, Item] = {}
    for i, item in items:
        batch[i] = item
        if len(batch) == BATCH:
            yield batch
            batch = {}
    if batch:
        yield batch


def of_test_split(
    measures: Callable[[npt.NDArray[np.bool_]], dict[str, Any]], rows: npt.NDArray[np.bool_]
) -> dict[str, Any]:
    """Measure the rows (n,) that no epoch was chosen on, if there are any."""
    return {"test_split": measures(rows)} if rows.any() else {}
