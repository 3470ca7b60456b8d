"""Raw frames from standard input."""

from __future__ import annotations

import io
import os
import time
from collections.abc import Iterator

import numpy as np
import pytest

from mien.runtime.capture.frame_queue import FramePolicy
from mien.runtime.capture.open_capture import open_capture
from mien.runtime.capture.raw_frames import RawSource
from mien.runtime.errors import InputError


class Piped:
    """Stands for `sys.stdin`, connected to a pipe."""

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()

    def isatty(self) -> bool:
        return False

    def fileno(self) -> int:
        return self.reader


@pytest.fixture
def piped(monkeypatch: pytest.MonkeyPatch) -> Iterator[Piped]:
    pipe = Piped()
    monkeypatch.setattr("sys.stdin", pipe)
    yield pipe
    os.close(pipe.reader)
    os.close(pipe.writer)


def test_raw_frames_come_from_standard_input(piped: Piped) -> None:
    raw = np.arange(2 * 3 * 4 * 3, dtype=np.uint8)
    with open_capture("-", size=(4, 3), fps=25) as capture:
        os.write(piped.writer, raw[:50].tobytes())  # cuts where no frame ends
        os.write(piped.writer, raw[50:].tobytes())
        frames = [next(capture), next(capture)]
        assert (capture.name, capture.size, capture.policy) == ("standard input", (4, 3), FramePolicy.EVERY)
    assert np.array_equal(np.concatenate([f.pixels.reshape(-1) for f in frames]), raw)
    assert [f.timestamp_ns for f in frames] == [0, 40_000_000]


def test_a_silent_pipe_does_not_keep_close_waiting(piped: Piped) -> None:
    capture = open_capture("-", size=(4, 3))
    began = time.monotonic()
    capture.close()
    assert time.monotonic() - began < 10
    assert not capture._thread.is_alive()


def test_a_short_last_frame_is_told() -> None:
    source = RawSource(io.BytesIO(bytes(36 + 10)), size=(4, 3))
    taken = source.read()
    assert taken is not None
    assert taken[1] is None  # stamped on arrival
    with pytest.raises(InputError, match="within frame 1: 10 of the 36 bytes of 4x3 BGR"):
        source.read()


def test_raw_frames_end_at_a_frame() -> None:
    source = RawSource(io.BytesIO(bytes(36)), size=(4, 3))
    assert source.read() is not None
    assert source.read() is None


def test_standard_input_needs_a_size_and_a_pipe(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="--size 640x480"):
        open_capture("-")
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(InputError, match="from a pipe"):
        open_capture("-", size=(4, 3))
