"""Reads pictures and writes rows by path or URI (``s3://bucket/x``) with pyarrow, which the ``ray`` extra installs."""

from __future__ import annotations

import contextlib
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path, PurePosixPath

from pyarrow import ArrowException
from pyarrow.fs import FileInfo, FileSelector, FileSystem, FileType, LocalFileSystem

from ..atomic_file import TEMP_PREFIX, write_atomic
from ..errors import InputError, MienError, OutputError
from ..file_kinds import HEAD_BYTES, PICTURES, check_file, kind_of
from ..pictures.folders import claims_picture, is_picture, is_system_name, list_pictures, warn_of_others

OBJECT_STORES = frozenset({"s3", "gcs", "abfs"})
"""File systems in which a file appears only once it is complete, when it is closed."""

FAILED = (OSError, ValueError, ImportError, ArrowException)
"""Raised by file systems: invalid addresses, missing permissions, network errors, protocols not installed."""


@dataclass(frozen=True, slots=True)
class Picture:
    """Location of a picture.

    Attributes:
        name: Name in rows and errors.
        place: URI of the input, which selects the file system; empty for local files.
        path: Path within the file system.
        stamp: Size and modification time, if the file system reports them; detects a replaced file.
    """

    name: str
    place: str
    path: str
    stamp: str = ""


def is_uri(place: str) -> bool:
    """Check whether an input is a URI rather than a local path."""
    return "://" in place


@lru_cache
def file_system(place: str) -> tuple[FileSystem, str]:
    """Open the file system of a path or URI.

    Returns:
        The file system, and the path within it.

    Raises:
        InputError: The URI is invalid, or its scheme is not installed.
    """
    if not is_uri(place):
        return LocalFileSystem(), str(Path(place).absolute())
    try:
        found, path = FileSystem.from_uri(place)
    except FAILED as error:
        raise InputError(f"{place} cannot be opened ({error}); give a path or a URI such as s3://bucket/x") from error
    return found, path.rstrip("/")


def find_pictures(inputs: Sequence[str], failures: list[str]) -> list[Picture]:
    """List the pictures among the inputs and, sorted, in folders and their subfolders.

    Args:
        inputs: Pictures and folders, as paths or URIs.
        failures: Receives a message for each missing picture and empty folder.

    Raises:
        InputError: An input is a video, or a URI cannot be listed.
    """
    found: list[Picture] = []
    for place in inputs:
        found += _in_storage(place, failures) if is_uri(place) else _on_this_machine(place, failures)
    return found


def _on_this_machine(place: str, failures: list[str]) -> Iterator[Picture]:
    for path in list_pictures([Path(place)], failures):
        try:
            check_file(path)
            status = path.stat()
        except (InputError, OSError) as error:
            failures.append(str(error))
            continue
        if not is_picture(path):
            raise _no_picture(str(path))
        yield Picture(str(path), "", str(path.absolute()), f"{status.st_size} {status.st_mtime_ns}")


def _in_storage(place: str, failures: list[str]) -> Iterator[Picture]:
    system, path = file_system(place)
    scheme = place.partition("://")[0]
    try:
        info = system.get_file_info(path)
        infos = _pictures_below(system, path, scheme) if info.type == FileType.Directory else [info]
        # Not named after the input: its URI may hold keys, and rows may be passed on.
        if info.type == FileType.File and not _is_picture(system, info):
            raise _no_picture(f"{scheme}://{path}")
    except FAILED as error:
        raise InputError(f"{place} cannot be listed ({error})") from error
    if not infos:
        failures.append(f"{scheme}://{path} holds no pictures")
    for info in infos:
        name = f"{scheme}://{info.path}"
        if info.type == FileType.File:
            yield Picture(name, place, info.path, f"{info.size} {info.mtime_ns}")
        else:
            failures.append(f"no file {name}")


