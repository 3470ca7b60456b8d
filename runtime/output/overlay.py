"""Draws faces on a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from ..image_check import check_image
from ..values import Classes, Faces, FloatArray, Image, size_of
from ..vision.geometry import longer_side
from ..vision.head_pose import head_pose
from .label_layout import place_labels
from .text import PLUS_MINUS, draw_text, text_size

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
AXES_FROM_PX = 80
"""Minimum longer side of a box for axes to be drawn by default."""
POINTS_FROM_PX = 40
"""Minimum width of the landmarks for points to be drawn on their lines; on smaller faces they would merge."""
MIN_PRESENCE = 0.5
"""Presence below which landmarks are not drawn, since the landmark model saw no face."""
SHOWN_CLASSES = 3
_SUBPIXEL_BITS = 4


@dataclass(frozen=True, slots=True)
class OverlayStyle:
    """Parts of the overlay to draw.

    Attributes:
        boxes: The box.
        labels: Track, age, gender and the most likely class, and the classes of the picture.
        landmarks: The 68 points.
        contours: Lines that connect them.
        axes: Axes of the head; None: for faces of at least `AXES_FROM_PX`.
        line_width: Width of all lines in px; None: scale with the face.
    """

    boxes: bool = True
    labels: bool = True
    landmarks: bool = True
    contours: bool = True
    axes: bool | None = None
    line_width: int | None = None

    def over_blurred(self) -> OverlayStyle:
        """Return the style for hidden faces, without anything that shows their appearance."""
        return replace(self, landmarks=False, axes=False)


USUAL = OverlayStyle()


def draw_faces(
    picture: Image,
    faces: Faces,
    *,
    classes: Classes | None = None,
    hud: Sequence[str] = (),
    style: OverlayStyle = USUAL,
) -> Image:
    """Draw boxes, landmarks, pose axes and labels, scaled with the faces.

    Args:
        picture: Image (h, w, 3) uint8 BGR.
        faces: Faces to draw.
        classes: Classes of the whole picture; the most likely ones are shown as bars in the corner.
        hud: Lines of text for the corner.
        style: What is drawn.

    Returns:
        An annotated copy of `picture`. Labels without room next to their faces are left out.

    Raises:
        InputError: `picture` is not such an image.
    """
    check_image(picture)
    canvas = picture.copy()
    sides = longer_side(faces.boxes).tolist()
    for box, points, presence, side in zip(faces.boxes, faces.landmarks, faces.presence, sides, strict=True):
        width = max(1, round(side / 250)) if style.line_width is None else style.line_width
        if style.boxes:
            x0, y0, x1, y1 = (int(v) for v in np.round(box))
            cv2.rectangle(canvas, (x0, y0), (x1, y1), BOX_COLOUR, width, cv2.LINE_AA)
        if np.isfinite(points[:, :2]).all() and not presence < MIN_PRESENCE:  # which may be NaN
            if style.landmarks:
                _draw_landmarks(canvas, points, contours=style.contours, width=width)
            if style.axes or (style.axes is None and side >= AXES_FROM_PX):
                _draw_axes(canvas, points, width=width + 1)
    taken = _draw_hud(canvas, hud)
    if style.labels:
        if classes is not None:
            top = 4 + int(taken[:, 3].max(initial=0))
            taken = np.concatenate([taken, [_draw_classes(canvas, classes, top=top)]])
        _draw_labels(canvas, faces, sides, taken)
    return canvas


def class_lines(classes: Classes, *, most: int = SHOWN_CLASSES) -> dict[str, float]:
    """Describe the most likely classes with their probabilities, one per line."""
    best = sorted(classes.items(), key=lambda item: -item[1])[:most]
    return {f"{name} {100 * probability:.0f} %": probability for name, probability in best}


def _draw_classes(canvas: Image, classes: Classes, *, top: int) -> tuple[int, int, int, int]:
    """Draw a bar for each of the most likely classes, and return the part of the picture that they cover."""
    lines = class_lines(classes)
    scale = min(max(min(size_of(canvas)) / 540, 0.35), 1.5)
    width = max([canvas.shape[1] // 4, *(text_size(line, scale)[0] for line in lines)])
    y = top
    for line, probability in lines.items():
        draw_text(canvas, line, (4, y), scale, width_px=width, filled=probability)
        y += text_size(line, scale)[1]
    return 4, top, 4 + width, y


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
    if faces.classes[i]:
        parts += class_lines(faces.classes[i], most=1)
    return " ".join(parts)
