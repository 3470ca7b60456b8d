"""Draws a plain face that the shipped models detect, for use where no photograph is installed."""

from __future__ import annotations

import cv2
import numpy as np

from ...runtime.values import FloatArray, Image
from ...runtime.vision.mean_face import CANONICAL

SIZE = (640, 480)
EYES = (slice(36, 42), slice(42, 48))
LIPS = slice(48, 60)


def draw_face(index: int = 0) -> tuple[Image, FloatArray]:
    """Draw a face in front of a wall.

    Args:
        index: Seed of the face's position and size.

    Returns:
        Picture (480, 640, 3) uint8 BGR, and landmarks (68, 3) in px.
    """
    rng = np.random.default_rng(index)
    width, height = SIZE
    eyes_px = rng.uniform(90, 130)
    points = CANONICAL * eyes_px + [width / 2 + rng.uniform(-90, 90), height * 0.4 + rng.uniform(-30, 30), 0.0]
    wall = np.linspace(190, 140, width)[None, :, None] + np.zeros((height, 1, 3))
    picture = np.ascontiguousarray(wall, dtype=np.float32)
    centre_x, centre_y = points[30, 0], points[[27, 8], 1].mean()
    cv2.ellipse(
        picture, ((centre_x, centre_y - 0.35 * eyes_px), (1.75 * eyes_px, 2.5 * eyes_px), 0.0), (40, 45, 60), -1
    )
    cv2.ellipse(
        picture, ((centre_x, centre_y - 0.1 * eyes_px), (1.5 * eyes_px, 2.2 * eyes_px), 0.0), (150, 175, 215), -1
    )
    flat = points[:, :2].round().astype(np.int32)
    for brow in (slice(17, 22), slice(22, 27)):
        cv2.polylines(picture, [flat[brow]], False, (50, 60, 80), max(2, round(eyes_px / 16)))
    for eye in EYES:
        cv2.fillPoly(picture, [flat[eye]], (235, 238, 240))
        cv2.circle(picture, tuple(map(int, flat[eye].mean(axis=0))), round(eyes_px / 14), (40, 40, 45), -1)
    cv2.polylines(picture, [flat[27:31]], False, (130, 150, 190), round(eyes_px / 20))
    cv2.polylines(picture, [flat[31:36]], False, (90, 105, 140), round(eyes_px / 24))
    cv2.fillPoly(picture, [flat[LIPS]], (100, 100, 185))
    soft = cv2.GaussianBlur(picture, (0, 0), eyes_px / 40) + rng.normal(0, 3, picture.shape)
    return np.clip(soft, 0, 255).astype(np.uint8), points
