"""The pipeline, tracking faces through a recorded video, as a target."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from ...runtime.capture.sources import NOMINAL_FPS, RawFrame, Source, SourceLost, SourceOptions
from ...runtime.capture.video import open_video
from ...runtime.errors import InputError
from ...runtime.faces.detector import LIVE_MAX_SIDE
from ...runtime.files import sha256_of
from ...runtime.models.runner import Provider
from ...runtime.models.spec import ModelSpec, Precision
from ...runtime.pipeline.pipeline import Pipeline
from ...runtime.stage_timer import StageTimer
from ...runtime.tracking.smoothing import OneEuro
from ...runtime.values import Faces, FloatArray, Frame, Image
from ..timing.interleave import TimedCalls, time_calls
from .candidate import Candidate
from .targets import PRIMING_CALLS, InputArrays

FRAMES_PER_ROUND = 30
"""Twice the tracker's detection interval, so that the detector runs in every round."""


class PipelineTarget:
    """The pipeline, tracking faces through a looped clip; reading and decoding are timed too."""

    spec: ModelSpec | None = None
    precision: Precision | None = None
    batch = 1

    def __init__(self, candidate: Candidate) -> None:
        files = {role: Path(path) for role, path in candidate.models.items()}
        self._pipeline = Pipeline.load(
            model=files.get("landmarks"),
            detector=files.get("detector"),
            age_gender=files.get("age-gender"),
            provider=Provider(candidate.device),
            threads=candidate.threads,
            max_side=LIVE_MAX_SIDE,
        )
        self.provider = self._pipeline.provider
        self._clip = candidate.path
        self._length: int | None = None
        self._clock = StageRecorder()
        self._results = self._follow(0)

    def bind(self, arrays: InputArrays) -> tuple[str, str]:
        """See `Target`; arrays are ignored, as the clip is the only input."""
        return sha256_of(self._clip)[:16], f"frames of {self._clip.name}; decoding is timed too"

    def prime(self, first: int, count: int) -> int:
        """Seek to just before the first frame of the round, so that a round has the same frames in every run."""
        self._results = self._follow(first // count * FRAMES_PER_ROUND - PRIMING_CALLS)
        self.time_calls(first, PRIMING_CALLS)
        return FRAMES_PER_ROUND

    def time_calls(self, first: int, count: int) -> TimedCalls:
        """Time the next frames."""
        self._clock.taken.clear()
        timed = time_calls(lambda _: next(self._results), first=first, count=count)
        return TimedCalls(timed.calls_ns, stages_ns={name: tuple(ns) for name, ns in self._clock.taken.items()})

    def outputs(self, batch: Image) -> Mapping[str, FloatArray]:
        """Raise InputError, as a pipeline has no outputs to compare."""
        raise InputError("a pipeline has no outputs to compare")

    def overhead_us(self) -> tuple[float, float] | None:
        """See `Target`."""
        return None

    def nodes(self) -> tuple[int, int] | None:
        """See `Target`."""
        return None

    def _follow(self, start: int) -> Iterator[tuple[Frame, Faces]]:
        """Track faces through the looped clip, starting at a frame."""
        return self._pipeline.track(self._frames(start), smoothing=OneEuro(), clock=self._clock)

    def _frames(self, start: int) -> Iterator[Frame]:
        """Read the looped clip, starting at a frame; earlier ones are decoded too, as not every file can seek."""
        skipped = max(start, 0) if self._length is None else start % self._length
        for index, (pixels, time_ns) in enumerate(self._loop()):
            if index >= skipped:
                yield Frame(pixels, time_ns, index - skipped)

    def _loop(self) -> Iterator[tuple[Image, int]]:
        """Yield the frames of the clip in an endless loop, with their times in ns."""
        start_ns = 0
        while True:
            opened = open_video(str(self._clip), SourceOptions())
            length, time_ns = 0, start_ns
            try:
                while (raw := self._read(opened.source)) is not None:
                    length, time_ns = length + 1, start_ns + (raw[1] or 0)
                    yield raw[0], time_ns
            finally:
                opened.source.close()
            self._length = length
            start_ns = time_ns + round(1e9 / (opened.info.fps or NOMINAL_FPS))

    def _read(self, source: Source) -> RawFrame | None:
        with self._clock.stage("capture"):
            try:
                return source.read()
            except SourceLost:  # a damaged clip ends where it can no longer be read
                return None


class StageRecorder(StageTimer):
    """Stage timer that keeps each duration of a round."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: dict[str, list[int]] = {}

    def record(self, stage: str, duration_ns: int) -> None:
        """Record one duration."""
        self.taken.setdefault(stage, []).append(duration_ns)
