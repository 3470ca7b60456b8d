"""The figures of the live page: a point a second for its charts, a JSON row, and Prometheus' text format."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mien.runtime.capture.capture import Capture
from mien.runtime.faces.stage_timer import StageTimer
from mien.runtime.values import Faces, Frame

RECENT = 300
"""Frames that the percentiles of the stages are taken over."""
HISTORY_S = 120
"""How far back the charts go."""
STALE_S = 5.0
"""Without a frame for so long the run is unhealthy."""
PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Result:
    """The newest result. number: how many there were, this one counted. at_ns: when it came, on the stats' clock."""

    frame: Frame
    faces: Faces
    number: int
    at_ns: int


@dataclass(frozen=True, slots=True)
class Sample:
    """One point of the charts. number: from 1 on. fps: since the point before. p50_ms, p95_ms: of inference then."""

    number: int
    fps: float
    p50_ms: float | None
    p95_ms: float | None


class PageStats:
    """Figures of a run. `sample` is called once a second; the percentiles of the stages are as old as that.

    capture: what is counted. clock: the run's. latest: the newest result, None before the first. now: monotonic ns.
    """

    def __init__(
        self,
        capture: Capture,
        stages: StageTimer,
        *,
        provider: str,
        latest: Callable[[], Result | None],
        now: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._capture = capture
        self._clock = stages
        self._provider = provider
        self._latest = latest
        self._now = now
        self._started_ns = self._sampled_ns = now()
        self._sampled_frames = 0
        self._history: deque[Sample] = deque(maxlen=HISTORY_S)
        self._stages: tuple[int, dict[str, dict[str, float]]] = (-1, {})
        self._totals_s: dict[str, float] = {}

    def sample(self) -> None:
        """Add a point to the charts."""
        now, processed = self._now(), self._processed()
        frames = processed - self._sampled_frames
        seconds = (now - self._sampled_ns) / 1e9
        p50, p95 = (self._clock.percentile_ms("process", p, last=frames) if frames else math.nan for p in (50, 95))
        number = self._history[-1].number + 1 if self._history else 1
        self._history.append(Sample(number, round(frames / seconds, 2), _finite(p50), _finite(p95)))
        self._sampled_ns, self._sampled_frames = now, processed

    @property
    def since_frame_s(self) -> float:
        """Seconds since the newest result, or since the start."""
        latest = self._latest()
        return (self._now() - (latest.at_ns if latest is not None else self._started_ns)) / 1e9

    @property
    def healthy(self) -> bool:
        """Whether frames come."""
        return self.since_frame_s < STALE_S

    def to_row(self, *, after: int, clients: Mapping[str, int]) -> dict[str, Any]:
        """As the JSON of ``/stats``. after: the number of the last point that the asking page has."""
        latest, counts = self._latest(), self._capture.counts
        newest = self._history[-1].number if self._history else 0
        return {
            "source": self._capture.name,
            "provider": self._provider,
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

    def to_prometheus(self, *, clients: Mapping[str, int], refused: int, given_up: int) -> str:
        """As the text of ``/metrics``."""
        latest, counts = self._latest(), self._capture.counts
        lines: list[str] = []

        def tell(name: str, kind: str, about: str, values: Mapping[str, float]) -> None:
            lines.extend([f"# HELP mien_{name} {about}", f"# TYPE mien_{name} {kind}"])
            lines.extend(f"mien_{name}{labels} {value}" for labels, value in values.items())

        tell("frames_read_total", "counter", "Frames that the source gave.", {"": counts.read})
        tell("frames_processed_total", "counter", "Frames with a result.", {"": self._processed()})
        tell("frames_dropped_total", "counter", "Frames replaced by newer ones.", {"": counts.dropped})
        tell("reconnects_total", "counter", "Times that a lost source came back.", {"": counts.reconnects})
        tell("faces", "gauge", "Faces in the newest frame.", {"": len(latest.faces) if latest is not None else 0})
        tell("fps", "gauge", "Results a second, over the last second.", {"": self._fps()})
        tell("since_frame_seconds", "gauge", "Time since the newest result.", {"": round(self.since_frame_s, 3)})
        tell("clients", "gauge", "Clients that watch.", {f'{{feed="{k}"}}': v for k, v in clients.items()})
        tell("clients_refused_total", "counter", "Clients that found no seat.", {"": refused})
        tell("clients_given_up_total", "counter", "Connections that were stuck or too many.", {"": given_up})
        tell("stage_latency_seconds", "summary", f"Quantiles of the last {RECENT} frames.", self._summaries())
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
        """Once for each sample, however many ask."""
        number = self._history[-1].number if self._history else 0
        if self._stages[0] != number:
            self._stages = (number, self._clock.summary(last=RECENT))
            self._totals_s = {stage: self._clock.total_s(stage) for stage in self._stages[1]}
        return self._stages[1]

    def _processed(self) -> int:
        latest = self._latest()
        return latest.number if latest is not None else 0

    def _fps(self) -> float:
        return self._history[-1].fps if self._history else 0.0


def _finite(value: float) -> float | None:
    return round(value, 3) if math.isfinite(value) else None
