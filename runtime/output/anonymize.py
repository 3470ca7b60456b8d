"""Hides faces in pictures irreversibly."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from ..image_check import check_image
from ..values import Faces, FloatArray, Frame, Image, size_of

MARGIN = 0.3
"""Margin to hide around a box, in box sides: it covers ears, chin, hairline, and inaccurate detections."""
CELLS = 6
"""Number of averaged cells along each side of the hidden area: about four across the face itself."""


def blur_faces(picture: Image, faces: Faces, *, margin: float = MARGIN) -> Image:
    """Replace every face by the smoothed averages of a few cells.

    Unlike a Gaussian blur, which can be partly inverted, this keeps only about forty colours of a face, whatever its
    size (McPherson et al., "Defeating Image Obfuscation with Deep Learning", 2016).

    Args:
        picture: Image (h, w, 3) uint8 BGR.
        faces: Faces to hide; only their boxes are used.
        margin: Margin to hide on each side of a box, in box sides.

    Returns:
        A copy of `picture`.

    Raises:
        InputError: `picture` is not such an image.
    """
    check_image(picture)
    canvas = picture.copy()
    sides = faces.boxes[:, 2:] - faces.boxes[:, :2]
    for box in np.concatenate([faces.boxes[:, :2] - margin * sides, faces.boxes[:, 2:] + margin * sides], axis=1):
        _blur_box(canvas, box)
    return canvas


def blurred_frame(frame: Frame, faces: Faces) -> tuple[Frame, Faces]:
    """Hide all faces in a frame from ``Pipeline.track(…, thorough=True)``; return it with the faces in view."""
    hidden = replace(frame, pixels=blur_faces(frame.pixels, faces))
    return hidden, faces.mask(np.isfinite(faces.scores))


def _blur_box(canvas: Image, box: FloatArray) -> None:
    width, height = size_of(canvas)
    x0, y0 = np.clip(np.floor(box[:2]), 0, (width, height)).astype(int).tolist()
    x1, y1 = np.clip(np.ceil(box[2:]), 0, (width, height)).astype(int).tolist()
    if x1 <= x0 or y1 <= y0:
        return
    cell = (box[2:] - box[:2]) / CELLS  # of the whole box, so that cells at the border of the picture are no finer
    columns, rows = (
        max(1, round((b - a) / max(side, 1))) for a, b, side in zip((x0, y0), (x1, y1), cell.tolist(), strict=True)
    )
    cells = cv2.resize(canvas[y0:y1, x0:x1], (columns, rows), interpolation=cv2.INTER_AREA)
    canvas[y0:y1, x0:x1] = cv2.resize(cells, (x1 - x0, y1 - y0), interpolation=cv2.INTER_LINEAR)
