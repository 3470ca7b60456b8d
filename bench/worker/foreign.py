"""Runs ONNX files without mien's metadata on inputs made from their shapes, or given in a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument
from onnxruntime.capi.onnxruntime_pybind11_state import RuntimeException as OrtRuntimeException

from ...runtime.backends.ort.onnx_session import open_session
from ...runtime.errors import InputError
from ...runtime.models.runner import Provider
from ...runtime.models.spec import ModelSpec, Precision
from ...runtime.values import FloatArray, Image
from ..timing.interleave import TimedCalls, digest_of, time_calls
from .candidate import Candidate
from .process import ran_out_of_memory
from .targets import PRIMING_CALLS, InputArrays, Target, nodes_on_provider

GIVEN = "given_"
"""Prefix of the names of arrays that come from the user's file."""
SIDE = 224
"""Size of a dynamic side of an image, px."""
SMALLEST_IMAGE = 16
_TYPES: Mapping[str, type[np.generic]] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(bool)": np.bool_,
}
Feed = dict[str, npt.NDArray[Any]]


class ForeignTarget:
    """A file without mien's metadata, called directly in an ONNX Runtime session."""

    spec: ModelSpec | None = None
    precision: Precision | None = None

    def __init__(self, session: Any, provider: Provider, candidate: Candidate) -> None:
        self._session = session
        self.provider = provider.value
        self._candidate = candidate
        self.batch = candidate.batch
        self._feeds: list[Feed] = []

    def bind(self, arrays: InputArrays) -> tuple[str, str]:
        """See `Target`; takes ``picture_0`` … to make images from, or ``given_NAME`` for the user's arrays."""
        self._feeds, note = feeds_for(self._session, arrays, batch=self._candidate.batch)
        batch = batch_of(self._feeds[0])
        if self.batch not in (1, batch):  # 1 is what nobody asked for
            raise InputError(f"--batch {self.batch} was asked for, but its inputs hold {batch} image(s) a call")
        self.batch = batch
        answers(self._session, self._feeds[0], origin=self._candidate.path)
        return digest_of([a for feed in self._feeds for a in feed.values()]), note

    def prime(self, first: int, count: int) -> None:
        """See `Target`."""
        self.time_calls(first, PRIMING_CALLS)

    def time_calls(self, first: int, count: int) -> TimedCalls:
        """See `CallTimer`."""
        session, feeds = self._session, self._feeds
        return time_calls(lambda i: session.run(None, feeds[i % len(feeds)]), first=first, count=count)

    def outputs(self, batch: Image) -> Mapping[str, FloatArray]:
        """Raise InputError: the meaning of its outputs is unknown."""
        raise InputError("the outputs of a foreign file cannot be compared")

    def overhead_us(self) -> tuple[float, float] | None:
        """Return None: there is no runner around the session."""
        return None

    def nodes(self) -> tuple[int, int] | None:
        """See `Target`."""
        return nodes_on_provider(self._candidate.path, Provider(self.provider))


def open_foreign(candidate: Candidate) -> Target:
    """Open a model file without mien's metadata in ONNX Runtime.

    Raises:
        ModelError: no ONNX file.
        ProviderError: the file does not run on `candidate.device`.
    """
    # Captured graphs are for calls through buffers on the GPU; these are plain.
    provider = Provider(candidate.device)
    opened = open_session(candidate.path, provider=provider, threads=candidate.threads, cuda_graph=False)
    return ForeignTarget(opened.session, opened.provider, candidate)


def feeds_for(session: Any, arrays: InputArrays, *, batch: int) -> tuple[list[Feed], str]:
    """Make or check the feeds of a session, with a line on where they come from; see `ForeignTarget.bind`.

    Raises:
        InputError: what was given does not fit the inputs, or one of them cannot be made.
    """
    wanted = {i.name: (list(i.shape), i.type) for i in session.get_inputs()}
    given = {name[len(GIVEN) :]: a for name, a in arrays.items() if name.startswith(GIVEN)}
    if given:
        return given_feeds(
            given, {name: len(shape) for name, (shape, _) in wanted.items()}
        ), "inputs from the given file"
    pictures = [a for name, a in sorted(arrays.items()) if name.startswith("picture_")]
    return made_feeds(wanted, pictures, batch=batch)


