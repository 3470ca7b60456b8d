"""Lists the pictures in folders, counts other files, and reports unreadable ones."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from glob import glob
from pathlib import Path

import cv2

from ..errors import InputError, warn_once
from ..file_kinds import PICTURES, FileKind, is_folder, kind_of_file
from ..wording import counted

_SUFFIXES = r"\.(jpe?g|jpe|jfif|a?png|bmp|dib|webp|tiff?|avif|hei[cf]|gif|jp2|jxl|p[bgp]m)"
_SYSTEM = re.compile(
    r"\._.*|\.DS_Store|Thumbs\.db|ehthumbs\.db|desktop\.ini|\.mien-.*"
    r"|@eaDir|#recycle|@Recycle|\.@__thumb|\.thumbnails|__MACOSX|\.Spotlight-V100|\.Trashes|\.fseventsd"
    r"|\$RECYCLE\.BIN|System Volume Information",
    re.IGNORECASE | re.DOTALL,
)


def is_system_name(name: str) -> bool:
    """Return whether a file or folder was made by an operating system or NAS, such as ``.DS_Store`` or ``@eaDir``."""
    return _SYSTEM.fullmatch(name) is not None


def claims_picture(name: str) -> bool:
    """Return whether a name has a picture's suffix; such a file must not be skipped if it is not a picture."""
    return re.search(_SUFFIXES + "$", name, re.IGNORECASE) is not None


def is_picture(path: Path) -> bool:
    """Return whether to read a file as a picture rather than a video, judging by its content.

    This includes unreadable files and other files with a picture's name, so that reading them raises the right error.
    """
    try:
        kind = kind_of_file(path)
    except InputError:
        return True
    if kind is FileKind.GIF:  # FFmpeg reads them where OpenCV's own reader, which came later, is missing
        return cv2.haveImageWriter(".gif")
    return kind in PICTURES or (kind is not FileKind.VIDEO and claims_picture(path.name))


def expand_patterns(inputs: Sequence[str]) -> list[str]:
    """Replace patterns such as ``photos/*.jpg``, which not every shell expands, by the sorted matching files.

    Names of existing files, URIs and patterns without a match are kept.
    """

    def matches(text: str) -> list[str]:
        literal = "://" in text or os.path.lexists(text)
        return [text] if literal else sorted(glob(text, recursive=True)) or [text]  # noqa: PTH207 - the text may be absolute

    return [name for text in inputs for name in matches(text)]


def list_pictures(inputs: Sequence[Path], failures: list[str]) -> list[Path]:
    """Replace each folder among the inputs by the pictures below it; files are kept, whatever they hold.

    Args:
        inputs: Files and folders.
        failures: Receives a message for each folder without pictures, and as in `pictures_below`.
    """
    found: list[Path] = []
    for path in inputs:
        if not is_folder(path):
            found.append(path)
            continue
        earlier = len(failures)
        below = pictures_below(path, failures)
        found += below
        if not below and len(failures) == earlier:
            failures.append(f"{path} holds no pictures")
    return found


def pictures_in(folder: Path, *, required: bool = True) -> list[Path]:
    """List the pictures below a folder, as `pictures_below` does.

    Args:
        folder: The folder.
        required: Whether there must be at least one.

    Raises:
        InputError: There are no pictures, or a part of the folder cannot be read.
    """
    failures: list[str] = []
    found = pictures_below(folder, failures)
    if failures or (required and not found):
        raise InputError(failures[0] if failures else f"{folder} holds no pictures")
    return found


def pictures_below(folder: Path, failures: list[str]) -> list[Path]:
    """List the pictures of a folder and its subfolders, sorted.

    Pictures are recognized by their content or suffix: a file such as ``a.jpg`` that is not a picture is listed, and
    fails when read. Links are followed, but no folder is listed twice, so loops end. One warning counts the files that
    are not pictures, including those of the operating system.

    Args:
        folder: The folder.
        failures: Receives a message for each folder or file that cannot be read.
    """
    found: list[Path] = []
    others: Counter[str] = Counter()
    for path in walk(folder, failures, others):
        if claims_picture(path.name):
            found.append(path)
            continue
        try:
            kind = kind_of_file(path)
        except InputError as error:
            failures.append(str(error))
            continue
        if kind in PICTURES:
            found.append(path)
        else:
            others[kind.name.lower().replace("_", " ")] += 1
    warn_of_others(str(folder), others)
    return sorted(found)


def warn_of_others(folder: str, others: Counter[str]) -> None:
    """Warn of the files in a folder that are not pictures, if any, by kind."""
    if others:
        kinds = ", ".join(f"{kind}: {count}" for kind, count in sorted(others.items()))
        skipped = counted(others.total(), "file that is not a picture", "files that are not pictures")
        warn_once(f"{folder}: skipped {skipped} ({kinds})")


def natural_order(path: Path) -> list[list[tuple[int, str]]]:
    """Return a sort key that puts ``2.png`` before ``10.png``."""
    return [
        [(int(digits), "") if digits.isdecimal() else (-1, digits) for digits in re.split(r"(\d+)", part) if digits]
        for part in path.parts
    ]


def walk(root: Path, failures: list[str], others: Counter[str]) -> Iterator[Path]:
    """Yield the files below a folder, in any order; arguments are those of `pictures_below` and `warn_of_others`."""
    home = root.resolve()
    seen: set[tuple[int, int]] = set()
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        try:
            status = os.stat(folder)  # noqa: PTH116
            names = os.listdir(folder)  # noqa: PTH208
        except OSError as error:
            failures.append(f"{folder} cannot be read ({error.strerror})")
            continue
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        for path in (folder / name for name in sorted(names)):
            if is_system_name(path.name):
                others["system file or folder"] += 1
            elif not is_folder(path):
                yield path
            elif not (path.is_symlink() and path.resolve().is_relative_to(home)):  # else it is listed by its own name
                waiting.append(path)
