"""Inputs for ONNX files without mien's metadata, made from their input shapes or read from a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from ...runtime.errors import InputError
from ...runtime.values import Image

SIDE = 224
"""Size given to the open sides of an image, in px."""
LENGTH = 16
"""Size given to other open dimensions, such as the length of a text."""
SMALLEST_IMAGE = 16
_SIDES = ((SIDE, 0), (SIDE - 64, 32), (SIDE + 1, 6))
_LENGTHS = ((LENGTH, 0), (7, 1), (33, 2))
"""Size of open dimensions in each variant, and the increment from one name to the next."""
_BATCH_NAMES = frozenset({"b", "n", "bs", "batch", "batch_size", "batchsize", "num_batch"})
_TYPES: Mapping[str, type[np.generic]] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
    "tensor(uint16)": np.uint16,
    "tensor(uint32)": np.uint32,
    "tensor(uint64)": np.uint64,
    "tensor(int8)": np.int8,
    "tensor(int16)": np.int16,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(bool)": np.bool_,
}
Feed = dict[str, npt.NDArray[Any]]
Wanted = Mapping[str, tuple[Sequence[Any], str]]
"""Shape and type of each input by name; an open dimension is its name or None."""


def made_feeds(wanted: Wanted, pictures: Sequence[Image], *, batch: int, variant: int = 0) -> tuple[list[Feed], str]:
    """Make one feed per picture.

    An input that looks like an image, with four dimensions and one or three channels, gets a picture: 0..255 if it
    takes integers, else 0..1. Any other input gets seeded noise.

    Args:
        wanted: Shape and type of each input by name.
        pictures: Pictures (h, w, 3) uint8 BGR.
        batch: Images per call, where the file leaves that open.
        variant: Sizes of the other open dimensions: 0 for the usual ones, 1 and 2 for others.

    Returns:
        The feeds, and a note on how they were made.

    Raises:
        InputError: There is no input, or one of an unsupported type.
    """
    if not wanted:
        raise InputError("it takes no input, so every call computes the same; there is nothing to feed it with")
    rng = np.random.default_rng(0)
    feeds: list[Feed] = [{} for _ in pictures]
    notes = []
    sizes_of = _Sizes(wanted, batch, variant)
    for name, (shape, kind) in wanted.items():
        if kind not in _TYPES:
            advice = "pass it with --inputs FILE.npz" if kind.startswith("tensor(") else "only tensors can be fed"
            raise InputError(f"its input {name} is a {kind}, which cannot be made; {advice}")
        channels = channel_axis(shape)
        sizes = [sizes_of(size, axis) for axis, size in enumerate(shape)]
        for feed, picture in zip(feeds, pictures, strict=True):
            feed[name] = (
                _noise(sizes, _TYPES[kind], rng) if channels is None else _image(picture, sizes, channels, _TYPES[kind])
            )
        notes.append(f"{name} {'×'.join(map(str, sizes))}: {'noise' if channels is None else 'pictures'}")
    return feeds, ", ".join(notes)


class _Sizes:
    """Sizes for open dimensions; dimensions of the same name get the same size."""

    def __init__(self, wanted: Wanted, batch: int, variant: int) -> None:
        shapes = [shape for shape, _ in wanted.values()]
        self._batch = batch
        names = {size for shape in shapes for size in shape if isinstance(size, str)}
        batches = {name for name in names if name.lower() in _BATCH_NAMES}
        self._sizes = dict.fromkeys(batches or {s[0] for s in shapes if s and isinstance(s[0], str)}, batch)
        spatial = {shape[axis] for shape in shapes for axis in _spatial_axes(shape)}
        flat = {size for shape in shapes if not _spatial_axes(shape) for size in shape}
        self._unnamed = _SIDES[variant][0] if None in spatial else _LENGTHS[variant][0]
        for k, name in enumerate(sorted(name for name in names if name not in self._sizes and "+" not in name)):
            first, step = _SIDES[variant] if name in spatial - flat else _LENGTHS[variant]
            self._sizes[name] = first + k * step

    def __call__(self, size: Any, axis: int) -> int:
        if isinstance(size, int) and size >= 0:
            return size
        if size in self._sizes:
            return self._sizes[size]
        if isinstance(size, str) and "+" in size:  # for example "past_length + 1"
            parts = [part.strip() for part in size.split("+")]
            return sum(int(part) if part.isdecimal() else self(part, 1) for part in parts)
        if isinstance(size, str):
            return LENGTH
        return self._batch if axis == 0 else self._unnamed


def is_open(wanted: Wanted) -> bool:
    """Return whether any input has an open dimension."""
    return any(not isinstance(size, int) or size < 0 for shape, _ in wanted.values() for size in shape)


def given_feeds(given: Mapping[str, npt.NDArray[Any]], dimensions: Mapping[str, int]) -> list[Feed]:
    """Make feeds from the user's arrays; an extra leading dimension holds several inputs.

    Args:
        given: Arrays by input name.
        dimensions: Number of dimensions of each input by name.

    Raises:
        InputError: The arrays' names or numbers of dimensions differ from the inputs'.
    """
    if set(given) != set(dimensions):
        raise InputError(f"expected inputs named {', '.join(dimensions)}, found {', '.join(given)}")
    several = {name: array.ndim == dimensions[name] + 1 for name, array in given.items()}
    for name, array in given.items():
        if array.ndim not in (dimensions[name], dimensions[name] + 1):
            raise InputError(f"expected {name} with {dimensions[name]} dimensions (or one more), found {array.shape}")
    counts = {len(given[name]) for name, many in several.items() if many} or {1}
    if len(counts) > 1 or 0 in counts:
        raise InputError(f"expected the same number of different inputs, found {sorted(counts)}")
    return [
        {name: np.ascontiguousarray(a[i] if several[name] else a) for name, a in given.items()} for i in range(*counts)
    ]


def batch_of(feed: Feed) -> int:
    """Return the batch size of a feed: the first dimension of its first input."""
    first = next(iter(feed.values()))
    return len(first) if first.ndim > 1 else 1


def channel_axis(shape: Sequence[Any]) -> int | None:
    """Return the channel axis of an image shape; None if it does not look like an image."""
    if len(shape) != 4:
        return None
    for axis, sides in ((1, shape[2:]), (3, shape[1:3])):
        if shape[axis] in (1, 3) and all(not isinstance(s, int) or s >= SMALLEST_IMAGE for s in sides):
            return axis
    return None


def _spatial_axes(shape: Sequence[Any]) -> tuple[int, ...]:
    """Return the axes of height and width of an image or a feature map, which has a fixed number of channels."""
    if len(shape) != 4:
        return ()
    axis = channel_axis(shape)
    for channels, sides in ((1, (2, 3)), (3, (1, 2))):
        both_open = not any(isinstance(shape[side], int) for side in sides)
        if axis == channels or (axis is None and isinstance(shape[channels], int) and both_open):
            return sides
    return ()


def _image(picture: Image, sizes: list[int], channels: int, kind: type[np.generic]) -> npt.NDArray[Any]:
    height, width = sizes[2:] if channels == 1 else sizes[1:3]
    pixels = np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA))
    if sizes[channels] == 1:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2GRAY)[..., None]
    values = pixels.astype(kind) if np.issubdtype(kind, np.integer) else (pixels / 255).astype(kind)
    if channels == 1:
        values = values.transpose(2, 0, 1)
    return np.ascontiguousarray(np.repeat(values[None], sizes[0], axis=0))


def _noise(sizes: list[int], kind: type[np.generic], rng: np.random.Generator) -> npt.NDArray[Any]:
    if np.issubdtype(kind, np.floating):
        return rng.standard_normal(sizes).astype(kind)
    # Integers are often indices or masks; 0 and 1 are valid as either. A mask's row is neither all 0 nor all 1.
    values = rng.integers(0, 2, sizes)
    if values.ndim and values.shape[-1]:
        values[..., -1] = 0
        values[..., 0] = 1
    return values.astype(kind)
