"""Output files that appear complete or not at all, even if the power fails."""

from __future__ import annotations

import atexit
import contextlib
import errno
import os
import re
import stat
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from .errors import OutputError
from .interrupts import postponed
from .output_paths import check_writable, followed

TEMP_PREFIX = ".mien-"
"""Prefix of unfinished files; a process that was killed may leave one."""
UNABLE_TO_FLUSH = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP)
"""Errors of file systems that cannot wait for their disk, such as some in user space."""
STREAMS = ("/dev/stdin", "/dev/stdout", "/dev/stderr")
_unfinished: set[Path] = set()
"""Temporary files of this process, removed when it exits."""


@atexit.register
def remove_unfinished() -> None:
    """Remove temporary files that an interrupt kept from being finished or discarded."""
    while _unfinished:
        with contextlib.suppress(OSError):
            _unfinished.pop().unlink()


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


def write_file(path: Path, content: bytes) -> None:
    """Write a file as `write_atomic` does, with an error that names it.

    Raises:
        OutputError: The file cannot be written.
    """
    try:
        write_atomic(path, content)
    except OSError as error:
        raise OutputError(f"cannot write {path} ({error.strerror})") from error


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """Yield a folder for intermediate files, which is deleted afterwards.

    Raises:
        OutputError: It cannot be written; the message does not blame the file that the work is for.
    """
    try:
        with tempfile.TemporaryDirectory(prefix="mien-") as folder:
            yield Path(folder)
    except OSError as error:
        place = tempfile.tempdir or ""  # none if no folder can be written, as the error then says
        if error.filename is not None and not str(error.filename).startswith(str(place)):
            raise
        raise OutputError(
            f"cannot write temporary files{place and f' in {place}'} ({error.strerror or error}); free some space, or "
            "set TMPDIR to another folder"
        ) from error


def write_report(path: Path, text: str) -> None:
    """Write a text file as `write_file` does."""
    write_file(path, text.encode(errors="backslashreplace"))


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
        target, descriptor = followed(path), _descriptor(path)
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
                    _flush_to_disk(self.temporary)
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


def _flush_to_disk(path: Path) -> None:
    """Wait until a file is on its disk; renamed before that, it could be empty after a power failure."""
    with path.open("r+b") as file:
        try:
            os.fsync(file.fileno())
        except OSError as error:
            if error.errno not in UNABLE_TO_FLUSH:
                raise


def _descriptor(path: Path) -> int | None:
    """Duplicate the open descriptor that a path names; None if it names none."""
    named = re.fullmatch(r"/dev/std(?:in|out|err)|/(?:dev|proc/self)/fd/(\d+)", os.fspath(path))
    if named is None:
        return None
    return os.dup(int(named[1]) if named[1] else STREAMS.index(named[0]))
