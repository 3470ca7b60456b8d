"""Draw faces on a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from ..values import Faces, FloatArray, Image, size_of
from ..vision.head_pose import head_pose

# Lines of the ibug68 scheme: first point, last point, closed.
CONTOURS: tuple[tuple[int, int, bool], ...] = (
    (0, 16, False),  # jaw
    (17, 21, False),  # right brow (the person's right)
    (22, 26, False),  # left brow
    (27, 30, False),  # bridge of the nose
    (31, 35, False),  # nostrils
    (36, 41, True),  # right eye
    (42, 47, True),  # left eye
    (48, 59, True),  # outer lips
    (60, 67, True),  # inner lips
)

POINT_COLOUR = (120, 255, 60)
LINE_COLOUR = (255, 200, 90)
BOX_COLOUR = (60, 170, 255)
AXIS_COLOURS = ((80, 80, 255), (80, 220, 80), (255, 140, 60))
"""Axes to the person's left, down, and out of the face, in red, green and blue."""
TEXT_SCALE = 0.5
TEXT_COLOUR = (255, 255, 255)
PLUS_MINUS = "±" if int(cv2.__version__.split(".")[0]) >= 5 else "+-"
"""OpenCV 4 draws letters outside ASCII as question marks."""
_SUBPIXEL_BITS = 4


@dataclass(frozen=True, slots=True)
class OverlayStyle:
    """Parts of a face that are drawn.

    Attributes:
        landmarks: The 68 points.
        contours: Lines that connect them.
        axes: Axes of the head.
    """

    landmarks: bool = True
    contours: bool = True
    axes: bool = True


USUAL = OverlayStyle()
BLURRED = OverlayStyle(landmarks=False, axes=False)
"""Style over hidden faces, which shows nothing of how they look."""


def draw_faces(picture: Image, faces: Faces, *, hud: Sequence[str] = (), style: OverlayStyle = USUAL) -> Image:
    """Draw boxes, landmarks, pose axes and labels.

    Args:
        picture: (h, w, 3) uint8 BGR.
        faces: Faces to draw.
        hud: Lines of text for the corner.
        style: What is drawn.

    Returns:
        An annotated copy of `picture`.
    """
    canvas = picture.copy()
    for i in range(len(faces)):
        _draw_box(canvas, faces.boxes[i], _label(faces, i))
        if np.isfinite(faces.landmarks[i, :, :2]).all():
            if style.landmarks:
                _draw_landmarks(canvas, faces.landmarks[i], contours=style.contours)
            if style.axes:
                _draw_axes(canvas, faces.landmarks[i])
    for number, line in enumerate(hud):
        _draw_text(canvas, line, (8, 20 + 18 * number))
    return canvas


def _draw_landmarks(canvas: Image, points: FloatArray, *, contours: bool) -> None:
    size = float(np.ptp(points[:, 0]))
    radius = max(1, round(size / 110))
    fixed = np.round(points[:, :2] * (1 << _SUBPIXEL_BITS)).astype(np.int32)
    for first, last, closed in CONTOURS if contours else ():
        line = fixed[first : last + 1].reshape(-1, 1, 2)
        cv2.polylines(canvas, [line], closed, LINE_COLOUR, 1, cv2.LINE_AA, _SUBPIXEL_BITS)
    for x, y in fixed:
        centre = (int(x), int(y))
        cv2.circle(canvas, centre, radius << _SUBPIXEL_BITS, POINT_COLOUR, -1, cv2.LINE_AA, _SUBPIXEL_BITS)


def _draw_axes(canvas: Image, points: FloatArray) -> None:
    """Draw the axes of the head at the tip of the nose, 0.4 times the size of the face."""
    pose = head_pose(points, size_of(canvas))
    if pose is None:
        return
    length = 0.4 * float(np.ptp(points[:, :2], axis=0).max())
    nose = points[30, :2]
    axes = pose.axes()
    axes[2] *= -1  # out of the face rather than into it
    for axis, colour in zip(axes, AXIS_COLOURS, strict=True):
        a, b = ((int(x), int(y)) for x, y in (nose.round(), (nose + length * axis[:2]).round()))
        cv2.line(canvas, a, b, colour, 2, cv2.LINE_AA)


def _draw_box(canvas: Image, box: FloatArray, label: str) -> None:
    x0, y0, x1, y1 = (int(v) for v in np.round(box))
    cv2.rectangle(canvas, (x0, y0), (x1, y1), BOX_COLOUR, 1, cv2.LINE_AA)
    if label:
        _draw_text(canvas, label, (x0, max(12, y0 - 5)))


def _label(faces: Faces, i: int) -> str:
    parts = []
    if faces.track_id[i] >= 0:
        parts.append(f"#{faces.track_id[i]}")
    if np.isfinite(faces.age[i]):
        spread = f" {PLUS_MINUS} {faces.age_std[i]:.0f}" if np.isfinite(faces.age_std[i]) else ""
        parts.append(f"{faces.age[i]:.0f}{spread} y")
    if np.isfinite(faces.female[i]):
        parts.append("female" if faces.female[i] >= 0.5 else "male")
    return " ".join(parts)


def _draw_text(canvas: Image, text: str, origin: tuple[int, int]) -> None:
    """Write on a dark plate; an outline of thicker letters would not align, as OpenCV 5 also makes them wider."""
    if not text:
        return
    (width, height), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, TEXT_SCALE, 1)
    x, y = origin
    cv2.rectangle(canvas, (x - 2, y - height - 2), (x + width + 2, y + below), (30, 30, 30), -1)
    cv2.putText(canvas, text, origin, cv2.FONT_HERSHEY_SIMPLEX, TEXT_SCALE, TEXT_COLOUR, 1, cv2.LINE_AA)
