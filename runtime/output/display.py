"""Tell whether this machine can show a window."""

import os
import sys


def has_display() -> bool:
    """Check that a window can be shown; OpenCV's Qt aborts the process otherwise."""
    if sys.platform in ("win32", "darwin"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