def _pictures_below(system: FileSystem, path: str, scheme: str) -> list[FileInfo]:
    """List the pictures below a folder, sorted; the rest is counted in one warning."""
    infos = system.get_file_info(FileSelector(path, recursive=True))
    found: list[FileInfo] = []
    others: Counter[str] = Counter()
    for info in infos:
        parts = PurePosixPath(info.path).relative_to(PurePosixPath(path)).parts
        if info.type == FileType.Directory:
            continue
        if any(map(is_system_name, parts)):
            others["system file"] += 1
        elif _is_picture(system, info):
            found.append(info)
        else:
            others["other"] += 1
    warn_of_others(f"{scheme}://{path}", others)
    return sorted(found, key=lambda i: PurePosixPath(i.path))


def _is_picture(system: FileSystem, info: FileInfo) -> bool:
    """Check the suffix, and read the beginning of a file only where that does not tell: each request takes time."""
    if claims_picture(info.path) or info.type != FileType.File:
        return True
    with system.open_input_file(info.path) as file:
        return kind_of(file.read(HEAD_BYTES)) in PICTURES


def _no_picture(name: str) -> InputError:
    return InputError(f"{name} is not a picture; for a video, run mien predict without --ray")


def read_picture(picture: Picture) -> bytes:
    """Read the file of a picture.

    Raises:
        InputError: The file is missing or cannot be read.
    """
    try:
        if not picture.place:  # pyarrow rejects names that are not UTF-8
            return Path(picture.path).read_bytes()
        with file_system(picture.place)[0].open_input_file(picture.path) as file:
            return file.read()
    except FileNotFoundError as error:
        raise InputError(f"no file {picture.name}") from error
    except FAILED as error:
        raise InputError(f"{picture.name} cannot be read ({error})") from error


class Folder:
    """Folder of small files that are written atomically; several processes may use it at once.

    Args:
        place: Path or URI.

    Raises:
        InputError: The URI is invalid, or its scheme is not installed.
    """

    def __init__(self, place: str) -> None:
        self._place = place
        self._system, self._path = file_system(place)

    def make(self) -> None:
        """Create the folder and its parents.

        Raises:
            OutputError: The folder cannot be created.
        """
        if self._system.type_name in OBJECT_STORES:
            return  # they have no folders
        with self._as_errors("create the folder"):
            self._system.create_dir(self._path, recursive=True)

    def names(self) -> set[str]:
        """List the names of all finished files; empty if the folder does not exist.

        Raises:
            OutputError: The folder cannot be listed.
        """
        return {name for name in self._all_names() if not name.startswith(TEMP_PREFIX)}

    def remove_temporary_files(self) -> None:
        """Remove the unfinished files of processes that were killed while they wrote.

        Raises:
            OutputError: The folder cannot be listed, or a file not removed.
        """
        for name in self._all_names():
            if name.startswith(TEMP_PREFIX):
                self.remove(name)

    def read(self, name: str) -> bytes | None:
        """Read a file; None if it does not exist.

        Raises:
            OutputError: The file cannot be read.
        """
        with self._as_errors("read", name):
            try:
                with self._system.open_input_file(self._file(name)) as file:
                    return file.read()
            except FileNotFoundError:
                return None

    def write(self, name: str, data: bytes) -> None:
        """Write a file, replacing an existing one.

        Raises:
            OutputError: The file cannot be written.
        """
        with self._as_errors("write", name):
            if self._system.type_name in OBJECT_STORES:
                self._put(name, data)
                return
            if isinstance(self._system, LocalFileSystem):
                write_atomic(Path(self._file(name)), data)
                return
            temporary = f"{TEMP_PREFIX}{uuid.uuid4().hex}"
            try:
                self._put(temporary, data)
                self._system.move(self._file(temporary), self._file(name))
            except FAILED:
                with contextlib.suppress(*FAILED):
                    self._system.delete_file(self._file(temporary))
                raise

    def remove(self, name: str) -> None:
        """Remove a file if it exists.

        Raises:
            OutputError: The file cannot be removed.
        """
        with self._as_errors("remove", name), contextlib.suppress(FileNotFoundError):
            self._system.delete_file(self._file(name))

    def _all_names(self) -> list[str]:
        with self._as_errors("list"):
            found = self._system.get_file_info(FileSelector(self._path, allow_not_found=True))
        return [info.base_name for info in found]

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