def answers(session: Any, feed: Feed, *, origin: str | Path) -> list[Any]:
    """Run a session on a feed; returns its outputs in their order.

    Raises:
        InputError: the session rejects the feed.
        MemoryError: there is not enough memory for it.
    """
    try:
        return list(session.run(None, feed))
    except (Fail, InvalidArgument, OrtRuntimeException) as error:
        if ran_out_of_memory(str(error)):
            raise MemoryError(f"for {origin} (Failed to allocate memory)") from error
        reason = str(error).strip().splitlines()[0][:200]
        raise InputError(
            f"{origin} does not take these inputs ({reason}); give others with --inputs FILE.npz"
        ) from error


def made_feeds(
    wanted: Mapping[str, tuple[Sequence[Any], str]], pictures: Sequence[Image], *, batch: int
) -> tuple[list[Feed], str]:
    """Make one feed per picture, with a line on how it was made.

    An input that looks like an image, with four dimensions and one or three channels, gets a picture: 0..255 if it
    takes integers, else 0..1. Any other input gets seeded noise.

    Args:
        wanted: shape and type of each input by name.
        pictures: pictures (h, w, 3) uint8 BGR.
        batch: images in a call, where the file leaves that open.

    Raises:
        InputError: an input of a type that cannot be made.
    """
    rng = np.random.default_rng(0)
    feeds: list[Feed] = [{} for _ in pictures]
    said = []
    for name, (shape, kind) in wanted.items():
        if kind not in _TYPES:
            raise InputError(f"its input {name} is a {kind}, which cannot be made; give it with --inputs FILE.npz")
        channels = channel_axis(shape)
        sizes = _sizes(shape, batch, open_side=1 if channels is None else SIDE)
        for feed, picture in zip(feeds, pictures, strict=True):
            feed[name] = (
                _noise(sizes, _TYPES[kind], rng) if channels is None else _image(picture, sizes, channels, _TYPES[kind])
            )
        said.append(f"{name} {'×'.join(map(str, sizes))}: {'noise' if channels is None else 'pictures'}")
    return feeds, "inputs made from the file's shapes: " + ", ".join(said)


def given_feeds(given: Mapping[str, npt.NDArray[Any]], dimensions: Mapping[str, int]) -> list[Feed]:
    """Make feeds from the user's arrays; an additional first dimension counts different inputs.

    Raises:
        InputError: names other than the file's inputs, or arrays of other dimensions.
    """
    if set(given) != set(dimensions):
        raise InputError(f"wanted inputs named {', '.join(dimensions)}, found {', '.join(given)}")
    several = {name: array.ndim == dimensions[name] + 1 for name, array in given.items()}
    for name, array in given.items():
        if array.ndim not in (dimensions[name], dimensions[name] + 1):
            raise InputError(f"wanted {name} with {dimensions[name]} dimensions (or one more), found {array.shape}")
    counts = {len(given[name]) for name, many in several.items() if many} or {1}
    if len(counts) > 1 or 0 in counts:
        raise InputError(f"wanted the same number of different inputs, found {sorted(counts)}")
    return [
        {name: np.ascontiguousarray(a[i] if several[name] else a) for name, a in given.items()} for i in range(*counts)
    ]


def batch_of(feed: Feed) -> int:
    """Read the batch size of a feed from the first dimension of its first input."""
    first = next(iter(feed.values()))
    return len(first) if first.ndim > 1 else 1


def channel_axis(shape: Sequence[Any]) -> int | None:
    """Find the channel axis of an image; None for a shape that does not look like one."""
    if len(shape) != 4:
        return None
    for axis, sides in ((1, shape[2:]), (3, shape[1:3])):
        if shape[axis] in (1, 3) and all(not isinstance(s, int) or s >= SMALLEST_IMAGE for s in sides):
            return axis
    return None


def _sizes(shape: Sequence[Any], batch: int, *, open_side: int) -> list[int]:
    known = [size if isinstance(size, int) and size > 0 else None for size in shape]
    return [(batch if axis == 0 else open_side) if size is None else size for axis, size in enumerate(known)]


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
    # Integers are often indices or masks: 0 and 1 are valid as either.
    if np.issubdtype(kind, np.floating):
        return rng.standard_normal(sizes).astype(kind)
    return rng.integers(0, 2, sizes).astype(kind)
