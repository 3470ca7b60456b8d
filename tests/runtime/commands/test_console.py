"""Progress: lines with an estimate where there is no terminal, and no more than one every half minute."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from mien.runtime.batch.predict import Predictor
from mien.runtime.commands.console import describe_duration, print_table, progress_bar, say
from mien.runtime.pipeline.pipeline import Pipeline
from mien.tests.clips import write_clip


def test_a_log_gets_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    now_s = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now_s)
    with progress_bar("predict") as advance:
        for done in range(1, 101):
            now_s += 1.0
            advance(done, 100)
    assert capsys.readouterr().err.splitlines() == [
        "predict: 30 of 100 done, about 70 s left",
        "predict: 60 of 100 done, about 40 s left",
        "predict: 90 of 100 done, about 10 s left",
    ]
    with progress_bar("predict", hidden=True) as advance:
        now_s += 100.0
        advance(1, 2)
    assert capsys.readouterr().err == ""


def test_what_an_earlier_run_has_done_does_not_count(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now_s = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now_s)
    with progress_bar("predict") as advance:
        advance(900, 1000)
        for done in range(901, 921):
            now_s += 2.0
            advance(done, 1000)
    assert capsys.readouterr().err.splitlines() == ["predict: 915 of 1000 done, about 3 min left"]


def test_names_are_printed_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    name = "cuda:-1: [red].jpg"
    say(f"error: {name}")
    print_table(name, ["file"], [[name]])
    printed = capsys.readouterr()
    assert printed.err == f"error: {name}\n" and printed.out.count(name) == 2


def test_durations_are_short() -> None:
    assert [describe_duration(s) for s in (2.4, 89, 90, 600, 5399, 5400, 90_000)] == [
        "2 s",
        "89 s",
        "2 min",
        "10 min",
        "90 min",
        "2 h",
        "25 h",
    ]


def test_a_single_video_advances_by_frames(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip.avi", [np.zeros((64, 64, 3), np.uint8)] * 5)
    seen: list[tuple[int, int]] = []
    with (
        Pipeline.load(attributes=False) as pipeline,
        Predictor(pipeline, json_target=str(tmp_path / "rows")) as predictor,
    ):
        predictor.run([path], progress=lambda done, total: seen.append((done, total)))
        assert seen == [(1, 5), (2, 5), (3, 5), (4, 5), (5, 5), (1, 1)]
        seen.clear()
        predictor.run([path, path], progress=lambda done, total: seen.append((done, total)))
        assert seen == [(1, 2), (2, 2)]
