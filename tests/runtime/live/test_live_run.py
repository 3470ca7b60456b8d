from __future__ import annotations

import json
import signal
from functools import partial

import numpy as np
import pytest

from mien.runtime.capture.capture import CaptureCounts
from mien.runtime.errors import OutputError
from mien.runtime.live.live_run import LiveRun
from mien.runtime.models.spec import ModelSpec, Task
from mien.runtime.pipeline.pipeline import Pipeline
from mien.runtime.stage_timer import KEPT, StageTimer
from mien.runtime.values import Faces, FloatArray, Frame, Image


class Capture:
    """A source whose frames are the test's; `live` ones are 5 ms old when they are processed."""

    damage = None
    live = True

    def __init__(self, frames: int, *, signal_at: tuple[int, signal.Signals] | None = None) -> None:
        self.frames = frames
        self.signal_at = signal_at
        self.next = -1
        self.counts = CaptureCounts(read=frames + 3, delivered=frames, dropped=3, reconnects=1)

    def clock(self) -> int:
        return 5_000_000

    def wait_frame(self, timeout_s: float) -> Frame | None:
        self.next += 1
        if self.signal_at is not None and self.next == self.signal_at[0]:
            signal.raise_signal(self.signal_at[1])
            return None  # nothing came while Ctrl-C did
        if self.ended:
            return None
        return Frame(np.zeros((48, 64, 3), np.uint8), timestamp_ns=0, index=self.next)

    @property
    def ended(self) -> bool:
        return self.next >= self.frames


class Runner:
    """Sees a face in every crop."""

    spec = ModelSpec(Task.LANDMARKS, (32, 32), ("landmarks", "presence"), crop_scale=1.3)
    provider = "fake"

    def __call__(self, batch: Image) -> dict[str, FloatArray]:
        points = np.random.default_rng(0).uniform(0.2, 0.8, (len(batch), 68, 3))
        points[:, :2] = 0.5 + np.array([[-0.5], [0.5]]) / self.spec.crop_scale  # as large as it was expected
        return {"landmarks": points, "presence": np.ones(len(batch))}

    def close(self) -> None: ...


class Detector:
    usual_score = min_score = 0.5
    max_side = 64

    def __call__(
        self, image: Image, *, min_score: float | None = None, small_only: bool = False
    ) -> tuple[FloatArray, FloatArray]:
        return np.array([[10.0, 10, 40, 40]]), np.array([0.9])

    def close(self) -> None: ...


class Sink:
    needs_picture = True

    def __init__(self, *, fail_at: int | None = None, stop_at: int | None = None) -> None:
        self.fail_at, self.stop_at = fail_at, stop_at
        self.seen: list[int] = []
        self.pictures: list[Image] = []
        self.closed = 0

    def write(self, frame: Frame, faces: Faces, picture: Image) -> bool:
        if frame.index == self.fail_at:
            raise OutputError("disk full")
        self.seen.append(frame.index)
        self.pictures.append(picture)
        return frame.index != self.stop_at

    def close(self) -> None:
        self.closed += 1


def pipeline() -> Pipeline:
    return Pipeline(Detector(), Runner())  # type: ignore[arg-type]


def live_run(capture: Capture, sinks: list[Sink], *, blur: bool = False) -> LiveRun:
    return LiveRun(capture, partial(pipeline().track, thorough=blur), sinks, provider="fake", blur=blur)  # type: ignore[arg-type]


def test_every_frame_reaches_every_sink_and_the_numbers_add_up() -> None:
    sinks = [Sink(), Sink()]
    summary = live_run(Capture(6), sinks).run()
    assert all(s.seen == list(range(6)) and s.closed == 1 for s in sinks)
    row = json.loads(json.dumps(summary.to_dict()))
    assert row["frames"] == {"read": 9, "processed": 6, "dropped": 3, "unwritten": 0}
    assert row["reconnects"] == 1 and row["faces"] == 1 and row["provider"] == "fake"
    stages = row["stages"]
    assert stages["process"]["n"] == stages["draw"]["n"] == stages["end_to_end"]["n"] == 6
    assert 1 <= stages["detect"]["n"] <= 3 and stages["landmarks"]["n"] == 6  # the last may be under way
    assert stages["frame_age"] == {"p50_ms": 5.0, "p95_ms": 5.0, "p99_ms": 5.0, "n": 6}
    assert sinks[0].pictures[-1].any() and sinks[0].pictures[-1].shape == (48, 64, 3)


def test_the_run_ends_when_told() -> None:
    sink = Sink()
    assert live_run(Capture(100), [sink]).run(max_frames=4).processed == 4
    sink = Sink(stop_at=2)
    assert live_run(Capture(100), [sink]).run().processed == 3
    assert sink.closed == 1


def test_progress_is_told_of_a_source_that_knows_its_length() -> None:
    class Recording(Capture):
        frame_count: int | None = 6

    told: list[tuple[int, int]] = []
    live_run(Recording(6), [Sink()]).run(progress=lambda done, total: told.append((done, total)))
    assert told == [(n, 6) for n in range(1, 7)]
    told.clear()
    live_run(Recording(6), [Sink()]).run(max_frames=2, progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 2), (2, 2)]
    Recording.frame_count = None
    live_run(Recording(6), [Sink()]).run(progress=lambda done, total: told.append((done, total)))
    assert len(told) == 2


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_closes_the_sinks_and_keeps_the_numbers(number: signal.Signals) -> None:
    sink, usual = Sink(), signal.getsignal(number)
    run = live_run(Capture(100, signal_at=(5, number)), [sink])
    assert run.run().processed == 5
    assert run.ended_by is number and sink.closed == 1
    assert signal.getsignal(number) is usual


def test_a_failing_sink_ends_the_run_and_the_others_are_closed() -> None:
    failing, other = Sink(fail_at=3), Sink()
    with pytest.raises(OutputError, match="disk full"):
        live_run(Capture(100), [other, failing]).run()
    assert failing.closed == other.closed == 1 and other.seen == [0, 1, 2, 3]


def test_no_picture_is_drawn_for_nobody() -> None:
    sink = Sink()
    sink.needs_picture = False
    summary = live_run(Capture(3), [sink]).run()
    assert "draw" not in summary.stages


def test_stage_clock_percentiles() -> None:
    ticks = iter([1_000_000, 4_000_000])
    clock = StageTimer(clock=lambda: next(ticks))
    with clock.stage("draw"):
        pass
    assert clock.summary() == {"draw": {"p50_ms": 3.0, "p95_ms": 3.0, "p99_ms": 3.0, "n": 1}}
    for i in range(1, 101):
        clock.record("write", i * 1_000_000)
    assert clock.percentile_ms("write", 50) == pytest.approx(50)
    assert clock.percentile_ms("write", 50, last=10) == pytest.approx(95)
    assert np.isnan(clock.percentile_ms("detect", 50))


def test_stage_clock_keeps_the_last_durations_and_counts_all() -> None:
    clock = StageTimer()
    for i in range(KEPT + 10):
        clock.record("draw", i * 1_000_000)
    assert clock.percentile_ms("draw", 0) == 10 and clock.percentile_ms("draw", 100) == KEPT + 9
    assert clock.percentile_ms("draw", 0, last=2) == KEPT + 8
    assert clock.summary()["draw"]["n"] == KEPT + 10
