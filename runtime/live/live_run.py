"""The live run: capture, track, draw, write, and the truth about how fast it went."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from mien.runtime.capture.capture import Capture
from mien.runtime.faces.pipeline import Pipeline
from mien.runtime.faces.smoothing import OneEuro
from mien.runtime.faces.stage_timer import StageTimer
from mien.runtime.live.systemd import ServiceNotifier
from mien.runtime.output.overlay import draw_faces
from mien.runtime.output.sinks import BackgroundSink, Sink, close_all
from mien.runtime.output.window import View
from mien.runtime.values import Faces, Frame, Image

WAIT_S = 0.2
"""How long a wait for a frame may keep a Ctrl-C waiting."""


@dataclass(frozen=True, slots=True)
class LiveSummary:
    """What happened in a run.

    faces: the most seen in one frame. unwritten: results that outputs left out because they were too far behind.
    stages: see `StageTimer.summary`.
    """

    stages: dict[str, dict[str, float]]
    read: int
    processed: int
    dropped: int
    unwritten: int
    faces: int
    reconnects: int
    provider: str
    ended_early: bool

    def to_row(self) -> dict[str, Any]:
        """As the JSON of ``--stats``."""
        return {
            "stages": self.stages,
            "frames": {
                "read": self.read,
                "processed": self.processed,
                "dropped": self.dropped,
                "unwritten": self.unwritten,
            },
            "faces": self.faces,
            "reconnects": self.reconnects,
            "provider": self.provider,
        }


class LiveRun:
    """One run over a capture. `run` returns at the end of the source, or when a sink or `max_frames` ends it.

    Sinks are closed however the run ends, so that their files are whole. `ended_by` is the signal that ended it, if
    one did: Ctrl-C or SIGTERM.
    """

    def __init__(
        self,
        capture: Capture,
        pipeline: Pipeline,
        sinks: Sequence[Sink],
        *,
        detect_every: int = 15,
        smoothing: OneEuro | None = None,
        view: View | None = None,
        clock: StageTimer | None = None,
        notifier: ServiceNotifier | None = None,
    ) -> None:
        self.clock = clock if clock is not None else StageTimer()
        self.ended_by: signal.Signals | None = None
        self._capture = capture
        self._pipeline = pipeline
        self._sinks = sinks
        self._detect_every = detect_every
        self._smoothing = smoothing
        self._view = view if view is not None else View()
        self._notifier = notifier if notifier is not None else ServiceNotifier()
        self._processed = 0
        self._most_faces = 0

    def run(self, *, max_frames: int | None = None) -> LiveSummary:
        """Process the source's frames."""
        try:
            with self._signals_end_the_run():
                self._loop(max_frames)
        except KeyboardInterrupt:  # the second one
            self.ended_by = signal.SIGINT
        finally:
            self._notifier.close()
            close_all(self._sinks)
        return self.summary()

    @contextmanager
    def _signals_end_the_run(self) -> Iterator[None]:
        """Let the first Ctrl-C or SIGTERM end the run behind the current frame, and only a second one interrupt it.

        An exception out of the blue may strike inside a queue or a lock, whose other side then waits for ever.
        """
        if threading.current_thread() is not threading.main_thread():
            yield  # only the main thread may handle signals, and only it is interrupted
            return
        usual = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

        def end(number: int, _: object) -> None:
            self.ended_by = signal.Signals(number)
            self._view.ended = True
            for sink in self._sinks:
                if isinstance(sink, BackgroundSink):
                    sink.hurry()
            signal.signal(number, usual[self.ended_by])

        for number in usual:
            signal.signal(number, end)
        try:
            yield
        finally:
            for number, handler in usual.items():
                signal.signal(number, handler)

    def summary(self) -> LiveSummary:
        """What happened so far."""
        counts = self._capture.counts
        return LiveSummary(
            stages=self.clock.summary(),
            read=counts.read,
            processed=self._processed,
            dropped=counts.dropped,
            unwritten=sum(sink.missed for sink in self._sinks if isinstance(sink, BackgroundSink)),
            faces=self._most_faces,
            reconnects=counts.reconnects,
            provider=self._pipeline.landmarks.provider,
            ended_early=self._capture.truncated,
        )

    def _loop(self, max_frames: int | None) -> None:
        clock = self.clock
        started = clock.now()
        results = self._pipeline.track(
            self._frames(), detect_every=self._detect_every, smoothing=self._smoothing, clock=clock
        )
        for frame, faces in results:
            self._processed += 1
            self._most_faces = max(self._most_faces, len(faces))
            if self._capture.live:
                clock.record("frame_age", self._capture.clock() - frame.timestamp_ns)
            go_on = self._deliver(frame, faces)
            self._notifier.frame_done()
            clock.record("end_to_end", clock.now() - started)
            started = clock.now()
            if not go_on or (max_frames is not None and self._processed >= max_frames):
                return

    def _frames(self) -> Iterator[Frame]:
        start = self.clock.now()
        while self.ended_by is None:
            frame = self._capture.wait_frame(WAIT_S)
            if frame is not None:
                self.clock.record("capture", self.clock.now() - start)
                yield frame
                start = self.clock.now()
            elif self._capture.ended:
                return

    def _deliver(self, frame: Frame, faces: Faces) -> bool:
        picture = frame.pixels
        if any(sink.wants_picture for sink in self._sinks):
            with self.clock.stage("draw"):
                picture = self._draw(frame, faces)
        with self.clock.stage("write"):
            wanted = [sink.write(frame, faces, picture) for sink in self._sinks]
        return all(wanted)

    def _draw(self, frame: Frame, faces: Faces) -> Image:
        hud = self._hud(len(faces)) if self._view.hud else []
        return draw_faces(frame.pixels, faces, hud=hud, contours=self._view.contours)

    def _hud(self, faces: int) -> list[str]:
        clock = self.clock
        last = 60  # about the last two seconds
        interval_ms = clock.percentile_ms("end_to_end", 50, last=last)
        if not np.isfinite(interval_ms):
            return []
        lines = [
            f"{1000 / interval_ms:.0f} fps  inference {clock.percentile_ms('process', 50, last=last):.1f} ms  "
            f"{self._pipeline.landmarks.provider}",
            f"frame p50 {interval_ms:.1f}  p95 {clock.percentile_ms('end_to_end', 95, last=last):.1f} ms",
            f"{faces} face{'s' if faces != 1 else ''}  {self._capture.counts.dropped} dropped",
        ]
        age_ms = clock.percentile_ms("frame_age", 50, last=last)
        return [*lines, f"frame age {age_ms:.0f} ms"] if np.isfinite(age_ms) else lines
