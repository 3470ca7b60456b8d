from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest

from mien.bench.timing.background_load import BackgroundLoad
from mien.bench.timing.sensors import Reading


def readings(*busy_s: float | None, stolen_s: float | None = 0.0) -> BackgroundLoad:
    given = iter(busy_s)
    return BackgroundLoad(lambda: Reading(busy_s=next(given), stolen_s=stolen_s))


def test_what_others_used_is_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 10.0, 100.0, 110.0])
    own = iter([0.0, 1.0, 1.0, 1.0])
    monkeypatch.setattr("mien.bench.timing.background_load.time.perf_counter", lambda: next(clock))
    monkeypatch.setattr("mien.bench.timing.background_load.time.process_time", lambda: next(own))
    load = readings(50.0, 62.0, 200.0, 214.0)
    for candidates_s in (8.0, 10.0):  # 12 and 14 s were used in 10 s each, 1 s of them by this process
        load.begin()
        load.sample()
        load.end(candidates_s)
    assert load.others_cores == pytest.approx((3 + 4) / 20)
    assert load.stolen_cores == 0.0 and len(load.readings) == 4


def test_a_tool_that_reads_the_sensors_is_not_another_process() -> None:
    def read() -> Reading:
        used = os.times()
        subprocess.run([sys.executable, "-c", "sum(range(3_000_000))"], check=True)  # as nvidia-smi does, it computes
        return Reading(busy_s=sum(used[:4]), stolen_s=0.0)

    load, begun = BackgroundLoad(read), time.perf_counter()
    load.begin()
    for _ in range(4):
        load.sample()
    load.end(0.0)
    tools_s = load.readings[-1].busy_s - load.readings[0].busy_s  # type: ignore[operator]
    assert load.others_cores is not None
    assert load.others_cores * (time.perf_counter() - begun) < 0.25 * tools_s


def test_a_launch_in_which_a_candidate_was_lost_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 10.0, 100.0, 110.0])
    monkeypatch.setattr("mien.bench.timing.background_load.time.perf_counter", lambda: next(clock))
    monkeypatch.setattr("mien.bench.timing.background_load.time.process_time", lambda: 0.0)
    load = readings(1.0, 9.0, 20.0, 26.0, stolen_s=None)
    for candidates_s in (None, 1.0):
        load.begin()
        load.sample()
        load.end(candidates_s)
    assert load.others_cores == pytest.approx(0.5) and load.stolen_cores is None
    assert readings().others_cores is None
