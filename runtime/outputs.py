"""Output files: never overwrite an input or each other, and appear complete or not at all."""

from __future__ import annotations

import atexit
import contextlib
import itertools
import os
import re
import stat
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO

from .errors import InputError, OutputError
from .file_kinds import PICTURES, FileKind, kind_of_file
from .interrupts import postponed
from .near_names import describe_missing

TEMP_PREFIX = ".mien-"
"""Prefix of unfinished files; a process that was killed may leave one."""
STREAMS = ("/dev/stdin", "/dev/stdout", "/dev/stderr")
_unfinished: set[Path] = set()
"""Temporary files of this process, removed when it exits."""


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
            if same_file(path, source) or (source.is_dir() and _is_input_of(path, source)):
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
    folder = _followed(path).parent
    if path.is_dir():
        raise OutputError(f"{path} is a folder, expected a file")
    if not folder.is_dir():
        problem, _, near = describe_missing(path.parent, "folder").partition("; ")
        raise OutputError(f"{problem} to write {path.name} into" + (f"; {near}" if near else ""))
    needed = [path] if path.exists() else []
    if not needed or path.is_file():  # a file is replaced by a new one; a device is written to
        needed.append(folder)
    if not all(os.access(place, os.W_OK) for place in needed):
        raise OutputError(f"no permission to write {path}")


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


