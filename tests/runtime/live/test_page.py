"""The live page as its clients meet it: over sockets, with a run that the test plays."""

from __future__ import annotations

import contextlib
import http.client
import json
import logging
import random
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
from prometheus_client.parser import text_string_to_metric_families

from mien.runtime.capture.capture import CaptureCounts
from mien.runtime.errors import OutputError
from mien.runtime.faces.stage_timer import StageTimer
from mien.runtime.live import page_server as live_page
from mien.runtime.live import page_stats
from mien.runtime.live.listen_socket import open_listen_socket
from mien.runtime.live.page_app import PAGE
from mien.runtime.live.page_server import LivePage, drawn_jpeg
from mien.runtime.live.page_stats import Result
from mien.runtime.output.overlay import OverlayStyle
from mien.runtime.output.rows import frame_row
from mien.runtime.values import Faces, Frame, Image

TOKEN = "a-token-of-many-characters"
PATHS = ("/", "/stream.mjpg", "/faces", "/snapshot.jpg", "/stats", "/metrics")


class Capture:
    name = "fake camera"
    counts = CaptureCounts(read=12, delivered=9, dropped=3, reconnects=2)


def one_face() -> Faces:
    rng = np.random.default_rng(1)
    faces = Faces.from_boxes(np.array([[10.0, 8, 40, 44]]), np.array([0.9]))
    points = rng.uniform(12, 40, (1, 68, 3))
    return faces.with_fields(landmarks=points, age=np.array([31.0]), female=np.array([0.2]), track_id=np.array([5]))


def noise(size: tuple[int, int] = (64, 96)) -> Image:
    return np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8)


class Run:
    """Plays the run: writes results to a page, one by one or all the time."""

    def __init__(self, page: LivePage, port: int) -> None:
        self.page, self.port, self.index = page, port, -1
        self.longest_write_s = 0.0

    def write(self, pixels: Image | None = None, faces: Faces | None = None) -> Frame:
        self.index += 1
        frame = Frame(noise() if pixels is None else pixels, timestamp_ns=self.index * 10, index=self.index)
        start = time.perf_counter()
        assert self.page.write(frame, one_face() if faces is None else faces, frame.pixels)
        self.longest_write_s = max(self.longest_write_s, time.perf_counter() - start)
        return frame

    @contextlib.contextmanager
    def going(self, pixels: Image | None = None, *, interval_s: float = 0.01) -> Iterator[None]:
        pixels = noise() if pixels is None else pixels
        done = threading.Event()

        def go() -> None:
            while not done.wait(interval_s):
                self.write(pixels)

        thread = threading.Thread(target=go)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def ask(self, path: str, *, method: str = "GET", **headers: str) -> tuple[int, http.client.HTTPResponse, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        with contextlib.closing(connection):
            connection.request(method, path, headers={name.replace("_", "-"): text for name, text in headers.items()})
            answer = connection.getresponse()
            if answer.status == 200 and path.split("?")[0] in ("/stream.mjpg", "/faces"):
                return answer.status, answer, b""
            return answer.status, answer, answer.read()

    def json(self, path: str) -> dict:
        return json.loads(self.ask(path)[2])

    @contextlib.contextmanager
    def watching(self, path: str) -> Iterator[http.client.HTTPResponse]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        with contextlib.closing(connection):
            connection.request("GET", path)
            yield connection.getresponse()


@contextlib.contextmanager
def served(*, token: str | None = None, **options: float) -> Iterator[Run]:
    with open_listen_socket("127.0.0.1:0", token=token) as listen_socket:
        page = LivePage(listen_socket, Capture(), StageTimer(), provider="fake", **options)  # type: ignore[arg-type]
        try:
            yield Run(page, listen_socket.port)
        finally:
            page.close()


def wait_for(condition: Callable[[], object], *, seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.01)


def next_picture(stream: http.client.HTTPResponse) -> Image:
    line = stream.readline().strip()
    while not line.lower().startswith(b"content-length:"):
        line = stream.readline().strip()
    assert stream.readline() == b"\r\n"
    jpeg = stream.read(int(line.split(b":")[1]))
    assert stream.readline() == b"\r\n" and stream.readline() == b"--mien-frame\r\n"
    return np.asarray(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR))


