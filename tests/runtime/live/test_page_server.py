"""The live page under clients that stall, flood, send junk or leave; its start and its end."""

from __future__ import annotations

import contextlib
import logging
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
from uvicorn.protocols.http.h11_impl import H11Protocol

from mien.runtime.errors import OutputError
from mien.runtime.live import page_server as live_page
from mien.runtime.live.listen_socket import open_listen_socket
from mien.runtime.live.page_server import LivePage, drawn_jpeg
from mien.runtime.live.page_stats import Result
from mien.runtime.output.overlay import OverlayStyle
from mien.runtime.stage_timer import StageTimer
from mien.runtime.values import Faces, Frame
from mien.tests.fakes.fake_live_run import TOKEN, Capture, Run, next_picture, next_row, noise, served
from mien.tests.processes import wait_for

CODE_OF_10000_FRAMES = """
import contextlib, threading, time
from pathlib import Path
from mien.tests.fakes.fake_live_run import noise, one_face, served

def resident_mb():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6

with served(stream_hz=300) as run, contextlib.ExitStack() as stack:
    for path in ("/stream.mjpg", "/faces", "/stream.mjpg", "/faces"):
        response = stack.enter_context(run.watching(path))
        thread = threading.Thread(target=lambda r=response: [None for _ in iter(lambda: r.read1(1 << 16), b"")])
        thread.start()
        stack.callback(thread.join)
    stack.callback(run.page.close)
    pixels, faces = noise((240, 320)), one_face()
    for i in range(10_000):
        if i == 2000:
            start = resident_mb()
        run.write(pixels.copy(), faces)
        time.sleep(0.0002)
    print(resident_mb() - start)
"""


@pytest.mark.parametrize(("size", "wanted"), [((1080, 1920), (540, 960)), ((721, 1281), (360, 640)), ((48, 64), None)])
def test_large_pictures_are_reduced_and_faces_with_them(size: tuple[int, int], wanted: tuple[int, int] | None) -> None:
    grey, faces = np.full((*size, 3), 90, np.uint8), Faces.from_boxes(np.array([[10.0, 10, 40, 40]]), np.ones(1))
    jpeg = drawn_jpeg(Result(Frame(grey, 0, 0), faces, 1, 0), 960, 95)
    picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR).astype(int)
    assert picture.shape[:2] == (wanted or size)
    rows, columns = np.nonzero(np.abs(picture - 90).max(axis=2) > 40)
    shrink = 2 if wanted else 1
    assert abs(rows.min() - 10 / shrink) <= 2 and abs(columns.max() - 40 / shrink) <= 2


def test_one_encoding_for_all_and_none_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def encode(result: Result, max_side: int | None, quality: int, style: OverlayStyle) -> bytes:
        made.append(result.number)
        return drawn_jpeg(result, max_side, quality, style)

    monkeypatch.setattr(live_page, "drawn_jpeg", encode)
    with served(stream_hz=100) as run, contextlib.ExitStack() as stack:
        stack.enter_context(run.going())
        wait_for(lambda: run.index > 20)
        assert made == []
        streams = [stack.enter_context(run.watching("/stream.mjpg")) for _ in range(8)]
        for stream in streams:
            next_picture(stream)
        wait_for(lambda: len(made) > 5)
        assert len(set(made)) == len(made)
        for stream in streams:
            stream.close()
    assert run.page.pictures.subscribers == 0


