"""What systemd hears of a live run, over a real socket."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from mien.runtime.capture.capture import Capture
from mien.runtime.capture.open_capture import open_capture
from mien.runtime.capture.sources import OpenedSource, RawFrame, SourceInfo
from mien.runtime.live.live_run import LiveRun
from mien.runtime.live.systemd import ServiceNotifier
from mien.runtime.models.runner import Provider
from mien.runtime.pipeline.pipeline import Pipeline
from mien.tests.processes import wait_for


class Manager:
    """The service manager's end of the socket."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.setblocking(False)

    def heard(self) -> list[str]:
        messages = []
        while True:
            try:
                messages.append(self.socket.recv(4096).decode())
            except BlockingIOError:
                return messages


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    monkeypatch.chdir(tmp_path)  # a socket's path has at most 108 bytes
    heard = Manager("notify")
    yield heard
    heard.socket.close()


@pytest.fixture(scope="module")
def pipeline() -> Iterator[Pipeline]:
    with Pipeline.load(attributes=False, provider=Provider.CPU) as opened:
        yield opened


def test_ready_at_the_first_frame_and_alive_four_times_an_interval(manager: Manager) -> None:
    now = [10_000_000_000]
    environment = {"NOTIFY_SOCKET": "notify", "WATCHDOG_USEC": "4000000", "WATCHDOG_PID": str(os.getpid())}
    notifier = ServiceNotifier(environment=environment, clock=lambda: now[0])
    assert manager.heard() == []  # opened is not ready
    notifier.frame_done()
    assert manager.heard() == ["READY=1\nSTATUS=processing frames\nWATCHDOG=1"]
    for _ in range(30):  # three seconds of frames
        now[0] += 100_000_000
        notifier.frame_done()
    assert manager.heard() == ["WATCHDOG=1"] * 3
    notifier.close()
    notifier.close()
    notifier.frame_done()
    assert manager.heard() == ["STOPPING=1"]


@pytest.mark.parametrize("watchdog", [{}, {"WATCHDOG_USEC": "soon"}, {"WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"}])
def test_no_watchdog_is_fed_that_is_not_ours(manager: Manager, watchdog: dict[str, str]) -> None:
    notifier = ServiceNotifier(environment={"NOTIFY_SOCKET": "notify"} | watchdog)
    for _ in range(5):
        notifier.frame_done()
        time.sleep(0.002)
    notifier.close()
    assert [text.split("\n")[0] for text in manager.heard()] == ["READY=1", "STOPPING=1"]


def test_an_abstract_socket() -> None:
    name = f"mien-test-{os.getpid()}"
    manager = Manager(f"\0{name}")
    notifier = ServiceNotifier(environment={"NOTIFY_SOCKET": f"@{name}"})
    notifier.frame_done()
    notifier.close()
    assert len(manager.heard()) == 2
    manager.socket.close()


def test_nobody_there_is_a_warning_and_no_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="mien"):
        notifier = ServiceNotifier(environment={"NOTIFY_SOCKET": str(tmp_path / "gone")})
        notifier.frame_done()
        notifier.close()
    assert "cannot notify" in caplog.text
    silent = ServiceNotifier(environment={})
    silent.frame_done()
    silent.close()


def test_a_live_run_tells_what_it_does(manager: Manager, pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", "notify")
    monkeypatch.setenv("WATCHDOG_USEC", "4")
    with open_capture("demo") as capture:
        LiveRun(capture, pipeline.track, [], provider="cpu").run(max_frames=3)
    assert [text.split("\n")[0] for text in manager.heard()] == ["READY=1", "WATCHDOG=1", "WATCHDOG=1", "STOPPING=1"]


class StuckCamera:
    """Gives five pictures and then nothing, without an error, as a camera does whose driver hangs."""

    def __init__(self) -> None:
        self.given = 0
        self.stuck = threading.Event()
        self.freed = threading.Event()

    def read(self) -> RawFrame | None:
        if self.given == 5:
            self.stuck.set()
            self.freed.wait()
            return None
        self.given += 1
        return np.full((48, 64, 3), 40 * self.given, np.uint8), time.monotonic_ns()

    def close(self) -> None:
        self.freed.set()


class CountingNotifier(ServiceNotifier):
    frames = 0

    def frame_done(self) -> None:
        super().frame_done()
        self.frames += 1


def test_a_stuck_camera_starves_the_watchdog(manager: Manager, pipeline: Pipeline) -> None:
    camera = StuckCamera()
    info = SourceInfo(name="stuck", live=True, size=(64, 48), fps=None, reconnectable=False)
    notifier = CountingNotifier(environment={"NOTIFY_SOCKET": "notify", "WATCHDOG_USEC": "4"})
    with Capture(lambda: OpenedSource(camera, info)) as capture:
        live = LiveRun(capture, pipeline.track, [], provider="cpu", notifier=notifier)
        run = threading.Thread(target=live.run)
        run.start()
        assert camera.stuck.wait(10)
        wait_for(lambda: notifier.frames == capture.counts.delivered == 5 - capture.counts.dropped)
        assert manager.heard()[0].startswith("READY=1")
        time.sleep(0.04)  # 10,000 watchdog intervals
        assert manager.heard() == [] and run.is_alive()
        camera.freed.set()
        run.join(10)
    assert not run.is_alive() and manager.heard() == ["STOPPING=1"]