def next_row(events: http.client.HTTPResponse) -> dict | None:
    while line := events.readline():
        if line.startswith(b"data: "):
            return json.loads(line[6:])
    return None


def test_the_stream_shows_the_faces() -> None:
    grey = np.full((480, 640, 3), 90, np.uint8)
    with served(stream_hz=50) as run, run.going(grey), run.watching("/stream.mjpg") as stream:
        assert stream.getheader("Content-Type") == "multipart/x-mixed-replace; boundary=mien-frame"
        assert stream.readline() == b"--mien-frame\r\n"
        for _ in range(3):
            picture = next_picture(stream)
            assert picture.shape == grey.shape
            face = picture[8:44, 10:40].astype(int)
            assert np.abs(face - 90).max() > 60 and np.abs(picture[200:].astype(int) - 90).max() < 8


def test_events_are_the_rows_of_the_json_output() -> None:
    with served(stream_hz=50) as run, run.watching("/faces") as events:
        assert events.getheader("Content-Type") == "text/event-stream; charset=utf-8"
        frame = run.write()
        assert next_row(events) == json.loads(json.dumps(frame_row(frame, one_face())))
        frame = run.write(faces=Faces.empty())
        assert next_row(events) == {"frame": 1, "timestamp_ns": 10, "faces": []}


def test_a_snapshot_has_full_size_and_waits_for_the_first_frame() -> None:
    with served() as run:
        status, answer, _ = run.ask("/snapshot.jpg")
        assert status == 503 and answer.getheader("Retry-After") == "5"
        run.write(noise((1080, 1920)))
        status, answer, jpeg = run.ask("/snapshot.jpg")
        assert status == 200 and answer.getheader("Content-Type") == "image/jpeg"
        assert cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR).shape == (1080, 1920, 3)


@pytest.mark.parametrize(("size", "wanted"), [((1080, 1920), (540, 960)), ((721, 1281), (360, 640)), ((48, 64), None)])
def test_large_pictures_are_reduced_and_faces_with_them(size: tuple[int, int], wanted: tuple[int, int] | None) -> None:
    grey, faces = np.full((*size, 3), 90, np.uint8), Faces.from_boxes(np.array([[10.0, 10, 40, 40]]), np.ones(1))
    jpeg = drawn_jpeg(Result(Frame(grey, 0, 0), faces, 1, 0), 960, 95)
    picture = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR).astype(int)
    assert picture.shape[:2] == (wanted or size)
    rows, columns = np.nonzero(np.abs(picture - 90).max(axis=2) > 40)
    shrink = 2 if wanted else 1
    assert abs(rows.min() - 10 / shrink) <= 2 and abs(columns.max() - 40 / shrink) <= 2


def test_health_follows_the_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page_stats, "STALE_S", 1.0)
    with served() as run:
        run.write()
        assert run.ask("/healthz")[::2] == (200, b"ok\n")
        time.sleep(1.05)
        assert run.ask("/healthz")[::2] == (503, b"no new frames\n")
        run.write()
        assert run.ask("/healthz")[0] == 200


def test_metrics_are_what_prometheus_reads() -> None:
    with served() as run:
        for i in range(100):
            run.page.stats._timer.record("process", (i + 1) * 1_000_000)
        run.write()
        run.write()
        with run.watching("/faces"):
            wait_for(lambda: run.page.rows.subscribers)
            _, answer, text = run.ask("/metrics")
    assert answer.getheader("Content-Type") == "text/plain; version=0.0.4; charset=utf-8"
    families = {f.name: f for f in text_string_to_metric_families(text.decode())}
    values = {(s.name, *sorted(s.labels.items())): s.value for f in families.values() for s in f.samples}
    assert values["mien_frames_read_total",] == 12 and values["mien_frames_dropped_total",] == 3
    assert values["mien_frames_processed_total",] == 2 and values["mien_reconnects_total",] == 2
    assert values["mien_faces",] == 1 and values["mien_clients", ("feed", "faces")] == 1
    assert values["mien_clients", ("feed", "stream")] == 0
    stage = ("stage", "process")
    assert values["mien_stage_latency_seconds", ("quantile", "0.5"), stage] == pytest.approx(0.05)
    assert values["mien_stage_latency_seconds_sum", stage] == pytest.approx(5.05)
    assert values["mien_stage_latency_seconds_count", stage] == 100
    assert families["mien_stage_latency_seconds"].type == "summary" and families["mien_frames_read"].type == "counter"


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


