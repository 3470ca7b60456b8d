"""Draw faces on a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from ..values import Faces, FloatArray, Image, size_of
from ..vision.geometry import longer_side
from ..vision.head_pose import head_pose
from .label_layout import place_labels

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
PLUS_MINUS = "±" if int(cv2.__version__.split(".")[0]) >= 5 else "+-"
"""OpenCV 4 draws letters outside ASCII as question marks."""
TEXT_COLOUR, PLATE_COLOUR = (255, 255, 255), (30, 30, 30)
AXES_FROM_PX = 80
"""Longer side of a box from which on axes are drawn unless asked for."""
POINTS_FROM_PX = 40
"""Width of the landmarks from which on points are drawn on their lines; on smaller faces they would be one blob."""
SHOWN_CLASSES = 3
_SUBPIXEL_BITS = 4


@dataclass(frozen=True, slots=True)
class OverlayStyle:
    """What is drawn of a face.

    Attributes:
        boxes: The box.
        labels: Track, age and gender.
        landmarks: The 68 points.
        contours: Lines that connect them.
        axes: Axes of the head; None for faces from `AXES_FROM_PX` on.
        line_width: Width of all lines, px; None to follow the size of the face.
    """

    boxes: bool = True
    labels: bool = True
    landmarks: bool = True
    contours: bool = True
    axes: bool | None = None
    line_width: int | None = None

    def over_blurred(self) -> OverlayStyle:
        """Return the style over hidden faces, which shows nothing of how they look."""
        return replace(self, landmarks=False, axes=False)


USUAL = OverlayStyle()


def draw_faces(picture: Image, faces: Faces, *, hud: Sequence[str] = (), style: OverlayStyle = USUAL) -> Image:
    """Draw boxes, landmarks, pose axes and labels, in sizes that follow the faces.

    Args:
        picture: (h, w, 3) uint8 BGR.
        faces: Faces to draw.
        hud: Lines of text for the corner.
        style: What is drawn.

    Returns:
        An annotated copy of `picture`. A label that has no room beside its face is left out.
    """
    canvas = picture.copy()
    sides = longer_side(faces.boxes).tolist()
    for box, points, side in zip(faces.boxes, faces.landmarks, sides, strict=True):
        width = max(1, round(side / 250)) if style.line_width is None else style.line_width
        if style.boxes:
            x0, y0, x1, y1 = (int(v) for v in np.round(box))
            cv2.rectangle(canvas, (x0, y0), (x1, y1), BOX_COLOUR, width, cv2.LINE_AA)
        if np.isfinite(points[:, :2]).all():
            if style.landmarks:
                _draw_landmarks(canvas, points, contours=style.contours, width=width)
            if style.axes or (style.axes is None and side >= AXES_FROM_PX):
                _draw_axes(canvas, points, width=width + 1)
    plate = _draw_hud(canvas, hud)
    if style.labels:
        _draw_labels(canvas, faces, sides, plate)
    return canvas


def class_lines(classes: Mapping[str, float]) -> list[str]:
    """Describe the `SHOWN_CLASSES` likeliest of the classes, one a line."""
    best = sorted(classes.items(), key=lambda item: -item[1])[:SHOWN_CLASSES]
    return [f"{name} {100 * probability:.0f} %" for name, probability in best]


def _draw_hud(canvas: Image, lines: Sequence[str]) -> FloatArray:
    """Write lines in the corner, and return the part (1, 4) of the picture that they cover; (0, 4) without lines."""
    scale = min(max(canvas.shape[0] / 1440, 0.35), 1.5)
    y, right = 4, 0
    for line in filter(None, lines):
        width, height = text_size(line, scale)
        draw_text(canvas, line, (4, y), scale)
        y, right = y + height, max(right, 4 + width)
    return np.array([[0, 0, right, y]] if right else np.empty((0, 4)), dtype=float)


def _draw_labels(canvas: Image, faces: Faces, sides: Sequence[float], taken: FloatArray) -> None:
    named = [(i, label) for i in range(len(faces)) if (label := _label(faces, i))]
    largest = min(max(min(size_of(canvas)) / 480, 0.35), 1.5)
    scales = [min(max(sides[i] / 240, 0.35), largest) for i, _ in named]
    sizes = [text_size(label, scale) for (_, label), scale in zip(named, scales, strict=True)]
    unnamed = np.delete(faces.boxes, [i for i, _ in named], axis=0)
    boxes = faces.boxes[[i for i, _ in named]]
    places = place_labels(sizes, boxes, size_of(canvas), taken=np.concatenate([taken, unnamed]))
    for (_, label), place, scale in zip(named, places, scales, strict=True):
        if place is not None:
            draw_text(canvas, label, place, scale)


def _draw_landmarks(canvas: Image, points: FloatArray, *, contours: bool, width: int) -> None:
    size = float(np.ptp(points[:, 0]))
    radius = round(max(size / 110, width / 2) * (1 << _SUBPIXEL_BITS))
    fixed = np.round(points[:, :2] * (1 << _SUBPIXEL_BITS)).astype(np.int32)
    for first, last, closed in CONTOURS if contours else ():
        line = fixed[first : last + 1].reshape(-1, 1, 2)
        cv2.polylines(canvas, [line], closed, LINE_COLOUR, width, cv2.LINE_AA, _SUBPIXEL_BITS)
    for x, y in fixed if size >= POINTS_FROM_PX or not contours else ():
        centre = (int(x), int(y))
        cv2.circle(canvas, centre, radius, POINT_COLOUR, -1, cv2.LINE_AA, _SUBPIXEL_BITS)


def _draw_axes(canvas: Image, points: FloatArray, *, width: int) -> None:
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
        cv2.line(canvas, a, b, colour, width, cv2.LINE_AA)


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


def text_size(text: str, scale: float) -> tuple[int, int]:
    """Return the width and height, px, of a text with its plate."""
    (width, height), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, _stroke(scale))
    return width + 4, height + below + 2


def draw_text(canvas: Image, text: str, corner: tuple[int, int], scale: float) -> None:
    """Write on a dark plate; an outline of thicker letters would not align, as OpenCV 5 also makes them wider.

    Args:
        canvas: Picture to write on.
        text: One line.
        corner: Top left corner of the plate.
        scale: Size of the letters; 1 for capitals of about 22 px.
    """
    width, height = text_size(text, scale)
    below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, scale, _stroke(scale))[1]
    x, y = corner
    cv2.rectangle(canvas, (x, y), (x + width - 1, y + height - 1), PLATE_COLOUR, -1)
    origin = (x + 2, y + height - below)
    cv2.putText(canvas, text, origin, cv2.FONT_HERSHEY_SIMPLEX, scale, TEXT_COLOUR, _stroke(scale), cv2.LINE_AA)


def _stroke(scale: float) -> int:
    return 1 if scale < 0.8 else 2
