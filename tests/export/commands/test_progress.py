"""The progress bar of `mien train`."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from mien.export.commands import train


def test_each_epoch_has_its_own_remaining_time(monkeypatch: pytest.MonkeyPatch) -> None:
    now_s, terminal = 0.0, io.StringIO()
    console = Console(file=terminal, force_terminal=True, width=100, get_time=lambda: now_s)
    monkeypatch.setattr(train, "stderr", console)
    with train.progress_bar() as progress:
        for epoch, steps in ((1, 10), (2, 5)):
            for done in range(steps + 1):
                now_s += 6.0
                progress(f"epoch {epoch}", done, 10)
    assert "0:00:30" in terminal.getvalue().rpartition("epoch 2")[2]


def test_a_log_has_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    log = io.StringIO()
    monkeypatch.setattr(train, "stderr", Console(file=log))
    with train.progress_bar() as progress:
        progress("epoch 1", 1, 1)
    assert log.getvalue() == ""
