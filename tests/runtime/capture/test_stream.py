"""A real stream on loopback: MJPEG over HTTP, whose server dies and comes back with another picture size."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import cv2
import numpy as np
import pytest

from mien.runtime.capture.capture import open_capture

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
def camera(port: int, size: tuple[int, int]) -> Iterator[None]:
    server = Camera(port, size)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.off.set()
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_stream_that_dies_comes_back_in_another_size() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}/stream.mjpg"
    with contextlib.ExitStack() as first:
        first.enter_context(camera(port, (160, 120)))
        with open_capture(url, open_timeout_s=3.0, read_timeout_s=1.0) as capture:
            frames = iter(capture)
            assert [next(frames).pixels.shape for _ in range(5)] == [(120, 160, 3)] * 5
            assert capture.live
            first.close()  # the server is killed
            with camera(port, (320, 240)):
                deadline = time.monotonic() + 20
                shape = (120, 160, 3)
                while shape != (240, 320, 3) and time.monotonic() < deadline:
                    shape = next(frames).pixels.shape
                assert shape == (240, 320, 3)
                assert capture.counts.reconnects == 1
                assert capture.clock() - next(frames).timestamp_ns < 1_000_000_000
