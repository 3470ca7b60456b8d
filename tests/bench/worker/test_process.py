"""Processes of their own: what they tell, and how they are lost. Each test starts one or two, which takes some time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from mien.bench.timing.interleave import interleave, warm_up
from mien.bench.timing.measurement import Level
from mien.bench.worker import process as processes
from mien.bench.worker.candidate import Candidate, name_of
from mien.bench.worker.process import (
    CandidateFailed,
    CandidateProcess,
    FailureKind,
    failure_of,
)
from mien.bench.worker.remote_runner import RemoteRunner
from mien.bench.worker.worker import peak_mib
from mien.runtime.errors import ProcessFailed


@pytest.fixture(autouse=True)
def odd_targets_can_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)


def candidate(function: str, *, milliseconds: float = 0.0, batch: int = 1) -> Candidate:
    return Candidate(
        model="odd",
        file="",
        opener=f"odd_targets:{function}",
        path=Path(str(milliseconds)),
        device="cpu",
        batch=batch,
        models={"a": "b"},
    )


@pytest.fixture
def sleeper() -> Iterator[CandidateProcess]:
    with CandidateProcess(candidate("sleeps", milliseconds=2, batch=4), timeout_s=60) as process:
        yield process


def test_a_candidate_goes_through_its_line() -> None:
    whole = Candidate(
        model="net",
        file="./p",
        opener="m:f",
        path=Path("p"),
        device="cuda",
        baseline="eager",
        threads=2,
        level=Level.PICTURE,
        batch=8,
        models={"detector": "d"},
    )
    assert Candidate.from_json(whole.to_json()) == whole and "\n" not in whole.to_json()
    assert name_of(warm_up) == "mien.bench.timing.interleave:warm_up"


def test_a_process_tells_what_it_opened_and_times_itself(sleeper: CandidateProcess) -> None:
    sleeper.open()
    assert sleeper.provider == "sleeps-True-False", "mien brings onnxruntime, and nothing brings torch"
    assert (
        sleeper.spec is not None
        and sleeper.spec.outputs == ("logits",)
        and sleeper.import_ms > 1
        and sleeper.load_ms >= 0
    )
    sleeper.bind(None)
    assert sleeper.inputs_digest == "digest" and sleeper.inputs_note == "[] 1", "threads are pinned in the environment"
    assert 2 <= sleeper.first_ms < 500
    turn = sleeper.time_calls(0, 3)
    assert len(turn.calls_ns) == 3 and min(turn.calls_ns) >= 2_000_000 and turn.device_ns == () and turn.cpu_ns >= 0
    assert sleeper.overhead() == ((1.5, 100.0), (3, 4))
    peak = sleeper.peak_mib()
    assert peak is not None and 20 < peak < 400
    sleeper.start_running(0.05)
    calls, seconds = sleeper.calls_run()
    assert calls >= 1 and seconds >= 0.05


def test_outputs_come_in_the_batches_that_are_measured(sleeper: CandidateProcess) -> None:
    with pytest.raises(ValueError, match="without a spec"):
        RemoteRunner(sleeper)
    sleeper.open()
    runner = RemoteRunner(sleeper)
    images = np.random.default_rng(0).integers(0, 255, (10, 4, 4, 3), dtype=np.uint8)
    with runner:  # ten images in batches of four: the last is filled up, and cut again
        assert np.allclose(runner(images)["logits"][:, 0], images.reshape(10, -1).mean(axis=1))
    assert runner.provider == "sleeps-True-False" and runner.precision.value == "fp32"


@pytest.mark.parametrize(
    ("function", "failure", "reason"),
    [
        ("refuses", FailureKind.REFUSED, "this file is no good"),
        ("breaks", FailureKind.CRASHED, "ZeroDivisionError: a bug"),
        ("aborts", FailureKind.CRASHED, "SIGABRT"),
        ("devours", FailureKind.OUT_OF_MEMORY, "Unable to allocate"),
    ],
)
def test_what_becomes_of_a_process_is_told(function: str, failure: FailureKind, reason: str) -> None:
    with CandidateProcess(candidate(function), timeout_s=60) as process:
        with pytest.raises(CandidateFailed, match=reason) as told:
            process.open()
        assert told.value.failure is failure
        with pytest.raises(CandidateFailed):  # and again, without waiting
            process.time_calls(0, 1)


def test_a_flood_of_words_fills_neither_memory_nor_disk_and_the_error_is_found() -> None:
    with CandidateProcess(candidate("floods"), timeout_s=60) as process:
        with pytest.raises(CandidateFailed, match="crashed: ValueError: after the flood"):
            process.open()
        assert len(process._errors) <= processes.KEPT_ERRORS


def test_one_that_closes_its_output_and_goes_on_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "END_S", 0.5)
    with CandidateProcess(candidate("falls_silent"), timeout_s=60) as process:
        with pytest.raises(CandidateFailed, match="closed its output without an answer"):
            process.open()
        process._process.wait(10)


def test_a_process_that_hangs_is_ended() -> None:
    process = CandidateProcess(candidate("hangs"), timeout_s=1.5)
    with pytest.raises(CandidateFailed, match=r"hung: no answer within 1.5 s"):
        process.open()
    process.close()
    with pytest.raises(ProcessLookupError):
        os.kill(process._process.pid, 0)


def test_a_process_outlives_the_terminals_ctrl_c(sleeper: CandidateProcess) -> None:
    sleeper.open()
    assert os.getpgid(sleeper._process.pid) != os.getpgid(0), "a terminal's SIGINT goes to the group of who reads it"
    sleeper.bind(None)
    assert sleeper.inputs_digest == "digest"


def test_an_answer_that_nobody_waited_for_is_not_taken_for_the_next(sleeper: CandidateProcess) -> None:
    sleeper.open()
    sleeper.bind(None)
    sleeper.start_running(0.01)  # as an interrupted turn: asked, and the answer never read
    assert len(sleeper.time_calls(0, 7).calls_ns) == 7
    sleeper._number += 1  # interrupted before it was asked
    assert len(sleeper.time_calls(0, 5).calls_ns) == 5


def test_one_that_is_lost_leaves_the_rounds_and_the_others_finish() -> None:
    with (
        CandidateProcess(candidate("sleeps"), timeout_s=60) as good,
        CandidateProcess(candidate("aborts_later"), timeout_s=60) as bad,
    ):
        for process in (good, bad):
            process.open()
            process.bind(None)
        found = interleave({"bad": bad, "good": good}, rounds=4, calls_per_round=2)
    assert set(found.rounds) == {"good"} and len(found.rounds["good"]) == 4 and not found.interrupted
    assert isinstance(found.failed["bad"], ProcessFailed) and "SIGABRT" in str(found.failed["bad"])


def test_the_end_of_the_parent_is_the_end_of_the_process(sleeper: CandidateProcess) -> None:
    sleeper.open()
    assert sleeper._process.stdin is not None
    sleeper._process.stdin.close()
    until = time.monotonic() + 20
    while sleeper._process.poll() is None and time.monotonic() < until:
        time.sleep(0.05)
    assert sleeper._process.poll() == 0


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a busy process notices when its turn is over")
def test_a_busy_process_does_not_outlive_its_parent(tmp_path: Path) -> None:
    code = f"""
