"""Statistics of the live page: a point a second, and health."""

from __future__ import annotations

import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from mien.runtime.live import page_stats
from mien.runtime.live.page_stats import Result
from mien.runtime.stage_timer import StageTimer
from mien.runtime.values import Faces, Frame
from mien.tests.fakes.fake_live_run import Capture, noise, served
from mien.tests.processes import wait_for


def test_charts_get_a_point_a_second_and_only_the_new_ones() -> None:
    with served() as run, run.going(interval_s=0.02):
        wait_for(lambda: len(run.json("/stats")["samples"]) >= 2)
        row = run.json("/stats")
        assert row["source"] == "fake camera" and row["provider"] == "fake" and row["healthy"]
        assert [s["number"] for s in row["samples"]] == list(range(1, len(row["samples"]) + 1))
        assert 2 < row["samples"][1]["fps"] < 60 and row["samples"][1]["p50_ms"] is None  # the run has no pipeline
        assert all(s["number"] > 1 for s in run.json("/stats?after=1")["samples"])
        assert run.json("/stats?after=999")["samples"][0]["number"] == 1  # a page from before a restart


def test_a_source_may_have_any_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Capture, "name", "pics\udce9")
    with served() as run:
        assert run.json("/stats")["source"] == r"pics\udce9"


def test_stats_with_a_clock_of_the_test() -> None:
    now, clock, latest = [0], StageTimer(), [None]
    stats = page_stats.PageStats(Capture(), clock, provider="p", latest=lambda: latest[0], now=lambda: now[0])  # type: ignore[arg-type]
    frame = Frame(noise(), 0, 0)
    for second in range(1, 4):
        for i in range(30):
            clock.record("process", second * 1_000_000)
            latest[0] = Result(frame, Faces.empty(), 30 * (second - 1) + i + 1, now[0])  # type: ignore[call-overload]
        now[0] += 1_000_000_000
        stats.sample()
    now[0] += 2_000_000_000
    stats.sample()
    row = stats.to_dict(after=0, clients={})
    assert [(s["fps"], s["p50_ms"]) for s in row["samples"]] == [(30, 1), (30, 2), (30, 3), (0, None)]
    assert row["since_frame_s"] == 3 and stats.healthy
    now[0] += 2_000_000_000
    assert not stats.healthy and row["stages"]["process"]["p50_ms"] == 2
    for _ in range(300):
        now[0] += 1_000_000_000
        stats.sample()
    assert len(stats.to_dict(after=0, clients={})["samples"]) == page_stats.HISTORY_S
