"""Where results go: a video file, a window, and any sink in the background. Rows are in `row_sinks`."""

from __future__ import annotations

import contextlib
import os
import queue
import shutil
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from .errors import OutputError
from .files import check_writable
from .images import write_image
from .values import Faces, Frame, Image, size_of

PATIENCE_S = 5.0
"""How long a writer may take for its last frames once a run is to end."""
MAX_GAP_S = 5.0
"""A longer gap, such as a lost camera's, is not filled."""
RESERVE_BYTES = 32 << 20
"""Room that must be left on the disk: a video is whole only once its index is behind the pictures."""
CODECS = {".mp4": "mp4v", ".avi": "MJPG", ".mkv": "FFV1", ".webm": "VP80"}


class Sink(Protocol):
    """Takes each frame's result; `close` leaves a whole file behind, however the run ended."""

    wants_picture: bool
    """Whether `write` needs the drawn picture."""

    def write(self, frame: Frame, faces: Faces, picture: Image) -> bool:
        """Take one result; False asks the run to end."""
        ...

    def close(self) -> None:
        """Finish the file."""
        ...


class VideoSink:
    """A video file; the codec follows the suffix. It bears a temporary name until it is closed.

    A frame is repeated until the next one's timestamp: a camera whose frames were dropped plays at its own pace.
    Frames of another size than the first are fitted to it: a video has one size.
    """

    wants_picture = True

    def __init__(self, path: Path, *, fps: float) -> None:
        if path.suffix.lower() not in CODECS:
            raise OutputError(f"{path}: wanted one of {', '.join(CODECS)}, found {path.suffix!r}")
        check_writable(path)
        self._path = path
        self._partial = path.with_name(f"{path.stem}.partial{path.suffix}")
        self._fps = fps if fps > 0 else 30.0
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)
        self._start_ns = 0
        self._written = 0
        self._last: Image | None = None

    def write(self, frame: Frame, faces: Faces, picture: Image) -> bool:
        """Append one picture, after repeating the last one until its time."""
        if self._writer is None:
            self._size = size_of(picture)
            self._start_ns = frame.timestamp_ns
            self._writer = self._open()
        if size_of(picture) != self._size:
            picture = np.asarray(cv2.resize(picture, self._size), dtype=np.uint8)
        missing = self._due(frame) - self._written
        if missing > MAX_GAP_S * self._fps:
            self._start_ns += round(missing * 1e9 / self._fps)  # the video goes on as if the gap had not been
            missing = 0
        if self._last is not None:
            for _ in range(missing):
                self._append(self._writer, self._last)
        self._append(self._writer, picture)
        self._last = picture
        if self._written % max(1, round(self._fps)) == 1:  # each second; OpenCV does not tell of a full disk
            self._check_room()
        return True

    def close(self) -> None:
        """Finish the file and give it its name."""
        if self._writer is None:
            return
        self._writer.release()
        self._writer = None
        if not _plays(self._partial):
            raise OutputError(f"cannot write {self._path}: what was written does not play; see {self._partial}")
        try:
            os.replace(self._partial, self._path)
        except OSError as error:
            raise OutputError(f"cannot write {self._path} ({error.strerror})") from error

    def _due(self, frame: Frame) -> int:
        """How many frames should stand before this one."""
        return round((frame.timestamp_ns - self._start_ns) * self._fps / 1e9)

    def _check_room(self) -> None:
        free = shutil.disk_usage(self._partial.parent).free
        if free < RESERVE_BYTES:
            raise OutputError(
                f"the disk of {self._path} is full ({free / 1e6:.0f} MB left); the video ends here, after "
                f"{self._written} frames"
            )

    def _open(self) -> cv2.VideoWriter:
        codec = cv2.VideoWriter.fourcc(*CODECS[self._path.suffix.lower()])
        writer = cv2.VideoWriter(str(self._partial), codec, self._fps, self._size)
        if not writer.isOpened():
            self._partial.unlink(missing_ok=True)
            raise OutputError(f"OpenCV cannot write {self._path}; try another folder or .avi")
        return writer

    def _append(self, writer: cv2.VideoWriter, picture: Image) -> None:
        writer.write(picture)
        self._written += 1


def _plays(path: Path) -> bool:
    video = cv2.VideoCapture(str(path))
    try:
        return video.read()[0]
    finally:
        video.release()


@dataclass
class View:
    """What the picture shows; the window's keys change it."""

    hud: bool = True
    contours: bool = True
    ended: bool = False
    """The run is to end: a pause is over."""


