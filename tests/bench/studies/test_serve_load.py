"""The load that the live page is measured under; how fast it is, is for people to measure."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

pytest.importorskip("uvicorn")

from mien.bench.studies import serve_load
from mien.tests.clips import demo_frames, write_clip


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "clip.avi", demo_frames(8))


def test_clients_watch_in_turns(
    clip: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(serve_load, "SETTLE_S", 0.05)
    monkeypatch.setattr(serve_load, "TURN_S", 0.2)
    serve_load.main([str(clip), "--rounds", "5", "--clients", "6", "--rate", "20", "--threads", "1"])
    row = json.loads(capsys.readouterr().out)
    assert row["clients"] == 6 and row["rounds"] == 5 and row["provider"] == "cpu"
    assert 1 < row["fps_alone"] < 30 and 1 < row["fps_watched"] < 30 and row["processed"] > 20
    assert row["read_mb_a_turn"] > 0.02  # they did get pictures
    assert re.fullmatch(r"\d\.\d\d× \(\d\.\d\d–\d\.\d\d\)", row["watched_over_alone"])


def test_misuse(clip: Path, tmp_path: Path) -> None:
    for arguments in ([], [str(clip), "--rounds", "2"], [str(tmp_path / "no.avi")]):
        with pytest.raises(SystemExit) as ended:
            serve_load.main(arguments)
        assert ended.value.code == 2