def test_a_client_that_reads_nothing_is_aborted_and_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_page, "STALL_TIMEOUT_S", 1.5)
    with served(stream_hz=100) as run, socket.socket() as stuck:
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stuck.connect(("127.0.0.1", run.port))
        stuck.sendall(b"GET /stream.mjpg HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with run.going(noise((720, 960))), run.watching("/stream.mjpg") as reading:
            wait_for(lambda: run.page.pictures.subscribers == 2)
            while run.page.pictures.subscribers == 2:
                next_picture(reading)
            next_picture(reading)
        assert run.page.aborted == 1 and run.longest_write_s < 2  # it waits for nobody
        stuck.settimeout(10)
        while stuck.recv(1 << 20):  # what the system still held, and then the end
            pass


def test_half_a_request_is_aborted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_page, "STALL_TIMEOUT_S", 0.2)
    with served() as run, socket.create_connection(("127.0.0.1", run.port), timeout=10) as half:
        half.sendall(b"GET /stats HTT")
        with contextlib.suppress(ConnectionError):
            assert half.recv(100) == b""
        assert run.page.aborted == 1


def test_an_answer_that_is_not_fetched_is_aborted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_page, "STALL_TIMEOUT_S", 0.3)
    with served() as run, socket.socket() as stuck:
        run.write(noise((900, 1200)))  # some MB: too much for the system to hold
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stuck.connect(("127.0.0.1", run.port))
        stuck.sendall(b"GET /snapshot.jpg HTTP/1.1\r\nHost: localhost\r\n\r\n")
        wait_for(lambda: run.page.aborted == 1)
        jpeg = run.ask("/snapshot.jpg")[2]
        assert len(jpeg) > 1_000_000 and run.page.aborted == 1


def test_a_slow_reader_is_not_aborted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_page, "STALL_TIMEOUT_S", 0.5)
    called: list[str] = []
    for name in ("pause_writing", "resume_writing"):
        usual = getattr(H11Protocol, name)
        monkeypatch.setattr(H11Protocol, name, lambda self, n=name, usual=usual: (called.append(n), usual(self)))
    with served() as run, socket.socket() as slow:
        run.page._listen_socket.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32_768)  # the server's, too
        run.write(noise((900, 1200)))
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect(("127.0.0.1", run.port))
        slow.sendall(b"GET /snapshot.jpg HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        got, start = 0, time.monotonic()
        while chunk := slow.recv(4096):
            got += len(chunk)
            time.sleep(0.005)
        assert run.page.aborted == 0 and called == ["pause_writing", "resume_writing"]
        assert got > len(run.ask("/snapshot.jpg")[2]) > 1_000_000 and time.monotonic() - start > 1  # twice the timeout


def test_too_many_connections_are_shut_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_page, "MAX_CONNECTIONS", 3)
    with served() as run, contextlib.ExitStack() as stack:
        many = [stack.enter_context(socket.create_connection(("127.0.0.1", run.port), timeout=10)) for _ in range(5)]
        wait_for(lambda: run.page.aborted >= 2)
        assert run.page.aborted == 2 and len(many) == 5


def send_junk(port: int, junk: bytes) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client, contextlib.suppress(OSError):
        client.settimeout(0.05)
        client.sendall(junk)
        client.recv(1000)


