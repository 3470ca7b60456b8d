"""Reduces a detector's raw boxes to faces: threshold and non-maximum suppression."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from ..values import FloatArray
from .geometry import overlap_area

NMS_IOU = 0.45
"""Overlap with a better box above which a box is dropped."""
ENCLOSED = 0.8
"""A box with at least this share inside a better one is taken for a part of that face, such as an eye or a mouth."""


def select_boxes(boxes: FloatArray, scores: FloatArray, *, threshold: float) -> tuple[FloatArray, FloatArray]:
    """Drop boxes that score too low, or that a better box overlaps or encloses.

    Args:
        boxes: Boxes (n, 4), xyxy.
        scores: Their scores (n,).
        threshold: Lowest score kept.

    Returns:
        Boxes (k, 4) and scores (k,), best first.
    """
    likely = np.flatnonzero(scores >= threshold)
    if not len(likely):
        return np.empty((0, 4)), np.empty(0)
    boxes, scores = boxes[likely].astype(np.float64), scores[likely].astype(np.float64)
    sides = boxes.copy()
    sides[:, 2:] -= sides[:, :2]
    kept: npt.NDArray[np.int64] = np.asarray(
        cv2.dnn.NMSBoxes(sides.tolist(), scores.tolist(), 0.0, NMS_IOU), dtype=np.int64
    ).reshape(-1)  # not the threshold: OpenCV would drop a score that is equal to it
    boxes, scores = boxes[kept], scores[kept]
    outer = ~np.triu(enclosed(boxes, boxes) > ENCLOSED, k=1).any(axis=0)
    return boxes[outer], scores[outer]


def lies_within(boxes: FloatArray, others: FloatArray) -> npt.NDArray[np.bool_]:
    """Return whether at least `ENCLOSED` of each box (n, 4) lies within one of the `others` (m, 4)."""
    within: npt.NDArray[np.bool_] = np.any(enclosed(boxes, others) > ENCLOSED, axis=0)
    return within


def enclosed(boxes: FloatArray, others: FloatArray) -> FloatArray:
    """Return the share (m, n) of each box (n, 4) that lies within each of the `others` (m, 4)."""
    return overlap_area(others, boxes) / np.maximum((boxes[:, 2:] - boxes[:, :2]).prod(axis=1), 1e-9)
