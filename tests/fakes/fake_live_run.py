"""A live page over sockets, and a run that the test plays."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import time
from collections.abc import Iterator

import cv2
import numpy as np

from mien.runtime.capture.capture import CaptureCounts
from mien.runtime.live.listen_socket import open_listen_socket
from mien.runtime.live.page_server import LivePage
from mien.runtime.stage_timer import StageTimer
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