import os, sys, time
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from mien.bench.worker.candidate import Candidate
from mien.bench.worker.process import CandidateProcess
process = CandidateProcess(
    Candidate(model="m", file="", opener="odd_targets:sleeps", path=Path("100000"), device="cpu")
)
process.open()
process.start_running(1000)
print(process._process.pid, flush=True)
time.sleep(1000)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = Path("/proc") / parent.stdout.readline().strip()
        assert child.exists()
        parent.kill()
    until = time.monotonic() + 10
    while child.exists() and "Z" not in (child / "stat").read_text().split()[2] and time.monotonic() < until:
        time.sleep(0.05)
    assert not child.exists() or "Z" in (child / "stat").read_text().split()[2]


def test_losses_are_told_apart() -> None:
    assert failure_of(-signal.SIGKILL, "").failure is FailureKind.OUT_OF_MEMORY
    assert failure_of(-signal.SIGSEGV, "").reason == "ended by SIGSEGV"
    assert failure_of(-signal.SIGABRT, "what():  std::bad_alloc").failure is FailureKind.OUT_OF_MEMORY
    assert failure_of(3, "").reason == "exit code 3"


def test_peak_memory_is_not_the_parents(tmp_path: Path) -> None:
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "proc/self/status").write_text("Name:\tpython\nVmHWM:\t  10240 kB\nVmRSS:\t 1 kB\n")
    assert peak_mib(root=tmp_path) == 10.0
    if sys.platform == "linux":
        fallback = peak_mib(root=tmp_path / "nowhere")
        assert fallback is not None and fallback > 10


def test_candidates_keep_their_memory_unless_the_user_chose_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LD_PRELOAD", *processes.GLIBC_KEEPS):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(processes.platform, "libc_ver", lambda: ("glibc", "2.41"))
    assert processes.allocator() == "glibc that keeps its memory"
    assert processes._environment(1)["MALLOC_TRIM_THRESHOLD_"] == str(1 << 30)
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "131072")
    assert processes.allocator() == "glibc with MALLOC_TRIM_THRESHOLD_=131072"
    assert processes._environment(1)["MALLOC_TRIM_THRESHOLD_"] == "131072"
    monkeypatch.setattr(processes.platform, "libc_ver", lambda: ("", ""))
    assert processes.allocator() == processes.SYSTEM_ALLOCATOR