class WindowSink:
    """A window. Keys: q ends, space pauses, s saves the picture, h shows or hides the HUD, m the contours."""

    wants_picture = True

    def __init__(self, view: View, *, title: str = "mien", snapshots: Path = Path()) -> None:
        if not has_display():
            raise OutputError("no display (DISPLAY and WAYLAND_DISPLAY are unset); use --no-show with --output FILE")
        if not has_windows():
            raise OutputError("this OpenCV is built without windows; install mien[cpu], or use --no-show")
        self._view = view
        self._title = title
        self._snapshots = snapshots
        self._shown = False

    def write(self, frame: Frame, faces: Faces, picture: Image) -> bool:
        """Show one picture and obey the keys."""
        if self._shown and self._is_closed():
            return False
        cv2.imshow(self._title, picture)
        self._shown = True
        key = cv2.waitKey(1) & 0xFF
        if key == ord(" "):
            key = self._wait_for_space()
        if key == ord("s"):
            write_image(self._snapshots / f"mien-{frame.index:06d}.png", picture)
        elif key == ord("h"):
            self._view.hud = not self._view.hud
        elif key == ord("m"):
            self._view.contours = not self._view.contours
        return key != ord("q")

    def close(self) -> None:
        """Close the window."""
        if self._shown:
            cv2.destroyAllWindows()

    def _is_closed(self) -> bool:
        return cv2.getWindowProperty(self._title, cv2.WND_PROP_VISIBLE) < 1

    def _wait_for_space(self) -> int:
        while not self._is_closed() and not self._view.ended:
            key = cv2.waitKey(50) & 0xFF
            if key in (ord(" "), ord("q"), ord("s")):
                return key
        return ord("q")


class BackgroundSink:
    """Lets another sink work in a thread of its own, a bounded number of frames behind.

    live: a result that comes while it is that far behind is left out and counted in `missed`, for a camera does not
    wait; without it `write` waits, and nothing is left out.
    What goes wrong there is raised by the next `write` or by `close`, which waits for everything to be written.
    """

    def __init__(self, sink: Sink, *, live: bool = False, capacity: int = 8) -> None:
        self.wants_picture = sink.wants_picture
        self.missed = 0
        self._live = live
        self._sink = sink
        self._queue: queue.Queue[tuple[Frame, Faces, Image] | None] = queue.Queue(capacity)
        self._failure: BaseException | None = None
        self._goes_on = True
        self._hurry = False
        self._thread = threading.Thread(target=self._run, name="mien writer", daemon=True)
        self._thread.start()

    def write(self, frame: Frame, faces: Faces, picture: Image) -> bool:
        """Hand one result over."""
        self._raise_failure()
        while not self._put((frame, faces, picture), wait=not self._live):
            if self._live or self._hurry:
                self.missed += 1
                break
        return self._goes_on

    def hurry(self) -> None:
        """Wait no longer for a writer that is stuck, such as a pipe that nobody reads: the run is to end."""
        self._hurry = True

    def close(self) -> None:
        """Write what is left and close the sink; a writer that is stuck in a run that is to end is left behind."""
        while self._thread.is_alive():
            if self._put(None, wait=True):
                self._thread.join(PATIENCE_S if self._hurry else None)
                break
            if self._hurry and not self._drain():
                break
        if self._thread.is_alive():
            raise OutputError("an output is stuck: what reads it does not go on; its last rows are lost")
        try:
            self._sink.close()
        finally:
            self._raise_failure()

    def _put(self, item: tuple[Frame, Faces, Image] | None, *, wait: bool) -> bool:
        try:
            self._queue.put(item, block=wait, timeout=0.2)
        except queue.Full:
            return False
        return True

    def _drain(self) -> bool:
        """Make room for the end by dropping what waits; False when there is nothing to drop."""
        with contextlib.suppress(queue.Empty):
            self._queue.get_nowait()
            self.missed += 1
            return True
        return False

    def _run(self) -> None:
        # After a failure the queue is still emptied, or the other side would wait for ever.
        while (item := self._queue.get()) is not None:
            if self._failure is None and self._goes_on:
                try:
                    self._goes_on = self._sink.write(*item)
                except Exception as error:  # noqa: BLE001 - raised in the thread that writes and closes
                    self._failure = error

    def _raise_failure(self) -> None:
        if self._failure is not None:
            failure, self._failure = self._failure, None
            self._goes_on = False
            raise failure


def has_display() -> bool:
    """Whether a window can be shown. Asked first, because OpenCV's Qt aborts the process when it cannot."""
    if sys.platform in ("win32", "darwin"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def has_windows() -> bool:
    """Whether this OpenCV was built with a window system."""
    for line in cv2.getBuildInformation().splitlines():
        if line.strip().startswith("GUI:"):
            return "NONE" not in line
    return False
