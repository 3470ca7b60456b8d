"""Reader of CSV label files, with errors that name the file and the row."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from ...runtime.errors import InputError


def read_rows(path: Path, required: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Read a CSV file with a header.

    Args:
        path: The file.
        required: Columns that the header must have.

    Yields:
        (where, row) of each row; `where` names the row in error messages.

    Raises:
        InputError: No such file, a missing column, or a row with too few or too many columns.
    """
    if not path.is_file():
        raise InputError(f"no label file {path}")
    try:
        with path.open(newline="", encoding="utf-8") as handle:
            reader = csv.reader(handle)
            header = next(reader, None)
            if header is None:
                raise InputError(f"{path} is empty")
            missing = [name for name in required if name not in header]
            if missing:
                raise InputError(f"{path}: missing column(s) {', '.join(missing)}; found {', '.join(header[:8])} …")
            for row in reader:
                where = f"{path}, row {reader.line_num}"
                if len(row) != len(header):
                    raise InputError(f"{where}: wanted {len(header)} columns, found {len(row)}")
                yield where, dict(zip(header, row, strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} is not a CSV file ({error})") from error


def numbers(where: str, row: dict[str, str], columns: Sequence[str]) -> list[float]:
    """Return the named columns of a row as finite floats.

    Raises:
        InputError: A cell is not a finite number.
    """
    values = []
    for column in columns:
        try:
            value = float(row[column])
        except ValueError:
            raise InputError(f"{where}: wanted a number in column {column}, found {row[column]!r}") from None
        if value != value or value in (float("inf"), float("-inf")):
            raise InputError(f"{where}: wanted a finite number in column {column}, found {row[column]!r}")
        values.append(value)
    return values
