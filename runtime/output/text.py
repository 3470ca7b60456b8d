"""Writes text on pictures."""

from __future__ import annotations

import cv2

from ..values import Image

TEXT_COLOUR, PLATE_COLOUR, BAR_COLOUR = (255, 255, 255), (30, 30, 30), (150, 90, 20)
PLUS_MINUS = "±" if int(cv2.__version__.split(".")[0]) >= 5 else "+-"
"""OpenCV 4 draws letters outside ASCII as question marks."""


def text_size(text: str, scale: float) -> tuple[int, int]:
    """Return the width and height in px of a text with its background."""
    (width, height), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, _stroke(scale))
    return width + 4, height + below + 2


def draw_text(
    canvas: Image, text: str, corner: tuple[int, int], scale: float, *, width_px: int = 0, filled: float = 0
) -> None:
    """Write on a dark background; an outline would not align, as OpenCV 5 also widens thicker letters.

    Args:
        canvas: Picture to write on.
        text: One line.
        corner: Top left corner of the background.
        scale: Size of the letters; 1 for capitals of about 22 px.
        width_px: Minimum width of the background.
        filled: Fraction of the background to colour as a bar, from the left.
    """
    width, height = text_size(text, scale)
    width = max(width, width_px)
    below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, _stroke(scale))[1]
    x, y = corner
    cv2.rectangle(canvas, (x, y), (x + width - 1, y + height - 1), PLATE_COLOUR, -1)
    if (bar := round(filled * width)) > 0:
        cv2.rectangle(canvas, (x, y), (x + bar - 1, y + height - 1), BAR_COLOUR, -1)
    origin = (x + 2, y + height - below)
    cv2.putText(canvas, text, origin, cv2.FONT_HERSHEY_SIMPLEX, scale, TEXT_COLOUR, _stroke(scale), cv2.LINE_AA)


def _stroke(scale: float) -> int:
    return 1 if scale < 0.8 else 2
