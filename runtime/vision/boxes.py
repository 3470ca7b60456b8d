"""From a detector's raw rows to faces: threshold and non-maximum suppression."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from mien.runtime.values import FloatArray
from mien.runtime.vision.geometry import overlap_area

NMS_IOU = 0.45
ENCLOSED = 0.8
"""A box that lies in a better one by this share is a part of that face: an eye, a mouth."""


def select_boxes(
    boxes: FloatArray, scores: FloatArray, *, threshold: float, iou: float = NMS_IOU
) -> tuple[FloatArray, FloatArray]:
    """Keep boxes (n, 4) xyxy of at least `threshold` that no better one overlaps by more than `iou`, or encloses.

    Returns boxes (k, 4) and scores (k,), best first.
    """
    likely = np.flatnonzero(scores >= threshold)
    if not len(likely):
        return np.empty((0, 4)), np.empty(0)
    boxes, scores = boxes[likely].astype(np.float64), scores[likely].astype(np.float64)
    sides = boxes.copy()
    sides[:, 2:] -= sides[:, :2]
    kept: npt.NDArray[np.int64] = np.asarray(
        cv2.dnn.NMSBoxes(sides.tolist(), scores.tolist(), threshold, iou), dtype=np.int64
    ).reshape(-1)
    boxes, scores = boxes[kept], scores[kept]
    outer = ~np.triu(enclosed(boxes) > ENCLOSED, k=1).any(axis=0)
    return boxes[outer], scores[outer]


def enclosed(boxes: FloatArray) -> FloatArray:
    """Share (n, n) of each box (columns) that lies within each other one (rows)."""
    return overlap_area(boxes, boxes) / np.maximum((boxes[:, 2:] - boxes[:, :2]).prod(axis=1), 1e-9)


def fit_inside(height: int, width: int, max_side: int) -> float:
    """Factor that brings a picture's longer side down to `max_side` px; never above 1."""
    return min(1.0, max_side / max(height, width))


def pad_to_multiple(pixels: npt.NDArray[np.uint8], multiple: int) -> npt.NDArray[np.uint8]:
    """Add black rows and columns at the bottom and the right until both sides are multiples of `multiple`."""
    height, width = pixels.shape[:2]
    bottom, right = -height % multiple, -width % multiple
    if not bottom and not right:
        return pixels
    padded = cv2.copyMakeBorder(pixels, 0, bottom, 0, right, cv2.BORDER_CONSTANT, value=(0, 0, 0))
    return np.asarray(padded, dtype=np.uint8)
