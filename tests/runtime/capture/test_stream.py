"""Real streams on loopback: MJPEG and WebM over HTTP, which end, break off, and come back with another size."""

from __future__ import annotations

import contextlib
import io
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest

from mien.runtime.capture.frame_queue import FramePolicy
from mien.runtime.capture.open_capture import open_capture
from mien.runtime.errors import InputError
from mien.tests.processes import wait_for

av = pytest.importorskip("av")

BOUNDARY = "frame"


class Camera(ThreadingHTTPServer):
    """Serves the same picture of a given size for ever, at 50 fps, until it is switched off."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, port: int, size: tuple[int, int]) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        picture = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        self.jpeg = cv2.imencode(".jpg", cv2.GaussianBlur(picture, (0, 0), 5))[1].tobytes()
        self.off = threading.Event()

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that has gone is no error here."""


class Handler(BaseHTTPRequestHandler):
    server: Camera

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", f"multipart/x-mixed-replace; boundary={BOUNDARY}")
        self.end_headers()
        head = f"--{BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(self.server.jpeg)}\r\n\r\n"
        while not self.server.off.is_set():
            self.wfile.write(head.encode() + self.server.jpeg + b"\r\n")
            time.sleep(0.02)

    def log_message(self, format: str, *args: object) -> None:
        """Be quiet."""


@contextlib.contextmanager
def camera(port: int, size: tuple[int, int]) -> Iterator[int]:
    server = Camera(port, size)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.off.set()
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_stream_that_dies_comes_back_in_another_size(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mien.runtime.capture.capture.FIRST_BACKOFF_S", 0.005)
    monkeypatch.setattr("mien.runtime.capture.capture.MAX_BACKOFF_S", 0.005)
    with contextlib.ExitStack() as first:
        port = first.enter_context(camera(0, (160, 120)))
        url = f"http://me:secret@127.0.0.1:{port}/stream.mjpg"
        with open_capture(url, open_timeout_s=10, read_timeout_s=10) as capture:
            assert (capture.live, capture.policy, capture.size) == (True, FramePolicy.LATEST, (160, 120))
            last = next(capture)
            first.close()  # the server is killed
            wait_for(lambda: "was lost" in caplog.text)
            with camera(port, (320, 240)):
                while last.pixels.shape == (120, 160, 3):
                    before, last = last, next(capture)
                    assert last.timestamp_ns > before.timestamp_ns
                assert last.pixels.shape == (240, 320, 3)
                assert capture.counts.reconnects >= 1
                assert capture.clock() - next(capture).timestamp_ns < 1_000_000_000
    assert "secret" not in caplog.text


def test_a_stream_that_is_not_there_is_an_error_without_its_password() -> None:
    with pytest.raises(InputError, match=r"http://\*\*\*@127\.0\.0\.1:1/x delivered no video"):
        open_capture("http://me:secret@127.0.0.1:1/x", open_timeout_s=0.5)


def live_webm(frames: int = 40) -> bytes:
    """Encode a WebM of unknown length, as a broadcaster sends it."""
    with io.BytesIO() as file:
        with av.open(file, "w", format="webm", options={"live": "1", "cluster_time_limit": "200"}) as container:
            stream = container.add_stream("libvpx", rate=25, options={"deadline": "realtime"})
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            for level in range(frames):
                pixels = np.full((48, 64, 3), 5 * level, np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="bgr24")))
            container.mux(stream.encode())
        return file.getvalue()


def write_playlist(folder: Path, parts: int = 3) -> bytes:
    """Write an HLS stream of 25 fps, in files of ten frames that count their packets from 0; return its playlist."""
    lines = ["#EXTM3U", "#EXT-X-VERSION:3", "#EXT-X-TARGETDURATION:1", "#EXT-X-MEDIA-SEQUENCE:0"]
    for part in range(parts):
        with av.open(str(folder / f"part{part}.ts"), "w", format="mpegts") as container:
            stream = container.add_stream("mpeg2video", rate=25)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            for level in range(10 * part, 10 * part + 10):
                picture = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 5 * level, np.uint8), format="bgr24")
                picture.pts = level
                container.mux(stream.encode(picture))
            container.mux(stream.encode())
        lines += ["#EXTINF:0.4,", f"part{part}.ts"]
    return "\n".join([*lines, "#EXT-X-ENDLIST", ""]).encode()


