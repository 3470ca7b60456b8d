"""A clock, a source of frames and an OpenCV video that do what a test tells them."""

from __future__ import annotations

import threading

import cv2
import numpy as np

INTERVAL_NS = 33_000_000


def picture(width: int = 4, height: int = 3, value: int = 0) -> np.ndarray:
    return np.full((height, width, 3), value, dtype=np.uint8)


class FakeClock:
    def __init__(self) -> None:
        self.now_ns = 1_000_000_000

    def __call__(self) -> int:
        return self.now_ns


class FakeSource:
    """Gives what it was told to: pictures, None (lost) or exceptions; each costs one permit and 33 ms of fake time."""

    def __init__(self, script: list[object], clock: FakeClock | None = None, *, permits: int = 1_000_000) -> None:
        self.script = list(script)
        self.clock = clock or FakeClock()
        self.permits = threading.Semaphore(permits)
        self.closed = threading.Event()

    def read(self) -> tuple[np.ndarray, int | None] | None:
        self.permits.acquire()
        if self.closed.is_set() or not self.script:
            return None
        self.clock.now_ns += INTERVAL_NS
        item = self.script.pop(0)
        if isinstance(item, BaseException):
            raise item
        return None if item is None else (item, None)  # type: ignore[return-value]

    def close(self) -> None:
        self.closed.set()
        self.permits.release()


class FakeVideo:
    """Stands for `cv2.VideoCapture`: `script` holds a picture, None (undecodable) or False (lost) for each grab."""

    def __init__(self, script: list[object], properties: dict[int, float] | None = None) -> None:
        self.script = list(script)
        self.properties = properties or {}
        self.wished: list[tuple[int, float]] = []
        self.opened_with: tuple[object, ...] = ()
        self.released = False

    def __call__(self, *arguments: object) -> FakeVideo:
        self.opened_with = arguments
        return self

    def isOpened(self) -> bool:  # noqa: N802 — OpenCV's name
        return True

    def set(self, key: int, value: float) -> bool:
        self.wished.append((key, value))
        return True

    def get(self, key: int) -> float:
        return self.properties.get(key, 0.0)

    def grab(self) -> bool:
        return bool(self.script) and self.script[0] is not False

    def retrieve(self) -> tuple[bool, object]:
        item = self.script.pop(0)
        if isinstance(item, cv2.error):
            raise item
        return item is not None, item

    def release(self) -> None:
        self.released = True