def test_seats_are_limited_and_come_back() -> None:
    with served(max_subscribers=2) as run:
        with run.watching("/faces"), run.watching("/faces"):
            wait_for(lambda: run.page.rows.subscribers == 2)
            status, answer, _ = run.ask("/faces")
            assert status == 503 and answer.getheader("Retry-After") == "5" and run.page.rows.refused == 1
            assert run.ask("/stream.mjpg")[0] == 200  # seats of another feed
        wait_for(lambda: run.page.rows.subscribers == 0)
        assert run.ask("/faces")[0] == 200


def test_a_client_that_reads_nothing_is_aborted_and_holds_up_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_page, "STALL_TIMEOUT_S", 0.5)
    with served(stream_hz=100) as run, socket.socket() as stuck:
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stuck.connect(("127.0.0.1", run.port))
        stuck.sendall(b"GET /stream.mjpg HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with run.going(noise((720, 960))), run.watching("/stream.mjpg") as reading:
            wait_for(lambda: run.page.pictures.subscribers == 2)
            while run.page.pictures.subscribers == 2:
                next_picture(reading)
            next_picture(reading)
        assert run.page.aborted == 1 and run.longest_write_s < 0.4  # it waits for nobody
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
    monkeypatch.setattr(live_page, "STALL_TIMEOUT_S", 0.4)
    with served() as run, socket.socket() as slow:
        run.write(noise((400, 600)))
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.connect(("127.0.0.1", run.port))
        slow.sendall(b"GET /snapshot.jpg HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        got = 0
        while chunk := slow.recv(16_384):
            got += len(chunk)
            time.sleep(0.05)
        assert run.page.aborted == 0 and got > len(run.ask("/snapshot.jpg")[2])


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


@pytest.mark.parametrize("path", PATHS)
def test_without_the_token_nothing_but_the_health_is_told(path: str) -> None:
    with served(token=TOKEN) as run:
        run.write()
        for wrong in ("", "?token=", f"?token={TOKEN[:-1]}", f"?token={TOKEN}x", "?token=%00"):
            status, answer, body = run.ask(path + wrong)
            assert status == 401 and answer.getheader("WWW-Authenticate") == "Bearer"
            assert answer.getheader("Set-Cookie") is None and TOKEN.encode() not in body
        for header in ("", TOKEN, f"Basic {TOKEN}", "Bearer", "Bearer wrong"):
            assert run.ask(path, Authorization=header)[0] == 401
        assert run.ask(path, Cookie=f"mien-{run.port}={TOKEN}")[0] == 401
        assert run.ask("/healthz")[0] == 200 and run.ask("/nothing")[0] == 401


def test_no_log_tells_the_token(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with served(token=TOKEN) as run:
        for path in PATHS:
            run.ask(f"{path}?token={TOKEN}")
    assert "Finished server process" in caplog.text and TOKEN not in caplog.text


def test_a_token_opens_the_page_by_header_query_or_cookie() -> None:
    with served(token=TOKEN) as run:
        run.write()
        for path in PATHS:
            assert run.ask(path, Authorization=f"Bearer {TOKEN}")[0] == 200
            status, answer, _ = run.ask(f"{path}?token={TOKEN}")
            assert status == 200 and answer.getheader("Cross-Origin-Resource-Policy") == "cross-origin"
            assert (answer.getheader("Set-Cookie") is not None) == (path == "/")
        cookie = str(run.ask(f"/?token={TOKEN}")[1].getheader("Set-Cookie"))
        assert TOKEN not in cookie and {"HttpOnly", "SameSite=Strict", "Path=/"} <= set(cookie.split("; "))
        for path in PATHS:
            assert run.ask(path, Cookie=cookie.split(";")[0])[0] == 200


def test_a_foreign_name_is_refused_on_loopback() -> None:
    with served() as run:
        run.write()
        for host in ("evil.example", "evil.example:80", "127.0.0.1.evil.example", "localhost.evil", ""):
            assert run.ask("/stats", Host=host)[0] == 421
        for host in ("localhost", "LOCALHOST:99", "127.0.0.1", "[::1]:8080"):
            assert run.ask("/stats", Host=host)[0] == 200
        with socket.create_connection(("127.0.0.1", run.port), timeout=10) as old:
            old.sendall(b"GET /stats HTTP/1.0\r\n\r\n")
            assert b" 421 " in old.recv(100)


def test_headers_keep_other_sites_out() -> None:
    with served() as run:
        run.write()
        for path in (*PATHS, "/healthz", "/nothing"):
            _, answer, _ = run.ask(path)
            assert answer.getheader("Cache-Control") == "no-store" and answer.getheader("Server") is None
            assert answer.getheader("X-Content-Type-Options") == "nosniff"
            assert answer.getheader("Referrer-Policy") == "no-referrer"
            assert answer.getheader("Cross-Origin-Resource-Policy") == "same-origin"
        policy = str(run.ask("/")[1].getheader("Content-Security-Policy"))
        assert policy.startswith("default-src 'none'; script-src 'sha256-") and "unsafe" not in policy


def test_the_page_needs_nothing_else() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert text.count("<script>") == text.count("<style>") == 1 and "<script " not in text
    assert set(re.findall(r"https?://[^'\" ]+", text)) == {"http://www.w3.org/2000/svg"}  # a name, not a place
    assert not re.search(r"<[^>]* (?:on\w+|style)=", text.split("<script>")[0])  # the policy would refuse it
    with served() as run:
        assert run.ask("/")[2].decode() == text


def test_charts_get_a_point_a_second_and_only_the_new_ones() -> None:
    with served() as run, run.going(interval_s=0.02):
        wait_for(lambda: len(run.json("/stats")["samples"]) >= 2)
        row = run.json("/stats")
        assert row["source"] == "fake camera" and row["provider"] == "fake" and row["healthy"]
        assert [s["number"] for s in row["samples"]] == list(range(1, len(row["samples"]) + 1))
        assert 2 < row["samples"][1]["fps"] < 60 and row["samples"][1]["p50_ms"] is None  # the run has no pipeline
        assert all(s["number"] > 1 for s in run.json("/stats?after=1")["samples"])
        assert run.json("/stats?after=999")["samples"][0]["number"] == 1  # a page from before a restart


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
        assert time.monotonic() - start < live_page.GRACE_S + 3


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


def test_a_failing_answer_is_logged_and_the_rest_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with served() as run:
        monkeypatch.setattr(run.page.stats, "to_dict", lambda **_: 1 / 0)
        run.write()
        assert run.ask("/stats")[0] == 500
        assert "'/stats' failed: ZeroDivisionError" in caplog.text
        assert run.ask("/healthz")[0] == 200


def test_memory_stays_the_same_over_10000_frames() -> None:
    def resident_mb() -> float:
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6

    if not Path("/proc/self/statm").exists():
        pytest.skip("this system does not tell")
    with served(stream_hz=300) as run, contextlib.ExitStack() as stack:
        for path in ("/stream.mjpg", "/faces", "/stream.mjpg", "/faces"):
            response = stack.enter_context(run.watching(path))
            thread = threading.Thread(target=lambda r=response: [None for _ in iter(lambda: r.read1(1 << 16), b"")])
            thread.start()
            stack.callback(thread.join)
        stack.callback(run.page.close)
        pixels, faces = noise((240, 320)), one_face()
        start = 0.0
        for i in range(10_000):
            if i == 2000:
                start = resident_mb()
            run.write(pixels.copy(), faces)
            time.sleep(0.0002)
        assert resident_mb() - start < 10
