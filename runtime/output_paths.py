"""Paths of output files, which never overwrite an input or each other."""

from __future__ import annotations

import itertools
import os
import stat
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from .errors import InputError, OutputError
from .file_kinds import PICTURES, FileKind, is_folder, kind_of_file
from .near_names import describe_missing


def check_outputs(outputs: Mapping[str, Path | None], inputs: Iterable[Path | None] = ()) -> None:
    """Check every output of a command before anything is read, computed or written.

    Files are compared by identity, so links, relative and absolute paths of a file count as the same.

    Args:
        outputs: Files to be written, by option; None for an option that was not given.
        inputs: Files and folders that the command reads.

    Raises:
        InputError: An output is an input or ``-``, or two outputs are one file.
        OutputError: A file cannot be made there.
    """
    read = [path for path in inputs if path is not None]
    taken: dict[tuple[object, ...], str] = {}
    for option, path in outputs.items():
        if path is None:
            continue
        check_no_dash(option, path)
        _check_name(path)
        for source in read:
            if same_file(path, source) or (is_folder(source) and _is_input_of(path, source)):
                raise InputError(f"{option} {path} would overwrite the input {source}; choose another name")
        if (other := taken.setdefault(_identity(path), option)) != option:
            raise InputError(f"{option} and {other} name one file, {path}; choose another name for one of them")
        check_writable(path)


def check_no_dash(option: str, path: Path) -> None:
    """Raise InputError if ``-``, which means standard output elsewhere, is given to an option that takes a path."""
    if path == Path("-"):
        raise InputError(f"{option} -: only --json of predict and webcam accepts -, for standard output; name a file")


def check_writable(path: Path) -> None:
    """Raise OutputError unless a file can be written at `path`; an existing file is not changed."""
    _check_name(path)
    folder = followed(path).parent
    if path.is_dir():
        raise OutputError(f"{path} is a folder, expected a file")
    if not folder.is_dir():
        problem, _, near = describe_missing(path.parent, "folder").partition("; ")
        raise OutputError(f"{problem} to write {path.name} into" + (f"; {near}" if near else ""))
    needed = [path] if path.exists() else []
    if not needed or path.is_file():  # a file is replaced by a new one; a device is written to
        needed.append(folder)
    for place in needed:
        if not os.access(place, os.W_OK):
            raise OutputError(f"no permission to write {path}{read_only_note(place)}")


def read_only_note(place: Path) -> str:
    """Return what to add to an error if a whole file system refuses to be written; nothing for a lack of rights."""
    read_only = hasattr(os, "statvfs") and os.statvfs(place).f_flag & os.ST_RDONLY
    return ", whose file system is read-only" if read_only else ""


def file_of(target: str | None) -> Path | None:
    """Return the path of a target; None if there is none, or if it is ``-``, standard output."""
    return None if target is None or target == "-" else Path(target)


def has_reader(target: Path | str) -> bool:
    """Return whether `target` (``-``: standard output) is a pipe, socket or terminal, rather than a file."""
    try:
        mode = os.stat(1 if target == "-" else target).st_mode  # noqa: PTH116
    except OSError:
        return False
    return not stat.S_ISREG(mode)


def free_path(path: Path) -> Path:
    """Return `path`, a name that the user did not choose, with a number added to it if a file exists there."""
    return numbered(path, free_number(path))


def free_number(path: Path, *, taken: Collection[Path] = (), start: int = 1) -> int:
    """Return the first number from `start` on whose name, see `numbered`, replaces no file.

    Args:
        path: The first name.
        taken: Files that are about to be created.
        start: First number to try.
    """
    names = ((number, numbered(path, number)) for number in itertools.count(start))
    return next(number for number, name in names if not os.path.lexists(name) and name not in taken)


def numbered(path: Path, number: int) -> Path:
    """Return the n-th name for a file: ``a.jpg``, ``a-2.jpg``, ``a-3.jpg``."""
    return path if number == 1 else path.with_name(f"{path.stem}-{number}{path.suffix}")


def same_file(path: Path, other: Path) -> bool:
    """Check whether two paths name one file, existing or not: by links, hard links or another spelling."""
    try:
        return os.path.samefile(path, other)  # noqa: PTH121 - follows links, and knows hard ones
    except OSError:
        return followed(path) == followed(other)


def followed(path: Path) -> Path:
    """Follow links; unlike `Path.resolve`, do not raise for a loop of them."""
    return Path(os.path.realpath(path))


def _check_name(path: Path) -> None:
    """Raise OutputError for a name that no file can have: it is too long, holds a null byte, or is a loop of links."""
    try:
        os.stat(path)  # noqa: PTH116 - the methods of Path raise something else
    except (FileNotFoundError, NotADirectoryError):
        return
    except (OSError, ValueError) as error:
        raise OutputError(f"cannot write {path} ({getattr(error, 'strerror', None) or error})") from error


def _identity(path: Path) -> tuple[object, ...]:
    """Identify a file by its inode, or by its path if it does not exist yet."""
    try:
        found = path.stat()
    except OSError:
        return (followed(path),)
    return (found.st_dev, found.st_ino)


def _is_input_of(path: Path, folder: Path) -> bool:
    """Return whether `path` is an existing picture, video or label file below an input folder."""
    if not path.is_file() or not followed(path).is_relative_to(followed(folder)):
        return False
    if path.suffix.lower() in (".csv", ".txt"):
        return True
    try:
        return kind_of_file(path) in PICTURES | {FileKind.VIDEO}
    except InputError:
        return False
