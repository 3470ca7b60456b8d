"""Pictures and rows by path or by URI (``s3://bucket/folder``), through pyarrow's file systems: the ``ray`` extra."""

from __future__ import annotations

import contextlib
import stat
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath

from pyarrow import ArrowException
from pyarrow.fs import FileInfo, FileSelector, FileSystem, FileType, LocalFileSystem

from mien.runtime.errors import InputError, MienError, OutputError
from mien.runtime.images import IMAGE_SUFFIXES, expand

OBJECT_STORES = frozenset({"s3", "gcs", "abfs"})
"""File systems where a file appears whole when it is closed, and not before."""

FAILED = (OSError, ValueError, ImportError, ArrowException)
"""What file systems raise: wrong addresses, missing rights, broken lines, protocols that are not installed."""


@dataclass(frozen=True, slots=True)
class Picture:
    """Where a picture lies.

    name: as its row and errors call it. place: the input that leads to its file system. stamp: size and time of the
    last change, as far as the file system tells them: another one is another picture.
    """

    name: str
    place: str
    path: str
    stamp: str = ""


def is_uri(place: str) -> bool:
    """Whether an input is a URI, not a path of this machine."""
    return "://" in place


@lru_cache
def file_system(place: str) -> tuple[FileSystem, str]:
    """File system and path within it.

    Raises:
        InputError: a URI that is none, or of a kind that is not installed.
    """
    if not is_uri(place):
        return LocalFileSystem(), str(Path(place).absolute())
    try:
        found, path = FileSystem.from_uri(place)
    except FAILED as error:
        raise InputError(f"{place} cannot be opened ({error}); wanted a path or a URI such as s3://bucket/x") from error
    return found, path.rstrip("/")


def find_pictures(inputs: Sequence[str], failures: list[str]) -> list[Picture]:
    """List pictures and those below folders, a folder's sorted; what is not there is noted in `failures`.

    Raises:
        InputError: a video, or a place that cannot be listed.
    """
    found: list[Picture] = []
    for place in inputs:
        found += _in_storage(place, failures) if is_uri(place) else _on_this_machine(place, failures)
    if (other := next((p for p in found if _suffix(p.path) not in IMAGE_SUFFIXES), None)) is not None:
        raise InputError(f"{other.name} is no picture; a video is one process's work: mien predict it without --ray")
    return found


def _on_this_machine(place: str, failures: list[str]) -> Iterator[Picture]:
    for path in expand([Path(place)], failures):
        try:
            status = path.stat()
        except OSError:
            status = None
        if status is None or not stat.S_ISREG(status.st_mode):
            failures.append(f"no image {path}")
        else:
            yield Picture(str(path), "", str(path.absolute()), f"{status.st_size} {status.st_mtime_ns}")


def _in_storage(place: str, failures: list[str]) -> Iterator[Picture]:
    system, path = file_system(place)
    scheme = place.partition("://")[0]
    try:
        infos = _listed(system, path)
    except FAILED as error:
        raise InputError(f"{place} cannot be listed ({error})") from error
    if infos is None:
        failures.append(f"no image {scheme}://{path}")
    elif not infos:
        failures.append(f"{scheme}://{path} holds no pictures")
    for info in infos or ():
        # Named by what the file system calls it: a URI may hold keys and options, and rows are for others to read.
        name = f"{scheme}://{info.path}"
        if info.type == FileType.File:
            yield Picture(name, place, info.path, f"{info.size} {info.mtime_ns}")
        else:
            failures.append(f"no image {name}")


def _listed(system: FileSystem, path: str) -> list[FileInfo] | None:
    """The file itself, or what is named as a picture below a folder; None where nothing is."""
    info = system.get_file_info(path)
    if info.type == FileType.NotFound:
        return None
    if info.type == FileType.File:
        return [info]
    below = system.get_file_info(FileSelector(path, recursive=True))
    pictures = [i for i in below if i.type != FileType.Directory and _suffix(i.path) in IMAGE_SUFFIXES]
    return sorted(pictures, key=lambda i: PurePosixPath(i.path))


def _suffix(path: str) -> str:
    return PurePosixPath(path).suffix.lower()


def read_picture(picture: Picture) -> bytes:
    """The bytes of a picture's file.

    Raises:
        InputError: missing, or it cannot be read.
    """
    try:
        if not picture.place:  # pyarrow refuses names that are no UTF-8
            return Path(picture.path).read_bytes()
        with file_system(picture.place)[0].open_input_file(picture.path) as file:
            return file.read()
    except FileNotFoundError as error:
        raise InputError(f"no image {picture.name}") from error
    except FAILED as error:
        raise InputError(f"{picture.name} cannot be read ({error})") from error


class Folder:
    """A folder of small files, each there whole or not at all. Any number of processes may open it."""

    def __init__(self, place: str) -> None:
        self._place = place
        self._system, self._path = file_system(place)

    def make(self) -> None:
        """Make the folder and those above it.

        Raises:
            OutputError: the place cannot be written.
        """
        if self._system.type_name in OBJECT_STORES:
            return  # has no folders
        with self._as_errors("make the folder"):
            self._system.create_dir(self._path, recursive=True)

    def names(self) -> set[str]:
        """Names of all files in it; none if it is not there.

        Raises:
            OutputError: it cannot be listed.
        """
        with self._as_errors("list"):
            found = self._system.get_file_info(FileSelector(self._path, allow_not_found=True))
        return {info.base_name for info in found}

    def read(self, name: str) -> bytes | None:
        """A file's bytes, None if it is not there.

        Raises:
            OutputError: it cannot be read.
        """
        with self._as_errors("read", name):
            try:
                with self._system.open_input_file(self._file(name)) as file:
                    return file.read()
            except FileNotFoundError:
                return None

    def write(self, name: str, data: bytes) -> None:
        """Write a file, over an older one of that name.

        Raises:
            OutputError: the place cannot be written.
        """
        with self._as_errors("write", name):
            if self._system.type_name in OBJECT_STORES:
                self._put(name, data)
                return
            partial = f"{name}.{uuid.uuid4().hex}.partial"
            try:
                self._put(partial, data)
                self._system.move(self._file(partial), self._file(name))
            except FAILED:
                with contextlib.suppress(*FAILED):
                    self._system.delete_file(self._file(partial))
                raise

    def remove(self, name: str) -> None:
        """Remove a file if it is there.

        Raises:
            OutputError: it cannot be removed.
        """
        with self._as_errors("remove", name), contextlib.suppress(FileNotFoundError):
            self._system.delete_file(self._file(name))

    def _file(self, name: str) -> str:
        return f"{self._path}/{name}"

    def _put(self, name: str, data: bytes) -> None:
        with self._system.open_output_stream(self._file(name)) as file:
            file.write(data)

    @contextlib.contextmanager
    def _as_errors(self, verb: str, name: str = "") -> Iterator[None]:
        try:
            yield
        except MienError:
            raise
        except FAILED as error:
            within = f"{name} in " if name else ""
            raise OutputError(f"cannot {verb} {within}{self._place} ({error})") from error
