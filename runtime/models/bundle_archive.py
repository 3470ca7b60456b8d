"""Reads the archive of a bundle, and rejects any that mien would not write."""

from __future__ import annotations

import hashlib
import io
import re
import stat
import struct
import zipfile
from collections.abc import Mapping, Sequence

from ..errors import ModelError
from ..file_kinds import HEAD_BYTES, FileKind, kind_of

MAX_MEMBERS = 256
MAX_DIRECTORY_BYTES = 256 * MAX_MEMBERS

_PART = r"[a-z0-9_-][a-z0-9_.-]*"  # no part begins with a dot, which excludes ".."
_NAME = re.compile(rf"(?:{_PART}/)*{_PART}")
_BROKEN = (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, RuntimeError, EOFError, struct.error)


def read_members(packed: bytes, origin: str) -> dict[str, bytes]:
    """Read the members of an archive.

    Args:
        packed: The archive.
        origin: Its name in messages.

    Returns:
        Members by name.

    Raises:
        ModelError: It is damaged, or not an archive that `bundle.pack_bundle` would write.
    """
    _check_directory(packed, origin)
    try:
        with zipfile.ZipFile(io.BytesIO(packed)) as archive:
            infos = archive.infolist()
            _check_members(infos, len(packed), origin)
            return {info.filename: archive.read(info) for info in infos}
    except (*_BROKEN, ValueError, OSError) as error:
        raise ModelError(f"{origin} is not a complete bundle ({error}); copy it again") from error


def _check_directory(packed: bytes, origin: str) -> None:
    """Check the end record, so that a huge directory is never parsed."""
    if packed[-22:-18] != b"PK\5\6" or packed[-42:-38] == b"PK\6\7":  # the latter marks zip64, for 4 GB and more
        kind = kind_of(packed[:HEAD_BYTES])
        found = "its end is missing" if kind is FileKind.ARCHIVE else f"it holds {kind.value}"
        raise ModelError(f"{origin} is not a complete bundle ({found}); copy it again")
    (directory_bytes,) = struct.unpack("<I", packed[-10:-6])
    if directory_bytes > MAX_DIRECTORY_BYTES:
        raise ModelError(
            f"{origin} has a directory of {directory_bytes} bytes; a bundle has at most {MAX_MEMBERS} members"
        )


def _check_members(infos: Sequence[zipfile.ZipInfo], packed_bytes: int, origin: str) -> None:
    if len(infos) > MAX_MEMBERS:
        raise ModelError(f"{origin} has {len(infos)} members; a bundle has at most {MAX_MEMBERS}")
    names = [info.orig_filename for info in infos]  # `filename` is cut at a zero byte
    if len(set(names)) < len(names):
        raise ModelError(f"{origin} holds {max(names, key=names.count)!r} more than once")
    for name, info in zip(names, infos, strict=True):
        kind = stat.S_IFMT(info.external_attr >> 16)
        if not _NAME.fullmatch(name):
            raise ModelError(f"{origin} holds {name!r}, which is not a valid member name")
        if kind not in (0, stat.S_IFREG):
            raise ModelError(f"{origin}: {name} is a link or a device, expected a regular file")
        if info.flag_bits & 1 or info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
            raise ModelError(f"{origin}: {name} is compressed or encrypted; a bundle stores its members uncompressed")
    # Overlapping members could each be as large as the whole archive.
    if sum(info.file_size for info in infos) > packed_bytes:
        raise ModelError(f"{origin}: its members claim to be larger than the file")


def check_sums(files: Mapping[str, bytes], listed: Mapping[str, tuple[object, object]], origin: str) -> None:
    """Compare all members with the sizes and SHA-256 digests that the manifest lists.

    Args:
        files: Members by name, without the manifest.
        listed: (size in bytes, digest) by name.
        origin: Name of the bundle in messages.

    Raises:
        ModelError: A member is missing, unlisted or changed.
    """
    if missing := sorted(listed.keys() - files.keys()):
        raise ModelError(f"{origin} lacks {', '.join(missing)}; copy it again")
    if unlisted := sorted(files.keys() - listed.keys()):
        raise ModelError(f"{origin} holds {', '.join(unlisted)}, which its manifest does not list")
    for name, (size, digest) in listed.items():
        if len(files[name]) != size or hashlib.sha256(files[name]).hexdigest() != digest:
            raise ModelError(f"{origin}: {name} was changed: its sha256 is not the manifest's")
