"""Draws labels and predictions into the pictures on which a model did worst."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from ...runtime.errors import OutputError
from ...runtime.pictures.images import read_image
from ...runtime.values import FloatArray, Image
from ...runtime.vision.crop import cut_crop
from ...runtime.vision.geometry import crop_matrix, landmark_bounds, transform_points
from ...runtime.vision.resize import reduced

SIDE_PX = 320
LABELLED, PREDICTED = (80, 200, 60), (50, 90, 240)
"""Green and red, BGR."""


def worst_rows(errors: FloatArray, count: int) -> list[int]:
    """Return the indices of the largest errors (n,), worst first; NaN is worse than any number."""
    order = np.argsort(-np.where(np.isnan(errors), np.inf, errors), kind="stable")
    return [int(row) for row in order[:count]]


def whole_picture(file: Path) -> bytes:
    """Return a downscaled picture as JPEG."""
    image, _ = reduced(read_image(file), 2 * SIDE_PX)
    return _jpeg(image)


def face_with_points(file: Path, labelled: FloatArray, predicted: FloatArray) -> bytes:
    """Return a JPEG of a face with its labelled and predicted landmarks (68, 2) in px; NaN ones are left out."""
    matrix = crop_matrix(landmark_bounds(labelled), scale=1.6, size=SIDE_PX)
    canvas = cut_crop(read_image(file), matrix, SIDE_PX).pixels
    is_found = bool(np.isfinite(predicted).all())
    for at, other in zip(transform_points(labelled, matrix), transform_points(predicted, matrix), strict=True):
        if is_found:
            cv2.line(canvas, _pixel(at), _pixel(other), PREDICTED, 1, cv2.LINE_AA)
            cv2.circle(canvas, _pixel(other), 2, PREDICTED, -1, cv2.LINE_AA)
        cv2.circle(canvas, _pixel(at), 2, LABELLED, -1, cv2.LINE_AA)
    return _jpeg(canvas)


def picture_with_boxes(file: Path, labelled: FloatArray, boxes: FloatArray, scores: Sequence[float]) -> bytes:
    """Return a JPEG of a picture with labelled boxes (m, 4), and detected ones (n, 4) with scores; xyxy in px."""
    canvas, factor = reduced(read_image(file), 2 * SIDE_PX)
    for box in labelled * factor:
        cv2.rectangle(canvas, _pixel(box[:2]), _pixel(box[2:]), LABELLED, 2)
    for box, score in zip(boxes * factor, scores, strict=True):
        cv2.rectangle(canvas, _pixel(box[:2]), _pixel(box[2:]), PREDICTED, 1)
        at = int(box[0]), max(10, int(box[1]) - 3)
        cv2.putText(canvas, f"{score:.2f}", at, cv2.FONT_HERSHEY_SIMPLEX, 0.4, PREDICTED, 1, cv2.LINE_AA)
    return _jpeg(canvas)


def _pixel(point: FloatArray) -> tuple[int, int]:
    x, y = np.clip(np.round(point[:2]), -10_000, 10_000).astype(int).tolist()  # OpenCV rejects more than 32 bits
    return x, y


def _jpeg(image: Image) -> bytes:
    done, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 85])
    if not done:
        raise OutputError("this OpenCV cannot write JPEG; use one with image codecs")
    return data.tobytes()
