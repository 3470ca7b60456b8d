"""Finds the class folders of a data set, which may come in a training and a validation part."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ...runtime.errors import InputError, warn_once
from ...runtime.file_kinds import is_folder
from ...runtime.near_names import describe_missing
from ...runtime.pictures.folders import is_system_name

TRAINING, VALIDATION, TEST = "training", "validation", "test"
ROLES = {
    **dict.fromkeys(("train", "training", "trn"), TRAINING),
    **dict.fromkeys(("val", "valid", "validation", "dev", "eval", "evaluation", "holdout", "heldout"), VALIDATION),
    **dict.fromkeys(("test", "testing", "tst"), TEST),
}


@dataclass(frozen=True, slots=True)
class ClassFolders:
    """Folder whose subfolders are classes.

    Attributes:
        folder: The folder.
        classes: Names of its subfolders, sorted.
        held_out: Whether this is the validation part; None if the data set defines no split.
    """

    folder: Path
    classes: tuple[str, ...]
    held_out: bool | None = None


def find_class_folders(root: Path) -> list[ClassFolders]:
    """Find the class folders of a data set.

    If the set comes in parts, such as ``training_set/`` and ``test_set/``, or ``train/``, ``val/`` and ``test/``, the
    validation part is held out, or the test part if there is no validation part.

    Returns:
        The folder with the classes, or the training and the validation part.

    Raises:
        InputError: The folder does not exist or has fewer than two classes, a class name is not plain text, or the
            parts are not one training and one validation set with the same classes.
    """
    if not is_folder(root):
        raise InputError(describe_missing(root, "folder"))
    folder = _without_wrapping(root)
    roles = {path: _role(path.name) for path in _subfolders(folder)}
    parts = {
        role: [path for path, of_path in roles.items() if of_path == role] for role in (TRAINING, VALIDATION, TEST)
    }
    held_out = parts[VALIDATION] or parts[TEST]
    if None in roles.values() and not (parts[TRAINING] and held_out):
        return [_classes_of(folder)]
    if not roles:
        return [_classes_of(folder)]
    named = ", ".join(sorted(path.name for path in roles))
    if len(parts[TRAINING]) != 1 or len(held_out) != 1 or None in roles.values():
        first = next(path for path, role in roles.items() if role is not None)
        example = f"--data {shlex.quote(str(first))}"
        raise InputError(f"{folder}: {named} look like parts of a data set, not classes; pass one, as {example}")
    training, validation = (_classes_of(_without_wrapping(part[0])) for part in (parts[TRAINING], held_out))
    if training.classes != validation.classes:
        raise InputError(
            f"{folder}: expected the same classes in {training.folder.name} and {validation.folder.name}, found "
            f"{', '.join(training.classes)} and {', '.join(validation.classes)}"
        )
    unused = f"; {parts[TEST][0].name} is not used" if parts[VALIDATION] and parts[TEST] else ""
    names = f"{training.folder.name} for training and {validation.folder.name} for validation"
    warn_once(f"{folder}: using {names}{unused}")
    return [
        ClassFolders(training.folder, training.classes, held_out=False),
        ClassFolders(validation.folder, validation.classes, held_out=True),
    ]


def has_classes(root: Path, classes: Sequence[str]) -> bool:
    """Return whether a data set has class folders, these among them."""
    try:
        return set(classes) <= set(find_class_folders(root)[0].classes)
    except InputError:
        return False


def _classes_of(folder: Path) -> ClassFolders:
    below = _subfolders(folder)
    names = tuple(sorted(path.name for path in below))
    if len(names) < 2:
        first = shlex.quote(str(below[0])) if below and _subfolders(below[0]) else ""
        hint = f"; if its subfolders are the classes, pass --data {first}" if first else ""
        raise InputError(
            f"{folder}: expected two or more subfolders, one per class; found {list(names) or 'none'}{hint}"
        )
    odd = next((name for name in names if not name.isprintable()), None)
    if odd is not None:
        raise InputError(f"{folder}: the name of the class folder {odd!a} is not plain UTF-8 text; rename it")
    return ClassFolders(folder, names)


def _without_wrapping(folder: Path) -> Path:
    """Skip a folder that contains nothing but a folder of the same name or a single part, as in some archives."""
    below = _subfolders(folder)
    wraps = len(below) == 1 and (_role(below[0].name) is not None or below[0].name == folder.name)
    return below[0] if wraps and _subfolders(below[0]) else folder


def _role(name: str) -> str | None:
    """Return the part of a data set that a folder's name means, such as ``test_set`` or ``Training Data``."""
    letters = re.sub(r"[^a-z]", "", name.lower())
    return ROLES.get(re.sub(r"^(dataset|data|images)|(dataset|set|data|split|images)$", "", letters))


def _subfolders(folder: Path) -> list[Path]:
    """List the subfolders of a folder, except hidden ones and those of the operating system."""
    try:
        names = sorted(os.listdir(folder))  # noqa: PTH208
    except OSError as error:
        raise InputError(f"{folder} cannot be read ({error.strerror})") from error
    shown = [folder / name for name in names if not name.startswith(".") and not is_system_name(name)]
    return [path for path in shown if is_folder(path)]
