"""Lenient reader of CSV label files, whose errors name the file and row."""

from __future__ import annotations

import codecs
import csv
import io
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from ...runtime.errors import InputError, warn_once
from ...runtime.file_kinds import HEAD_BYTES, FileKind, check_file, kind_of
from ...runtime.wording import counted

SEPARATORS = (",", ";", "\t")
BYTE_ORDER_MARKS = {codecs.BOM_UTF8: "utf-8", codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
NAMED = 3
"""Number of files that a message names."""
Row = TypeVar("Row")


def read_rows(path: Path, required: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Read a CSV file with a header.

    Accepts UTF-8 and UTF-16, with or without a byte order mark, separators comma, semicolon and tab, and any line
    ends. Ignores blank lines, spaces around cells, and the case of column names.

    Args:
        path: The file.
        required: Columns that the header must have, in lower case.

    Yields:
        (where, row): file and row for error messages, and the cells by lower-case column name.

    Raises:
        InputError: The file does not exist or is not text, a column is missing or occurs twice, or a row has too few
            or too many columns.
    """
    lines = _lines(path)
    first = next((line for line in lines if line.strip()), None)
    if first is None:
        raise InputError(f"{path} is empty")
    separator = max(SEPARATORS, key=lambda s: len(set(required) & set(_header(first, s))))
    reader = csv.reader(lines, delimiter=separator, skipinitialspace=True)
    header: list[str] | None = None
    line = 0
    try:
        for cells in reader:
            line, where = reader.line_num, f"{path}, row {line + 1}"
            row = [cell.strip() for cell in cells]
            if any("\n" in cell for cell in row):
                raise InputError(f"{where}: a quotation mark is not closed")
            if not any(row):
                continue
            if header is None:
                header = _checked([name.lower() for name in row], required, path)
                continue
            if len(row) < len(header) or any(row[len(header) :]):
                raise InputError(f"{where}: expected {len(header)} columns, found {len(row)}")
            yield where, dict(zip(header, row, strict=False))
    except csv.Error as error:
        raise InputError(f"{path}, row {line + 1}: not CSV ({error})") from error


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
            raise InputError(f"{where}: expected a number in column {column}, found {row[column]!r}") from None
        if not math.isfinite(value):
            raise InputError(f"{where}: expected a finite number in column {column}, found {row[column]!r}")
        values.append(value)
    return values


def picture_path(folder: Path, name: str) -> Path:
    """Locate a labelled picture in ``images/``, next to the label file, or in any other subfolder.

    Returns:
        The path of the picture; its path in ``images/`` if it does not exist.
    """
    name = name.replace("\\", "/")
    usual = folder / "images" / name
    if not name or _is_file(usual):
        return usual
    if _is_file(folder / name):
        return folder / name
    return next((path for path in (below / name for below in sorted(folder.iterdir())) if _is_file(path)), usual)


def of_pictures(rows: Mapping[str, list[Row]], files: Sequence[Path], labels: Path) -> dict[Path, list[Row]]:
    """Assign the rows of a further label file to labelled pictures.

    A name stands for the picture of that path in ``images/`` or next to the label file, or else for the only picture
    whose path ends with it. Rows of other names are left out, with a warning.

    Args:
        rows: Rows by the name of their picture.
        files: The labelled pictures.
        labels: The further label file.
    """
    ending: dict[tuple[str, ...], list[Path]] = {}
    for file in dict.fromkeys(files):
        for start in range(len(file.parts)):
            ending.setdefault(file.parts[start:], []).append(file)
    assigned: dict[Path, list[Row]] = {}
    unknown = []
    for name, of_name in rows.items():
        path = Path(name.replace("\\", "/"))
        alike = ending.get(path.parts, [])
        usual = [file for file in (labels.parent / "images" / path, labels.parent / path) if file in alike]
        if usual or len(alike) == 1:
            assigned.setdefault((usual or alike)[0], []).extend(of_name)
        else:
            unknown.append(name)
    if unknown:
        warn_once(
            f"{labels}: left out {counted(len(unknown), 'name')} that no labelled picture has, or several: "
            f"{', '.join(unknown[:NAMED])}{', …' if len(unknown) > NAMED else ''}"
        )
    return assigned


def check_files(files: Sequence[Path]) -> None:
    """Check that every labelled picture exists.

    Raises:
        InputError: Some are missing; the message counts them and names the first few.
    """
    missing = [file for file in files if not _is_file(file)]
    if missing:
        others = "".join(f", {file.name}" for file in missing[1:NAMED]) + (", …" if len(missing) > NAMED else "")
        raise InputError(f"missing {counted(len(missing), 'labelled image')}, the first is {missing[0]}{others}")


def _is_file(path: Path) -> bool:
    return os.path.isfile(path)  # noqa: PTH113 - Path.is_file raises for a name that is too long


def _lines(path: Path) -> list[str]:
    check_file(path, "label file")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror})") from error
    mark = next((mark for mark in BYTE_ORDER_MARKS if data.startswith(mark)), b"")
    encoding = BYTE_ORDER_MARKS[mark] if mark else _unmarked_encoding(data)
    try:
        text = data[len(mark) :].decode(encoding)
    except UnicodeDecodeError as error:
        if (kind := kind_of(data[:HEAD_BYTES])) not in (FileKind.TEXT, FileKind.UNKNOWN):
            raise InputError(f"{path} is not a CSV file: it holds {kind.value}") from error
        row = data[: len(mark) + error.start].count(b"\n") + 1
        raise InputError(f"{path}, row {row}: not {encoding.upper()} text; save the file as UTF-8") from error
    if "\0" in text:
        raise InputError(f"{path} is not a CSV file: it holds binary data")
    lines = list(io.StringIO(text, newline=""))
    if lines and re.fullmatch(r"sep=.\s*", lines[0]):  # for Excel
        lines[0] = "\n"
    return lines


def _unmarked_encoding(data: bytes) -> str:
    """Recognize UTF-16 by zero bytes at the start, which is the header and so plain ASCII."""
    start = data[:64]
    if start[1::2].count(0) > len(start) // 4:
        return "utf-16-le"
    return "utf-16-be" if start[::2].count(0) > len(start) // 4 else "utf-8"


def _header(line: str, separator: str) -> list[str]:
    cells = next(csv.reader(io.StringIO(line), delimiter=separator, skipinitialspace=True), [])
    return [cell.strip().lower() for cell in cells]


def _checked(header: list[str], required: Sequence[str], path: Path) -> list[str]:
    missing = [name for name in required if name not in header]
    if missing:
        found = ", ".join(header[:8]) + (" …" if len(header) > 8 else "")
        named = ", ".join(missing[:8]) + (" …" if len(missing) > 8 else "")
        raise InputError(f"{path}: missing {'column' if len(missing) == 1 else 'columns'} {named}; found {found}")
    twice = next((name for name in required if header.count(name) > 1), None)
    if twice is not None:
        raise InputError(f"{path}: the column {twice} occurs twice")
    return header
