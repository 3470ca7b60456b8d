"""Compares small patches of faces, and finds them in later frames.

Patches distinguish faces from one moment to the next, but recognize nobody: a patch is a thumbnail of 16 px, changes
with pose and light, and is kept only while its face is tracked.
"""

from __future__ import annotations

import cv2
import numpy as np

from ..values import FloatArray, Image, size_of

SIDE = 16
"""Side of a patch, px."""
SAMPLES = 3
"""Number of pixels to average in each direction; the other pixels of a large face are skipped."""
REACH = 0.75
"""Search radius around the expected position of a face, in face sizes."""


def cut_patch(image: Image, box: FloatArray) -> FloatArray:
    """Return the patch (SIDE, SIDE, 3), mean 0 and norm 1, of a box (4,); 0 outside the image, or all 0 if flat."""
    patch: FloatArray = np.zeros((SIDE, SIDE, 3), np.float32)
    x0, y0, x1, y1 = (round(v) for v in box.tolist())
    left, top, right, bottom = max(x0, 0), max(y0, 0), min(x1, image.shape[1]), min(y1, image.shape[0])
    if right <= left or bottom <= top:
        return patch
    first, last = (round(SIDE * (x - x0) / (x1 - x0)) for x in (left, right))
    upper, lower = (round(SIDE * (y - y0) / (y1 - y0)) for y in (top, bottom))
    if first < last and upper < lower:
        inside = _average(image[top:bottom, left:right], (last - first, lower - upper))
        patch[upper:lower, first:last] = inside - inside.sum() / inside.size
    norm = cv2.norm(patch)
    return patch / norm if norm > SIDE else patch * 0


def likeness(a: FloatArray, b: FloatArray) -> float:
    """Return the normalized correlation of two patches, at most 1; two flat ones are alike.

    Faces of different people reach 0.68 in 5 % of pairs; one face in successive frames stays above 0.85.
    """
    return 1 - 0.5 * cv2.norm(a, b, cv2.NORM_L2SQR)


def find_patch(image: Image, patch: FloatArray, box: FloatArray, *, reach: float = REACH) -> tuple[FloatArray, float]:
    """Find a patch around its expected box (4,), up to `reach` box sides away.

    Returns:
        The best box, of the same size, and the correlation there; 0 for a flat patch or outside the image.
    """
    sides = box[2:] - box[:2]
    low, high = np.floor(box[:2] - reach * sides), np.ceil(box[2:] + reach * sides)
    first, last = np.maximum(low, 0).astype(int), np.minimum(high, size_of(image)).astype(int)
    if not patch.any() or (last <= first).any():
        return box, 0.0
    scale = SIDE / sides
    width, height = (max(1, round(v)) for v in ((last - first) * scale).tolist())
    window = _average(image[first[1] : last[1], first[0] : last[0]], (width, height))
    (left, top), (right, bottom) = (np.rint(v * scale).astype(int).tolist() for v in (first - low, high - last))
    window = np.asarray(cv2.copyMakeBorder(window, top, bottom, left, right, cv2.BORDER_REPLICATE), np.float32)
    match = np.asarray(cv2.matchTemplate(window, patch.astype(np.float32), cv2.TM_CCOEFF_NORMED), dtype=np.float64)
    row, column = np.unravel_index(match.argmax(), match.shape)
    place = np.array([column + _peak(match[row], int(column)), row + _peak(match[:, column], int(row))])
    return box + np.tile(low + place / scale - box[:2], 2), float(match[row, column])


def _average(image: Image, size: tuple[int, int]) -> FloatArray:
    """Reduce an image to (width, height) by averaging some of the pixels."""
    finer = (SAMPLES * size[0], SAMPLES * size[1])
    if image.shape[1] > finer[0] and image.shape[0] > finer[1]:
        image = sampled(image, finer)
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.float32)


def sampled(image: Image, size: tuple[int, int]) -> Image:
    """Reduce an image to (width, height) by skipping pixels, which are not even read."""
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_NEAREST), dtype=np.uint8)


def _peak(values: FloatArray, at: int) -> float:
    """Return the offset of a maximum from its index, by a parabola through its neighbours."""
    if not 0 < at < len(values) - 1:
        return 0.0
    before, top, after = (float(v) for v in values[at - 1 : at + 2])
    bend = before - 2 * top + after
    return 0.5 * (before - after) / bend if bend < 0 else 0.0