@atexit.register
def remove_unfinished() -> None:
    """Remove temporary files that an interrupt kept from being finished or discarded."""
    for path in _unfinished:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
    _unfinished.clear()


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path for a library that writes files by name; see `AtomicFile`.

    Raises:
        OutputError: The place cannot be written; the message says why.
    """
    try:
        with AtomicFile(path) as file:
            file.handle.close()
            yield file.temporary
    except OSError as error:
        raise OutputError(f"cannot write {path} ({error.strerror or error})") from error


def write_atomic(path: Path, content: bytes) -> None:
    """Write a file completely or not at all.

    Raises:
        OSError: The file cannot be written; an existing one is unchanged.
    """
    with AtomicFile(path) as file:
        file.handle.write(content)


def write_report(path: Path, text: str) -> None:
    """Write a text file completely or not at all.

    Raises:
        OutputError: The file cannot be written.
    """
    try:
        write_atomic(path, text.encode(errors="backslashreplace"))
    except OSError as error:
        raise OutputError(f"cannot write {path} ({error.strerror})") from error


class AtomicFile:
    """Binary file that replaces `path` only once it is closed without an error.

    If `path` is a link, its target is replaced. A pipe or device is written directly, as is an open descriptor, such as
    ``/dev/stdout``: the file that it leads to is appended to.

    Attributes:
        handle: The open file.
        temporary: Name of the file until it is complete, with the suffix of `path`.

    Raises:
        OSError: From any method: the file cannot be written. Nothing is left behind.
    """

    def __init__(self, path: Path) -> None:
        target, descriptor = _followed(path), _descriptor(path)
        replaceable = descriptor is None and (target.is_file() or not target.exists())
        self._target = target if replaceable else None
        self.temporary = path if self._target is None else _temp_path(target.parent, path.suffix)
        self._mode = target.stat().st_mode & 0o7777 if self._target is not None and target.exists() else None
        if self._mode is not None:  # never more readable than the file that it replaces
            descriptor = os.open(self.temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, self._mode | stat.S_IWUSR)
        self.handle: IO[bytes] = self.temporary.open("wb") if descriptor is None else os.fdopen(descriptor, "wb")

    def commit(self) -> None:
        """Close the file and move it to its path."""
        try:
            with postponed():
                self.handle.close()
                if self._target is not None:
                    if self._mode is not None:
                        with contextlib.suppress(PermissionError):  # a file system without permissions, such as vfat
                            self.temporary.chmod(self._mode)
                    os.replace(self.temporary, self._target)
                    _unfinished.discard(self.temporary)
        except OSError:
            self.discard()
            raise

    def cut(self, size_bytes: int) -> None:
        """Drop what follows after some bytes; a pipe, device or descriptor keeps all."""
        with contextlib.suppress(OSError):
            self.handle.close()
        if self._target is not None:
            os.truncate(self.temporary, size_bytes)

    def discard(self) -> None:
        """Close the file and delete it, leaving `path` unchanged."""
        with contextlib.suppress(OSError):  # the write has already reported a full disk
            self.handle.close()
        if self._target is not None:
            self.temporary.unlink(missing_ok=True)
            _unfinished.discard(self.temporary)

    def __enter__(self) -> AtomicFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.commit()
        else:
            self.discard()


class LineFile:
    """Text file of whole lines that replaces `path` only once it is closed; see `AtomicFile`.

    Each write is flushed, so that even a killed process leaves its lines in the temporary file. Without any line, no
    file is created or replaced.

    Args:
        path: File to write.
        keep: Keep the lines written so far if a write fails, because they come from a live source.

    Raises:
        OutputError: A file cannot be created there.
    """

    def __init__(self, path: Path, *, keep: bool = False) -> None:
        check_writable(path)
        self._path = path
        self._keep = keep
        self._file: AtomicFile | None = None
        self._whole_bytes = 0

    def write(self, lines: str) -> None:
        """Append whole lines.

        Raises:
            OSError: The lines cannot be written; the file is closed.
        """
        data = lines.encode(errors="backslashreplace")  # as JSON has the bytes of names that are not UTF-8
        try:
            self._file = self._file or AtomicFile(self._path)
            self._file.handle.write(data)
            self._file.handle.flush()
        except OSError:
            self._cut_off()
            raise
        self._whole_bytes += len(data)

    def close(self) -> None:
        """Finish the file.

        Raises:
            OSError: The file cannot be moved to its path.
        """
        file, self._file = self._file, None
        if file is not None:
            file.commit()

    def discard(self) -> None:
        """Close the file and delete it, leaving `path` unchanged."""
        file, self._file = self._file, None
        if file is not None:
            file.discard()

    def _cut_off(self) -> None:
        """Drop the line that was written in part, or the whole file."""
        if self._file is None or not self._keep or not self._whole_bytes:
            self.discard()
            return
        self._file.cut(self._whole_bytes)
        self.close()


def _temp_path(folder: Path, suffix: str) -> Path:
    """Return a unique hidden name; a file of that name is removed when the process exits."""
    temporary = folder / f"{TEMP_PREFIX}{uuid.uuid4().hex}{suffix if len(suffix) < 16 else ''}"
    _unfinished.add(temporary)
    return temporary


def _descriptor(path: Path) -> int | None:
    """Duplicate the open descriptor that a path names; None if it names none."""
    named = re.fullmatch(r"/dev/std(?:in|out|err)|/(?:dev|proc/self)/fd/(\d+)", os.fspath(path))
    if named is None:
        return None
    return os.dup(int(named[1]) if named[1] else STREAMS.index(named[0]))


def same_file(path: Path, other: Path) -> bool:
    """Check whether two paths name one file, existing or not: by links, hard links or another spelling."""
    try:
        return os.path.samefile(path, other)  # noqa: PTH121 - follows links, and knows hard ones
    except OSError:
        return _followed(path) == _followed(other)


def _followed(path: Path) -> Path:
    return Path(os.path.realpath(path))  # `Path.resolve` raises for a loop of links


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
        return (_followed(path),)
    return (found.st_dev, found.st_ino)


def _is_input_of(path: Path, folder: Path) -> bool:
    """Return whether `path` is an existing picture, video or label file below an input folder."""
    if not path.is_file() or not _followed(path).is_relative_to(_followed(folder)):
        return False
    if path.suffix.lower() in (".csv", ".txt"):
        return True
    try:
        return kind_of_file(path) in PICTURES | {FileKind.VIDEO}
    except InputError:
        return False
