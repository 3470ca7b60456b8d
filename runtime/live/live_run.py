"""Runs a live session: captures, tracks, draws and writes frames, and times each stage."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from ..capture.capture import Capture
from ..interrupts import deferred
from ..models.spec import Precision
from ..output.anonymize import blurred_frame
from ..output.overlay import USUAL, OverlayStyle, draw_faces
from ..output.sinks import BackgroundSink, Sink, close_all
from ..output.window import View
from ..stage_timer import StageTimer
from ..values import Faces, Frame, Image, Progress
from ..wording import counted
from .systemd import ServiceNotifier

POLL_S = 0.2
"""Longest wait for a frame, which delays a Ctrl-C."""


class Tracking(Protocol):
    """Function that tracks through the frames of a video, such as `Pipeline.track`."""

    def __call__(self, frames: Iterable[Frame], *, clock: StageTimer) -> Iterator[tuple[Frame, Faces]]:
        """Yield each frame with its faces; record how long the stages take."""
        ...


@dataclass(frozen=True, slots=True)
class LiveSummary:
    """Outcome of a run.

    Attributes:
        stages: See `StageTimer.summary`.
        read: Frames read from the source.
        processed: Frames with a result.
        dropped: Frames dropped in favor of newer ones.
        unwritten: Results skipped by outputs that could not keep up.
        faces: Maximum number of faces in one frame.
        reconnects: Reconnections to a lost source.
        provider: Provider that ran the models.
        precision: Their precision.
        damage: What was reported of a damaged or incomplete recording; None if it is whole.
    """

    stages: dict[str, dict[str, float]]
    read: int
    processed: int
    dropped: int
    unwritten: int
    faces: int
    reconnects: int
    provider: str
    precision: Precision
    damage: str | None

    def to_dict(self) -> dict[str, Any]:
        """Build the JSON object of ``--stats``."""
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
            "precision": self.precision.value,
        }


class LiveRun:
    """Run of a pipeline over a capture. Sinks are closed however it ends, so that their files are complete.

    Args:
        capture: Source of the frames.
        track: Finds the faces of frames, or their classes, as `Pipeline.track` and `FrameClassifier.track` do.
        sinks: Receive each result; any of them can end the run.
        provider: Provider of the models, to display.
        precision: Precision of the models, to display.
        blur: Hide the faces in all pictures that the sinks receive; `track` is to be thorough.
        style: What is drawn of the faces.
        view: Display options, shared with the window.
        timer: Timer of the stages.
        notifier: Notifies the service manager.

    Attributes:
        ended_by: Signal that ended the run, such as SIGINT, if any.
    """

    def __init__(
        self,
        capture: Capture,
        track: Tracking,
        sinks: Sequence[Sink],
        *,
        provider: str,
        precision: Precision = Precision.FP32,
        blur: bool = False,
        style: OverlayStyle = USUAL,
        view: View | None = None,
        timer: StageTimer | None = None,
        notifier: ServiceNotifier | None = None,
    ) -> None:
        self.timer = timer if timer is not None else StageTimer()
        self.ended_by: signal.Signals | None = None
        self._capture = capture
        self._track = track
        self._sinks = sinks
        self._provider = provider
        self._precision = precision
        self._blur = blur
        self._style = style
        self._view = view if view is not None else View()
        self._notifier = notifier if notifier is not None else ServiceNotifier()
        self._processed = 0
        self._most_faces = 0

    def run(self, *, max_frames: int | None = None, progress: Progress | None = None) -> LiveSummary:
        """Process frames until the source or a sink ends, a signal arrives, or `max_frames` are done.

        Args:
            max_frames: Limit of the frames.
            progress: Called after each frame of a source that says how many it has.
        """
        with deferred(self._stop_waiting):  # nothing interrupts the sinks while they are closed
            try:
                with deferred(self._end):
                    self._loop(max_frames, progress)
            except KeyboardInterrupt:  # a second signal
                self.ended_by = self.ended_by or signal.SIGINT
            finally:
                self._notifier.close()
                close_all(self._sinks)
        return self.summary()

    def _end(self, number: signal.Signals) -> None:
        """End the run after the current frame; only a second signal interrupts it."""
        if self.ended_by is not None:
            raise KeyboardInterrupt
        self._stop_waiting(number)

    def _stop_waiting(self, number: signal.Signals) -> None:
        self.ended_by = number
        self._view.ended = True
        for sink in self._sinks:
            if isinstance(sink, BackgroundSink):
                sink.stop_waiting()

    def summary(self) -> LiveSummary:
        """Summarize the run so far."""
        counts = self._capture.counts
        return LiveSummary(
            stages=self.timer.summary(),
            read=counts.read,
            processed=self._processed,
            dropped=counts.dropped,
            unwritten=sum(sink.skipped for sink in self._sinks if isinstance(sink, BackgroundSink)),
            faces=self._most_faces,
            reconnects=counts.reconnects,
            provider=self._provider,
            precision=self._precision,
            damage=self._capture.damage,
        )

    def _loop(self, max_frames: int | None, progress: Progress | None) -> None:
        timer = self.timer
        started = timer.now()
        for frame, faces in self._track(self._frames(), clock=timer):
            if self._blur:
                with timer.stage("blur"):
                    frame, faces = blurred_frame(frame, faces)
            self._processed += 1
            self._most_faces = max(self._most_faces, len(faces))
            if self._capture.live:
                timer.record("frame_age", self._capture.clock() - frame.timestamp_ns)
            wanted = self._deliver(frame, faces)
            self._notifier.frame_done()
            timer.record("end_to_end", timer.now() - started)
            started = timer.now()
            if progress is not None and (count := self._capture.frame_count) is not None:
                total = count if max_frames is None else min(count, max_frames)
                progress(min(frame.index + 1, total), total)
            if not wanted or (max_frames is not None and self._processed >= max_frames):
                return

    def _frames(self) -> Iterator[Frame]:
        start = self.timer.now()
        while self.ended_by is None:
            frame = self._capture.wait_frame(POLL_S)
            if frame is not None:
                self.timer.record("capture", self.timer.now() - start)
                yield frame
                start = self.timer.now()
            elif self._capture.ended:
                return

    def _deliver(self, frame: Frame, faces: Faces) -> bool:
        picture = frame.pixels
        if any(sink.needs_picture for sink in self._sinks):
            with self.timer.stage("draw"):
                picture = self._draw(frame, faces)
        with self.timer.stage("write"):
            wanted = [sink.write(frame, faces, picture) for sink in self._sinks]  # every sink gets it
        return all(wanted)

    def _draw(self, frame: Frame, faces: Faces) -> Image:
        hud = self._hud(None if frame.classes is not None else len(faces)) if self._view.hud else []
        style = replace(self._style, contours=self._view.contours)
        return draw_faces(frame.pixels, faces, classes=frame.classes, hud=hud, style=style)

    def _hud(self, faces: int | None) -> list[str]:
        timer = self.timer
        last = 60  # about two seconds
        interval_ms = timer.percentile_ms("end_to_end", 50, last=last)
        if not np.isfinite(interval_ms):
            return []
        lines = [
            f"{1000 / interval_ms:.0f} fps  inference {timer.percentile_ms('process', 50, last=last):.1f} ms  "
            f"{self._provider} {self._precision.value}",
            f"frame p50 {interval_ms:.1f}  p95 {timer.percentile_ms('end_to_end', 95, last=last):.1f} ms",
            ("" if faces is None else f"{counted(faces, 'face')}  ") + f"{self._capture.counts.dropped} dropped",
        ]
        age_ms = timer.percentile_ms("frame_age", 50, last=last)
        return [*lines, f"frame age {age_ms:.0f} ms"] if np.isfinite(age_ms) else lines
