"""Runs ONNX files without mien's metadata, on inputs made from their shapes or read from a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument
from onnxruntime.capi.onnxruntime_pybind11_state import RuntimeException as OrtRuntimeException

from ...runtime.backends.ort.onnx_session import open_session, reason_of
from ...runtime.errors import InputError
from ...runtime.isolated import ran_out_of_memory
from ...runtime.models.runner import Provider
from ...runtime.models.spec import ModelSpec, Precision
from ...runtime.values import FloatArray, Image
from ...runtime.wording import counted
from ..timing.interleave import TimedCalls, digest_of, time_calls
from .candidate import Candidate
from .foreign_inputs import Feed, Wanted, batch_of, given_feeds, made_feeds
from .targets import PRIMING_CALLS, InputArrays, Target, nodes_on_provider

GIVEN = "given_"
"""Prefix of arrays from the user's file."""
MADE = "inputs made from the file's shapes: "


class ForeignTarget:
    """A model file without mien's metadata, called directly in an ONNX Runtime session."""

    spec: ModelSpec | None = None
    precision: Precision | None = None

    def __init__(self, session: Any, provider: Provider, candidate: Candidate) -> None:
        self._session = session
        self.provider = provider.value
        self._candidate = candidate
        self.batch = candidate.batch
        self._feeds: list[Feed] = []

    def bind(self, arrays: InputArrays) -> tuple[str, str]:
        """See `Target`; arrays are pictures ``picture_0``, … to make inputs from, or the user's ``given_NAME``."""
        self._feeds, note = feeds_for(self._session, arrays, batch=self._candidate.batch)
        batch = batch_of(self._feeds[0])
        if self.batch not in (1, batch):  # 1 is the default
            raise InputError(f"--batch is {self.batch}, but the inputs hold {counted(batch, 'image')} per call")
        self.batch = batch
        answers(self._session, self._feeds[0], origin=self._candidate.path)
        return digest_of([a for feed in self._feeds for a in feed.values()]), note

    def prime(self, first: int, count: int) -> int:
        """See `Target`."""
        self.time_calls(first, PRIMING_CALLS)
        return count

    def time_calls(self, first: int, count: int) -> TimedCalls:
        """See `CallTimer`."""
        session, feeds = self._session, self._feeds
        return time_calls(lambda i: session.run(None, feeds[i % len(feeds)]), first=first, count=count)

    def outputs(self, batch: Image) -> Mapping[str, FloatArray]:
        """Raise InputError, as the meaning of its outputs is unknown."""
        raise InputError("the outputs of a foreign model cannot be compared")

    def overhead_us(self) -> tuple[float, float] | None:
        """Return None, as there is no runner around the session."""
        return None

    def nodes(self) -> tuple[int, int] | None:
        """See `Target`."""
        return nodes_on_provider(self._candidate.path, Provider(self.provider))


def open_foreign(candidate: Candidate) -> Target:
    """Open a model file without mien's metadata in ONNX Runtime.

    Raises:
        ModelError: The file is not an ONNX file.
        ProviderError: The file does not run on `candidate.device`.
    """
    # CUDA graphs need inputs bound to GPU buffers, and these calls pass arrays.
    provider = Provider(candidate.device)
    opened = open_session(candidate.path, provider=provider, threads=candidate.threads, cuda_graph=False)
    return ForeignTarget(opened.session, provider, candidate)


def feeds_for(session: Any, arrays: InputArrays, *, batch: int, variant: int = 0) -> tuple[list[Feed], str]:
    """Make feeds for a session, from the user's arrays if there are any.

    Args:
        session: An ONNX Runtime session.
        arrays: Input arrays; see `ForeignTarget.bind`.
        batch: Images per call, where the file leaves that open.
        variant: Which sizes to give to open dimensions; see `made_feeds`.

    Returns:
        The feeds, and a note on their origin.

    Raises:
        InputError: The user's arrays do not fit the inputs, or an input cannot be made.
    """
    wanted = wanted_by(session)
    given = {name[len(GIVEN) :]: a for name, a in arrays.items() if name.startswith(GIVEN)}
    if given:
        ranks = {name: len(shape) for name, (shape, _) in wanted.items()}
        return given_feeds(given, ranks), "inputs from the given file"
    pictures = [a for name, a in sorted(arrays.items()) if name.startswith("picture_")]
    feeds, sizes = made_feeds(wanted, pictures, batch=batch, variant=variant)
    return feeds, f"{MADE}{sizes}"


def wanted_by(session: Any) -> Wanted:
    """Read the shape and type of each input of a session."""
    return {i.name: (list(i.shape), i.type) for i in session.get_inputs()}


def answers(session: Any, feed: Feed, *, origin: str | Path) -> list[Any]:
    """Run a session on a feed, and return its outputs in order.

    Raises:
        InputError: The session rejects the feed.
        MemoryError: There is not enough memory.
    """
    try:
        return list(session.run(None, feed))
    except (Fail, InvalidArgument, OrtRuntimeException) as error:
        if ran_out_of_memory(str(error)):
            raise MemoryError(f"for {origin} (Failed to allocate memory)") from error
        raise InputError(
            f"{origin} rejects these inputs ({reason_of(error)}); pass others with --inputs FILE.npz"
        ) from error
