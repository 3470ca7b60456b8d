"""Frames are read in a thread: the newest or every one, errors, the end, and lost sources that come back."""

from __future__ import annotations

import threading
import time

import pytest

from mien.runtime.capture.capture import Capture
from mien.runtime.capture.frame_queue import FramePolicy
from mien.runtime.capture.sources import (
    OpenedSource,
    SourceInfo,
)
from mien.runtime.errors import InputError
from mien.tests.fakes.fake_capture import INTERVAL_NS, FakeClock, FakeSource, picture
from mien.tests.processes import wait_for


def live(source: FakeSource, **options: object) -> Capture:
    opened = OpenedSource(source, SourceInfo("fake", live=True))
    return Capture(lambda: opened, clock=source.clock, **options)  # type: ignore[arg-type]


def test_latest_gives_the_newest_frame_and_counts_what_it_dropped() -> None:
    source = FakeSource([picture(value=i) for i in range(10)], permits=7)
    with live(source) as capture:
        assert capture.policy is FramePolicy.LATEST
        wait_for(lambda: capture.counts.read == 7)
        frame = next(capture)
        assert (frame.index, frame.pixels[0, 0, 0]) == (6, 6)
        assert (capture.counts.dropped, capture.counts.delivered) == (6, 1)
        source.permits.release(4)  # three frames, then the end
        wait_for(lambda: capture.counts.read == 10)
        assert [f.index for f in capture] == [9]
        assert capture.ended
        assert capture.counts.dropped == 8


def test_a_source_slower_than_the_consumer_drops_nothing() -> None:
    source = FakeSource([picture() for _ in range(5)], permits=0)
    with live(source) as capture:
        for index in range(5):
            assert capture.wait_frame(0.0) is None
            source.permits.release()
            assert next(capture).index == index
        assert not capture.ended
        assert capture.counts.dropped == 0


def test_frame_age_stays_bounded_and_nothing_grows_over_20000_frames() -> None:
    clock = FakeClock()
    one = picture()
    source = FakeSource([], clock, permits=0)
    with live(source) as capture:
        for turn in range(1000):
            source.script = [one] * 20
            source.permits.release(20)
            wait_for(lambda turn=turn: capture.counts.read == 20 * (turn + 1))
            frame = next(capture)
            assert clock() - frame.timestamp_ns < INTERVAL_NS
            counts = capture.counts
            assert counts.read - counts.delivered - counts.dropped == 0
        assert frame.index == 19_999


def test_every_loses_nothing_and_reads_no_further_than_its_queue() -> None:
    source = FakeSource([picture(value=i) for i in range(50)])
    with live(source, policy=FramePolicy.EVERY) as capture:
        wait_for(lambda: capture.counts.read == 3)  # two wait, the third is in the reader's hand
        time.sleep(0.005)
        assert capture.counts.read == 3
        assert [f.pixels[0, 0, 0] for f in capture] == list(range(50))
        assert capture.counts.dropped == 0


def test_the_rate_is_measured_when_live() -> None:
    source = FakeSource([picture() for _ in range(20)], permits=5)
    opened = OpenedSource(source, SourceInfo("fake", live=True, fps=60.0))
    with Capture(lambda: opened, clock=source.clock) as capture:
        wait_for(lambda: capture.counts.read == 5)
        assert capture.fps == 60.0
        source.permits.release(10)
        wait_for(lambda: capture.counts.read == 15)
        assert capture.fps == pytest.approx(1e9 / INTERVAL_NS)


def test_a_burst_at_the_start_is_not_measured() -> None:
    """Network streams deliver at once what arrived while they were opened."""
    source = FakeSource([picture()] * 30 + [None])
    times_ns = iter(range(0, 30_000_000, 1_000_000))
    opened = OpenedSource(source, SourceInfo("fake", live=True, fps=20.0))
    with Capture(lambda: opened, clock=lambda: next(times_ns), policy=FramePolicy.EVERY) as capture:
        assert len(list(capture)) == 30
        assert capture.fps == 20.0


def test_timestamps_always_grow() -> None:
    clock = FakeClock()
    source = FakeSource([picture() for _ in range(3)], clock, permits=0)
    with live(source) as capture:
        stamps = []
        for _ in range(3):
            clock.now_ns = 5  # a clock that stands still
            source.permits.release()
            stamps.append(next(capture).timestamp_ns)
    assert stamps == sorted(set(stamps))


def test_an_exception_in_the_reader_reaches_the_consumer_after_the_frames_before_it() -> None:
    source = FakeSource([picture(), picture(), ZeroDivisionError("in the driver")])
    with live(source, policy=FramePolicy.EVERY) as capture:
        assert [next(capture).index, next(capture).index] == [0, 1]
        wait_for(source.closed.is_set)
        assert not capture.ended  # the error is still to come
        with pytest.raises(ZeroDivisionError, match="in the driver"):
            next(capture)
        assert capture.ended
        assert list(capture) == []


