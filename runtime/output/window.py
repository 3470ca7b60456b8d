"""Shows frames in an OpenCV window."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import cv2

from ..errors import OutputError
from ..output_paths import free_path
from ..pictures.images import write_image
from ..values import Faces, Frame, Image
from .display import has_display

log = logging.getLogger("mien")


@dataclass
class View:
    """Display options, which the window's keys change.

    Attributes:
        hud: Show the performance figures.
        contours: Connect the landmarks by lines.
        ended: The run is to stop, so a pause ends.
    """

    hud: bool = True
    contours: bool = True
    ended: bool = False


class WindowSink:
    """Sink that shows each result. Keys: q quits, space pauses, s saves the picture, h toggles the HUD, m the contours.

    Args:
        view: Display options that the keys change.
        title: Title of the window.
        snapshots: Folder for saved pictures.

    Raises:
        OutputError: There is no display, or OpenCV was built without window support.
    """

    needs_picture = True

    def __init__(self, view: View, *, title: str = "mien", snapshots: Path = Path()) -> None:
        if not has_display():
            raise OutputError("no display (DISPLAY and WAYLAND_DISPLAY are unset); use --no-show with --output FILE")
        if not has_windows():
            raise OutputError("this OpenCV was built without windows; use --no-show, or see mien doctor for the fix")
        self._view = view
        self._title = title
        self._snapshots = snapshots
        self._shown = False

    def write(self, frame: Frame, faces: Faces, picture: Image) -> bool:
        """Show one picture and handle the keys."""
        if self._shown and self._is_closed():
            return False
        cv2.imshow(self._title, picture)
        self._shown = True
        key = cv2.waitKey(1) & 0xFF
        if key == ord(" "):
            key = self._wait_for_space()
        if key == ord("s"):
            self._save(picture, f"mien-{frame.index:06d}.png")
        elif key == ord("h"):
            self._view.hud = not self._view.hud
        elif key == ord("m"):
            self._view.contours = not self._view.contours
        return key != ord("q")

    def close(self) -> None:
        """Close the window."""
        if self._shown:
            cv2.destroyAllWindows()

    def _save(self, picture: Image, name: str) -> None:
        try:
            write_image(free_path(self._snapshots / name), picture)
        except OutputError as error:  # the run and its files go on
            log.warning("%s", error)

    def _is_closed(self) -> bool:
        return cv2.getWindowProperty(self._title, cv2.WND_PROP_VISIBLE) < 1

    def _wait_for_space(self) -> int:
        while not self._is_closed() and not self._view.ended:
            key = cv2.waitKey(50) & 0xFF
            if key in (ord(" "), ord("q"), ord("s")):
                return key
        return ord("q")


def has_windows() -> bool:
    """Check that this OpenCV was built with window support."""
    for line in cv2.getBuildInformation().splitlines():
        if line.strip().startswith("GUI:"):
            return "NONE" not in line
    return False