class Broadcast(ThreadingHTTPServer):
    """Serves `body` to every client, with its length or without, and other files by their paths."""

    daemon_threads = True

    def __init__(self, body: bytes, *, length: int | None, files: dict[str, bytes]) -> None:
        self.body, self.length, self.requests, self.files = body, length, 0, files
        super().__init__(("127.0.0.1", 0), BroadcastHandler)


class BroadcastHandler(BaseHTTPRequestHandler):
    server: Broadcast

    def do_GET(self) -> None:
        self.server.requests += 1
        self.send_response(200)
        body = self.server.files.get(self.path, self.server.body)
        length = self.server.length if body is self.server.body else len(body)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Be quiet."""


@contextlib.contextmanager
def broadcast(
    body: bytes, *, length: int | None = None, files: dict[str, bytes] | None = None
) -> Iterator[tuple[Broadcast, str]]:
    server = Broadcast(body, length=length, files=files or {})
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server, f"http://user:secret@127.0.0.1:{server.server_port}/live.webm"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.parametrize("with_length", [True, False])
def test_a_remote_recording_ends_and_is_not_replayed(with_length: bool) -> None:
    body = live_webm()
    with broadcast(body, length=len(body) if with_length else None) as (server, url):
        with open_capture(url, policy=FramePolicy.EVERY) as capture:
            frames = list(capture)
        assert (len(frames), capture.counts.reconnects, capture.damage) == (40, 0, None)
        assert capture.live is not with_length
        assert server.requests == 1


def test_a_remote_recording_that_breaks_off_is_damaged() -> None:
    body = live_webm()
    with broadcast(body[: len(body) // 2], length=len(body)) as (_, url), open_capture(url) as capture:
        frames = list(capture)
    assert 10 < len(frames) < 40
    assert capture.damage is not None and "secret" not in capture.damage


def test_a_live_stream_that_breaks_off_is_reopened() -> None:
    body = live_webm()
    with broadcast(body[: len(body) // 2]) as (server, url), open_capture(url, policy=FramePolicy.EVERY) as capture:
        first = [next(capture) for _ in range(25)]
        assert first[-1].timestamp_ns > first[0].timestamp_ns
        assert server.requests == 2 and capture.counts.reconnects == 1


@pytest.mark.parametrize("ended", [True, False])
def test_a_playlist_without_its_end_is_live(
    ended: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mien.runtime.capture.capture.FIRST_BACKOFF_S", 0.005)
    whole = write_playlist(tmp_path)
    body = whole if ended else whole.replace(b"#EXT-X-ENDLIST\n", b"")
    files = {f"/{path.name}": path.read_bytes() for path in tmp_path.glob("*.ts")}
    assert len(files) == 3
    with contextlib.ExitStack() as serving:
        _, url = serving.enter_context(broadcast(body, length=len(body), files=files))
        with open_capture(url.replace("live.webm", "live.m3u8"), read_timeout_s=1.0) as capture:
            assert capture.live is not ended
            assert capture.policy is (FramePolicy.EVERY if ended else FramePolicy.LATEST)
            if ended:
                assert len(list(capture)) == 30 and capture.damage is None
                return
            first, last = next(capture), next(capture)
            while last.index < 20:
                last = next(capture)
            # The files arrive at once, but their frames come at their own times.
            assert last.timestamp_ns - first.timestamp_ns >= 0.039e9 * (last.index - first.index)
            serving.close()
            wait_for(lambda: "was lost" in caplog.text)
            assert not capture.ended and capture.damage is None
    assert "secret" not in caplog.text
