"""Writes the inputs of a benchmark to files that candidates share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ...runtime.errors import InputError
from ...runtime.models.spec import ModelSpec, Task
from ...runtime.values import Image
from ..accuracy.accuracy import folder_for
from ..data.sample_inputs import Portraits, sample_batch, sample_pictures, sample_portraits
from ..timing.interleave import check_pictures
from ..timing.measurement import Level
from ..worker.candidate import save_arrays
from ..worker.foreign import GIVEN
from ..worker.targets import InputArrays

INPUTS = 8
"""Number of different inputs; calls cycle through them."""


class BenchInputs:
    """Input files of a benchmark, written on first use.

    Args:
        folder: Folder to write to.
        data: Folders of pictures; empty for the demo photograph.
        feed: Arrays (.npz) for a foreign model.
    """

    def __init__(self, folder: Path, *, data: Sequence[Path], feed: Path | None) -> None:
        self._folder = folder
        self._data = data
        self._feed = feed
        self._images: dict[str, Image] = {}
        self._labelled: dict[tuple[Task, tuple[str, ...]], Path | None] = {}

    def images(self, spec: ModelSpec, batch: int) -> Image:
        """Return images (`INPUTS` · batch, h, w, 3) uint8 BGR in a model's input size.

        Raises:
            InputError: The folder holds no pictures, or a picture of a single value.
        """
        key = f"{_key(spec)}-{batch}"
        if key not in self._images:
            images = sample_batch(spec, INPUTS * batch, data=self.folder_of(spec))
            check_pictures(list(images.reshape(INPUTS, batch, *images.shape[1:])))
            self._images[key] = images
        return self._images[key]

    def file(self, spec: ModelSpec, level: Level, batch: int) -> Path:
        """Return the file with the inputs of a mien model at a level; see `ModelTarget.bind`."""
        path = self._folder / f"{level.value}-{_key(spec)}-{batch}.npz"
        if path.is_file():
            return path
        if level is Level.MODEL:
            images = self.images(spec, batch)
            save_arrays(path, {"inputs": images.reshape(INPUTS, batch, *images.shape[1:])})
            return path
        found = self._portraits(spec)
        pictures = {f"picture_{i}": picture for i, picture in enumerate(found.pictures)}
        save_arrays(path, {"landmarks": found.landmarks, **pictures})
        return path

    def foreign_file(self) -> Path:
        """Return the file with the user's arrays, else with pictures to make the inputs of a foreign model from.

        Raises:
            InputError: The user's file holds no arrays.
        """
        path = self._folder / "foreign.npz"
        if not path.is_file():
            save_arrays(path, foreign_arrays(INPUTS, feed=self._feed, data=next(iter(self._data), None)))
        return path

    def labelled(self, spec: ModelSpec) -> Path | None:
        """Return the folder with labels for a model, see `folder_for`; folders are searched only once."""
        key = (spec.task, spec.classes)
        if key not in self._labelled:
            self._labelled[key] = folder_for(spec.task, self._data, spec.classes)
        return self._labelled[key]

    def folder_of(self, spec: ModelSpec) -> Path | None:
        """Choose the folder for a model's inputs: the one with labels for it, else the first."""
        found = self.labelled(spec)
        return found if found is not None else next(iter(self._data), None)

    def _portraits(self, spec: ModelSpec) -> Portraits:
        data = self.folder_of(spec)
        if spec.task in (Task.LANDMARKS, Task.AGE_GENDER):
            return sample_portraits(INPUTS, data=data)
        pictures = tuple(sample_pictures(INPUTS, data=data))  # these need not show a face
        return Portraits(pictures, np.zeros((INPUTS, 68, 3)))


def foreign_arrays(count: int, *, feed: Path | None, data: Path | None) -> InputArrays:
    """Read the user's arrays, else `count` pictures from a folder or the demo photograph; see `feeds_for`.

    Raises:
        InputError: The user's file holds no arrays, or the folder no pictures.
    """
    if feed is not None:
        return {f"{GIVEN}{name}": array for name, array in _read_feed(feed).items()}
    return {f"picture_{i}": picture for i, picture in enumerate(sample_pictures(count, data=data))}


def _key(spec: ModelSpec) -> str:
    """Return a key of task, input size and crop, so that models with the same crops share a file."""
    return f"{spec.task.value}-{spec.input_size[0]}x{spec.input_size[1]}-{spec.crop_scale:g}"


def _read_feed(path: Path) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise InputError(f"{path} is not an .npz file of arrays ({error}); write one with numpy.savez") from error
