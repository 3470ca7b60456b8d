"""Checks whether this machine can show a window."""

import os
import sys


def has_display() -> bool:
    """Return whether a window can be shown; if not, OpenCV's Qt would abort the process."""
    if sys.platform in ("win32", "darwin"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