def test_an_exception_that_nobody_saw_is_logged_on_close(caplog: pytest.LogCaptureFixture) -> None:
    source = FakeSource([InputError("bad frame")])
    capture = live(source)
    wait_for(source.closed.is_set)
    capture.close()
    wait_for(lambda: "bad frame" in caplog.text)


@pytest.mark.parametrize("policy", FramePolicy)
def test_close_joins_while_the_reader_waits(policy: FramePolicy) -> None:
    # EVERY: it waits for room in the queue. LATEST: for its source.
    source = FakeSource([picture() for _ in range(100)], permits=20)
    capture = live(source, policy=policy)
    wait_for(lambda: capture.counts.read == (3 if policy is FramePolicy.EVERY else 20))
    began = time.monotonic()
    capture.close()
    assert time.monotonic() - began < 10
    assert not capture._thread.is_alive()
    assert source.closed.is_set()
    assert capture.ended
    assert list(capture) == []
    capture.close()


def test_close_from_another_thread_ends_the_consumer() -> None:
    capture = live(FakeSource([], permits=0))
    closer = threading.Timer(0.01, capture.close)
    closer.start()
    assert list(capture) == []
    closer.join()


def test_a_driver_that_never_returns_is_left_behind_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    hangs = threading.Event()

    class Stuck:
        def read(self) -> None:
            hangs.wait(5)

        def close(self) -> None:
            """Nothing wakes it."""

    opened = OpenedSource(Stuck(), SourceInfo("stuck", live=True))
    capture = Capture(lambda: opened, join_timeout_s=0.01)
    capture.close()
    assert "stuck: the driver does not return" in caplog.text
    hangs.set()
    capture._thread.join(5)


class Flaky:
    """Opens the given sources one after the other; None is a failed attempt."""

    def __init__(self, *sources: FakeSource | None) -> None:
        self.sources = list(sources)

    def __call__(self) -> OpenedSource:
        source = self.sources.pop(0)
        if source is None:
            raise InputError("not there")
        return OpenedSource(source, SourceInfo("flaky", live=True, reconnectable=True, fps=30.0))


def test_a_lost_source_is_opened_again_with_growing_back_off(caplog: pytest.LogCaptureFixture) -> None:
    clock = FakeClock()
    first = FakeSource([picture(), picture(), None], clock)
    second = FakeSource([picture(8, 6)], clock, permits=1)
    pauses: list[float] = []
    opener = Flaky(first, None, None, None, None, None, second)
    with Capture(opener, policy=FramePolicy.EVERY, clock=clock, pause=pauses.append) as capture:
        frames = [next(capture) for _ in range(3)]
        assert pauses == [0.5, 1.0, 2.0, 4.0, 5.0, 5.0]
        assert [f.index for f in frames] == [0, 1, 2]
        assert capture.counts.reconnects == 1
        assert first.closed.is_set()
        assert capture.size == (8, 6)
        assert capture.fps == 30.0  # the gap is not measured
    assert "flaky was lost after 2 frames" in caplog.text
    assert "flaky is available again" in caplog.text
    assert "from 4x3 to 8x6 px" in caplog.text


def test_close_ends_the_attempts_to_reconnect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mien.runtime.capture.capture.FIRST_BACKOFF_S", 60)

    class Gone:
        tries = 0

        def __call__(self) -> OpenedSource:
            self.tries += 1
            if self.tries > 1:
                raise InputError("gone")
            return OpenedSource(FakeSource([]), SourceInfo("gone", live=True, reconnectable=True))

    opener = Gone()
    capture = Capture(opener)
    assert capture.wait_frame(0.005) is None
    assert not capture.ended
    began = time.monotonic()
    capture.close()
    assert time.monotonic() - began < 30
    assert opener.tries == 1


def test_without_reconnect_a_loss_is_an_error() -> None:
    with Capture(Flaky(FakeSource([picture(), None])), reconnect=False) as capture:
        wait_for(lambda: capture.counts.read == 1)
        assert next(capture).index == 0
        with pytest.raises(InputError, match=r"flaky was lost after 1 frame$"):
            next(capture)


def test_a_change_of_size_is_survived_and_reported() -> None:
    source = FakeSource([picture(4, 3), picture(8, 6)])
    with live(source, policy=FramePolicy.EVERY) as capture:
        assert [f.pixels.shape for f in capture] == [(3, 4, 3), (6, 8, 3)]
        assert capture.size == (8, 6)
