"""Statistics of the live page: one chart sample per second, as JSON and in the Prometheus text format."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ..capture.capture import Capture
from ..models.spec import Precision
from ..stage_timer import StageTimer
from ..values import Faces, Frame

RECENT = 300
"""Number of frames over which the percentiles of the stages are computed."""
HISTORY_S = 120
"""Time span of the charts."""
STALE_S = 5.0
"""A run without a new frame for this long is unhealthy."""
PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Result:
    """Latest result of a run.

    Attributes:
        frame: Frame with the undrawn picture.
        faces: Faces found in it.
        number: Number of results so far, including this one.
        at_ns: Time of arrival on the monotonic clock.
    """

    frame: Frame
    faces: Faces
    number: int
    at_ns: int


@dataclass(frozen=True, slots=True)
class Sample:
    """One point of the charts.

    Attributes:
        number: Sequence number, starting at 1.
        fps: Rate since the previous sample.
        p50_ms: Median inference time since then; None without a frame.
        p95_ms: 95th percentile since then.
    """

    number: int
    fps: float
    p50_ms: float | None
    p95_ms: float | None


class PageStats:
    """Statistics of a run; call `sample` once per second.

    Args:
        capture: Source of the frame counts.
        stages: Timer of the run.
        provider: Provider to display.
        precision: Precision to display.
        latest: Returns the latest result, or None before the first.
        now: Clock of `Result.at_ns`.
    """

    def __init__(
        self,
        capture: Capture,
        stages: StageTimer,
        *,
        provider: str,
        precision: Precision = Precision.FP32,
        latest: Callable[[], Result | None],
        now: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._capture = capture
        self._timer = stages
        self._provider = provider
        self._precision = precision
        self._latest = latest
        self._now = now
        self._started_ns = self._sampled_ns = now()
        self._sampled_frames = 0
        self._history: deque[Sample] = deque(maxlen=HISTORY_S)
        self._stages: tuple[int, dict[str, dict[str, float]]] = (-1, {})
        self._totals_s: dict[str, float] = {}

    def sample(self) -> None:
        """Add a sample to the charts."""
        now, processed = self._now(), self._processed()
        frames = processed - self._sampled_frames
        seconds = (now - self._sampled_ns) / 1e9
        p50, p95 = (self._timer.percentile_ms("process", p, last=frames) if frames else math.nan for p in (50, 95))
        number = self._history[-1].number + 1 if self._history else 1
        self._history.append(Sample(number, round(frames / seconds, 2), _finite(p50), _finite(p95)))
        self._sampled_ns, self._sampled_frames = now, processed

    @property
    def since_frame_s(self) -> float:
        """Seconds since the latest result, or since the start."""
        latest = self._latest()
        return (self._now() - (latest.at_ns if latest is not None else self._started_ns)) / 1e9

    @property
    def healthy(self) -> bool:
        """True while new frames arrive."""
        return self.since_frame_s < STALE_S

    def to_dict(self, *, after: int, clients: Mapping[str, int]) -> dict[str, Any]:
        """Build the JSON object of ``/stats``.

        Args:
            after: Number of the last sample that the client has; only newer ones are included.
            clients: Subscribers of each broadcast.
        """
        latest, counts = self._latest(), self._capture.counts
        newest = self._history[-1].number if self._history else 0
        return {
            "source": self._capture.name.encode(errors="backslashreplace").decode(),  # of any bytes, if it is a path
            "provider": self._provider,
            "precision": self._precision.value,
            "fps": self._fps(),
            "since_frame_s": round(self.since_frame_s, 2),
            "healthy": self.healthy,
            "frames": {"read": counts.read, "processed": self._processed(), "dropped": counts.dropped},
            "faces": len(latest.faces) if latest is not None else 0,
            "reconnects": counts.reconnects,
            "clients": dict(clients),
            "stages": self._recent_stages(),
            "samples": [asdict(s) for s in self._history if s.number > after or after > newest],
        }

    def to_prometheus(self, *, clients: Mapping[str, int], refused: int, aborted: int) -> str:
        """Build the text of ``/metrics``.

        Args:
            clients: Subscribers of each broadcast.
            refused: Subscriptions refused because a broadcast was full.
            aborted: Connections aborted because they stalled or exceeded the limit.
        """
        latest, counts = self._latest(), self._capture.counts
        lines: list[str] = []

        def add(name: str, kind: str, description: str, values: Mapping[str, float]) -> None:
            lines.extend([f"# HELP mien_{name} {description}", f"# TYPE mien_{name} {kind}"])
            lines.extend(f"mien_{name}{labels} {value}" for labels, value in values.items())

        add("frames_read_total", "counter", "Frames read from the source.", {"": counts.read})
        add("frames_processed_total", "counter", "Frames processed.", {"": self._processed()})
        add("frames_dropped_total", "counter", "Frames dropped in favor of newer ones.", {"": counts.dropped})
        add("reconnects_total", "counter", "Reconnections to a lost source.", {"": counts.reconnects})
        add("faces", "gauge", "Faces in the latest frame.", {"": len(latest.faces) if latest is not None else 0})
        add("fps", "gauge", "Frames processed per second, over the last second.", {"": self._fps()})
        add("since_frame_seconds", "gauge", "Time since the latest result.", {"": round(self.since_frame_s, 3)})
        add("clients", "gauge", "Connected clients.", {f'{{feed="{k}"}}': v for k, v in clients.items()})
        add("clients_refused_total", "counter", "Clients refused because too many were connected.", {"": refused})
        add("connections_aborted_total", "counter", "Connections aborted: stalled or too many.", {"": aborted})
        add(
            "stage_latency_seconds",
            "summary",
            f"Latency of each stage; quantiles over the last {RECENT} frames.",
            self._summaries(),
        )
        return "\n".join(lines) + "\n"

    def _summaries(self) -> dict[str, float]:
        values: dict[str, float] = {}
        for stage, row in self._recent_stages().items():
            for p in (50, 95, 99):
                values[f'{{stage="{stage}",quantile="{p / 100}"}}'] = round(row[f"p{p}_ms"] / 1e3, 7)
            values[f'_sum{{stage="{stage}"}}'] = round(self._totals_s[stage], 6)
            values[f'_count{{stage="{stage}"}}'] = row["n"]
        return values

    def _recent_stages(self) -> dict[str, dict[str, float]]:
        """Summarize the stages once per sample, however many clients ask."""
        number = self._history[-1].number if self._history else 0
        if self._stages[0] != number:
            self._stages = (number, self._timer.summary(last=RECENT))
            self._totals_s = {stage: self._timer.total_s(stage) for stage in self._stages[1]}
        return self._stages[1]

    def _processed(self) -> int:
        latest = self._latest()
        return latest.number if latest is not None else 0

    def _fps(self) -> float:
        return self._history[-1].fps if self._history else 0.0


def _finite(value: float) -> float | None:
    return round(value, 3) if math.isfinite(value) else None