def test_junk_never_ends_the_server(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    rng = random.Random(0)
    host = b"Host: localhost\r\n"
    junk = [rng.randbytes(rng.randint(1, 3000)) for _ in range(40)]
    junk += [b"GET / HTTP/1.1\r\n" + host + b"X: " + b"y" * 200_000 + b"\r\n\r\n"]
    junk += [b"GET / HTTP/1.1\r\n" + host + b"X: 1\r\n" * 20_000 + b"\r\n"]
    junk += [b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n" + host + b"\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\r\n" * 5000]
    junk += [b"POST /faces HTTP/1.1\r\n" + host + b"Content-Length: 99999999999\r\n\r\nabc"]
    junk += [b"POST / HTTP/1.1\r\n" + host + b"Transfer-Encoding: chunked\r\n\r\nZZ\r\n"]
    junk += [b"GET / HTTP/1.1\r\n" + host + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"]
    for method in (b"PUT", b"DELETE", b"OPTIONS", b"TRACE", b"CONNECT", b"PATCH", b"HEAD", b"BREW"):
        junk += [b"%b /%b HTTP/1.1\r\n%b\r\n" % (method, path, host) for path in (b"", b"faces", b"stream.mjpg")]
    paths = ["//", "/../../etc/passwd", "/%00", "/%ff%fe", "/faces/", "*", "http://evil/", "/?token=%ff"]
    paths += ["/?" + "a=b&" * 5000, *(f"/stats?after={text}" for text in ("9" * 5000, "x", "%C2%B2", "-1", ""))]
    junk += [b"GET %b HTTP/1.1\r\n%b\r\n" % (path.encode(), host) for path in paths]
    for name in (b"", b"[", b"[::1", b"a b", b"\xff\xfe", b"localhost:99999999", b"@", b"localhost:x"):
        junk.append(b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n" % name)
    junk += [
        b"GET / HTTP/1.1\r\n%bCookie: %b\r\nAuthorization: %b\r\n\r\n" % (host, c, c) for c in (b"\xff;=;", b"Bearer")
    ]
    for token in (None, TOKEN):
        with served(token=token) as run:
            for piece in junk:
                send_junk(run.port, piece)
            run.write()
            assert run.ask("/healthz")[0] == 200
            wait_for(lambda run=run: run.page.rows.subscribers == run.page.pictures.subscribers == 0)
    assert not [r for r in caplog.records if r.levelno >= logging.ERROR and r.name in ("mien", "asyncio")]
    assert "Traceback" not in capfd.readouterr().err


def test_closing_sends_the_last_result_and_frees_the_port() -> None:
    usual = signal.getsignal(signal.SIGINT)
    with served(stream_hz=2) as run, run.watching("/faces") as events, run.watching("/stream.mjpg") as stream:
        assert signal.getsignal(signal.SIGINT) is usual
        wait_for(lambda: run.page.rows.subscribers and run.page.pictures.subscribers)
        for _ in range(5):
            run.write()
        run.page.close()
        rows = list(iter(lambda: next_row(events), None))
        assert rows[-1]["frame"] == 4
        assert next_picture(stream).shape == (64, 96, 3)
        while stream.read(1 << 16):
            pass
    assert not [t for t in threading.enumerate() if t.name == "mien page"]
    with open_listen_socket(f"127.0.0.1:{run.port}"):
        pass


def test_a_stuck_client_does_not_keep_the_end() -> None:
    with served(stream_hz=100) as run, socket.socket() as stuck:
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stuck.connect(("127.0.0.1", run.port))
        stuck.sendall(b"GET /stream.mjpg HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with run.going(noise((720, 960))):
            wait_for(lambda: run.page.pictures.subscribers)
            time.sleep(0.5)
        start = time.monotonic()
        run.page.close()
        assert time.monotonic() - start < live_page.GRACE_S + 10


def test_a_failure_in_the_server_reaches_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> bytes:
        raise OutputError("no encoder")

    monkeypatch.setattr(live_page, "drawn_jpeg", fail)
    with open_listen_socket("127.0.0.1:0") as listen_socket:
        page = LivePage(listen_socket, Capture(), StageTimer(), provider="fake", stream_hz=100)  # type: ignore[arg-type]
        run = Run(page, listen_socket.port)
        with run.watching("/stream.mjpg"), pytest.raises(OutputError, match="no encoder"):
            for _ in range(500):
                run.write()
                time.sleep(0.01)
        page.close()


def test_a_server_that_cannot_start_fails_at_the_first_write(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mien.runtime.live.page_app.PAGE", Path("no page.html"))
    with open_listen_socket("127.0.0.1:0") as listen_socket:
        page = LivePage(listen_socket, Capture(), StageTimer(), provider="fake")  # type: ignore[arg-type]
        with pytest.raises(FileNotFoundError, match=r"no page\.html"):
            Run(page, listen_socket.port).write()
        page.close()


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="this system does not tell")
def test_memory_stays_the_same_over_10000_frames() -> None:
    # In a process of its own: others' memory grows and shrinks in that of the tests.
    done = subprocess.run([sys.executable, "-c", CODE_OF_10000_FRAMES], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 10
