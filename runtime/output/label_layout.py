"""Places the labels of faces where they hide nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..values import FloatArray
from ..vision.geometry import overlap_area

GAP_PX = 3
"""Distance between a label and its box."""


def place_labels(
    sizes: Sequence[tuple[int, int]], boxes: FloatArray, size_px: tuple[int, int], *, taken: FloatArray | None = None
) -> list[tuple[int, int] | None]:
    """Find a place for each label next to its box, or inside at its edge, as for a face that fills the picture.

    Args:
        sizes: Width and height of each label, px.
        boxes: Box of each face (n, 4), xyxy px.
        size_px: Width and height of the picture.
        taken: Parts of the picture (m, 4) that no label may cover.

    Returns:
        Top left corner of each label; None if it would extend beyond the picture, or cover another face, another label
        or a taken part. Large faces come first.
    """
    places: list[tuple[int, int] | None] = [None] * len(sizes)
    used = np.empty((0, 4)) if taken is None else taken
    for i in np.argsort(-(boxes[:, 3] - boxes[:, 1]), kind="stable").tolist():
        others = np.concatenate([used, np.delete(boxes, i, axis=0)])
        place = _first_free(_candidates(boxes[i], sizes[i]), sizes[i], size_px, others)
        if place is not None:
            places[i] = place
            used = np.concatenate([used, [_rectangle(place, sizes[i])]])
    return places


def _candidates(box: FloatArray, size: tuple[int, int]) -> list[tuple[int, int]]:
    """Return the corners of a label above, below and next to a box, then inside it."""
    width, height = size
    x0, y0, x1, y1 = (round(v) for v in box.tolist())
    above, below = y0 - GAP_PX - height, y1 + GAP_PX
    outside = [(x0, above), (x1 - width, above), (x0, below), (x1 - width, below), (x1 + GAP_PX, y0)]
    inside = [(max(x0, 0) + GAP_PX, max(y0, 0) + GAP_PX), (max(x0, 0) + GAP_PX, y1 - GAP_PX - height)]
    return [*outside, (x0 - GAP_PX - width, y0), *inside]


def _first_free(
    corners: Sequence[tuple[int, int]], size: tuple[int, int], size_px: tuple[int, int], used: FloatArray
) -> tuple[int, int] | None:
    for corner in corners:
        x0, y0, x1, y1 = rectangle = _rectangle(corner, size)
        if min(x0, y0) < 0 or x1 > size_px[0] or y1 > size_px[1]:
            continue
        if not overlap_area(np.array([rectangle], dtype=float), used).any():
            return corner
    return None


def _rectangle(corner: tuple[int, int], size: tuple[int, int]) -> tuple[int, int, int, int]:
    return corner[0], corner[1], corner[0] + size[0], corner[1] + size[1]
