"""Random augmentation of training images; functions take a random generator, which makes them reproducible."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from ...runtime.values import FloatArray, Image


@dataclass(frozen=True, slots=True)
class Strength:
    """Strength of the augmentation of landmark crops.

    Attributes:
        shift: Standard deviation of the centre, in sides of the face.
        zoom: Standard deviation of the logarithm of the size.
        roll: Standard deviation of the in-plane rotation, in radians.
        occluded: Fraction of crops to cover in part.
        masked: Fraction to draw a face mask on.
        degraded: Fraction to blur, compress or add noise to.
        mirrored: Fraction to mirror.
    """

    shift: float
    zoom: float
    roll: float
    occluded: float
    masked: float
    degraded: float
    mirrored: float


STRONG = Strength(shift=0.05, zoom=0.1, roll=0.3, occluded=0.3, masked=0.15, degraded=1.0, mirrored=0.5)
"""As strong as the errors of detectors and cameras."""
LIGHT = Strength(shift=0.03, zoom=0.06, roll=0.12, occluded=0.1, masked=0.1, degraded=0.4, mirrored=0.5)
"""For the last epochs: close to the crops of a tracker (YOLOX likewise ends without mosaics, Ge et al. 2021)."""


WORSENED = 0.35
"""Fraction of the crops that students get worsened, while their teachers look at clear ones."""
LEAST_SIDE_PX = 14.0
"""Least side to which `worsen` reduces a crop; a face takes 0.77 of a landmark crop, and so has 11 px at least."""


def jitter_bounds(bounds: FloatArray, rng: np.random.Generator, strength: Strength) -> FloatArray:
    """Shift and scale landmark bounds, imitating the errors of detectors and trackers.

    Args:
        bounds: Bounds (4,), xyxy in px.
        rng: Random generator.
        strength: Strength of shift and zoom.

    Returns:
        New bounds (4,) in px.
    """
    x0, y0, x1, y1 = bounds
    side = max(x1 - x0, y1 - y0)
    centre = np.array([x0 + x1, y0 + y1]) / 2 + rng.normal(0, strength.shift, 2) * side
    half = np.array([x1 - x0, y1 - y0]) / 2 * np.exp(np.clip(rng.normal(0, strength.zoom), -0.25, 0.3))
    return np.concatenate([centre - half, centre + half])


def jitter_aligned(image: Image, size: int, rng: np.random.Generator, *, spread: float = 1.0) -> Image:
    """Resize an aligned crop, imitating alignment errors.

    Args:
        image: Aligned square crop (s, s, 3) uint8.
        size: Side of the result in px.
        rng: Random generator.
        spread: Factor on the default zoom, rotation and shift.

    Returns:
        Crop (size, size, 3) uint8.
    """
    side = image.shape[0]
    zoom = size / side * np.exp(rng.normal(0, 0.06 * spread))
    angle = rng.normal(0, 0.07 * spread)
    cos, sin = zoom * np.cos(angle), zoom * np.sin(angle)
    rotation = np.array([[cos, -sin], [sin, cos]])
    shift = size * (0.5 + rng.normal(0, 0.02 * spread, 2)) - rotation @ [side / 2, side / 2]
    matrix = np.concatenate([rotation, shift[:, None]], axis=1)
    moved = cv2.warpAffine(image, matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    return np.asarray(moved, dtype=np.uint8)


def random_roll(rng: np.random.Generator, strength: Strength) -> float:
    """Draw an in-plane rotation in radians: large in a fifth of the cases, else small, and never above 60°."""
    spread = strength.roll if rng.random() < 0.8 else 2.3 * strength.roll
    return float(np.clip(rng.normal(0, spread), -1.05, 1.05))


def colour(pixels: Image, rng: np.random.Generator) -> Image:
    """Change brightness, contrast, gamma, white balance and saturation of an image (h, w, 3), or make it grey."""
    x = pixels.astype(np.float32) / 255
    if rng.random() < 0.15:
        x[:] = cv2.cvtColor(x, cv2.COLOR_BGR2GRAY)[..., None]
    elif rng.random() < 0.6:
        grey = x.mean(axis=2, keepdims=True)
        x = grey + (x - grey) * rng.uniform(0.5, 1.5)
        x *= rng.uniform(0.88, 1.12, 3).astype(np.float32)
    if rng.random() < 0.7:
        x = (x - 0.5) * rng.uniform(0.6, 1.4) + 0.5 + rng.uniform(-0.2, 0.2)
    if rng.random() < 0.3:
        x = np.clip(x, 0, 1) ** rng.uniform(0.6, 1.7)
    return np.asarray(np.clip(x * 255, 0, 255), dtype=np.uint8)


def degrade(pixels: Image, rng: np.random.Generator) -> Image:
    """Degrade an image (h, w, 3) as cameras do: low resolution, blur, motion, noise, JPEG."""
    height, width = pixels.shape[:2]
    kind = rng.random()
    if kind < 0.15:
        factor = rng.uniform(0.25, 0.7)
        small = cv2.resize(
            pixels, (max(8, int(width * factor)), max(8, int(height * factor))), interpolation=cv2.INTER_AREA
        )
        pixels = np.asarray(cv2.resize(small, (width, height)), dtype=np.uint8)
    elif kind < 0.25:
        pixels = np.asarray(cv2.GaussianBlur(pixels, (0, 0), rng.uniform(0.5, 1.8)), dtype=np.uint8)
    elif kind < 0.33:
        pixels = _motion_blur(pixels, rng)
    if rng.random() < 0.15:
        noise = rng.normal(0, rng.uniform(2, 14), pixels.shape)
        pixels = np.asarray(np.clip(pixels + noise, 0, 255), dtype=np.uint8)
    if rng.random() < 0.15:
        _, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(15, 70))])
        pixels = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), dtype=np.uint8)
    return pixels


def worsen(pixels: Image, rng: np.random.Generator) -> Image:
    """Degrade an image (h, w, 3) of a face far more than `degrade`: a few px, strong blur, darkness, noise, JPEG.

    Labels rarely hold for such a face; a teacher's predictions for the clear image do.
    """
    height, width = pixels.shape[:2]
    if rng.random() < 0.5:
        side = float(np.exp(rng.uniform(np.log(LEAST_SIDE_PX), np.log(0.5 * max(height, width)))))
        factor = side / max(height, width)
        small = cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        larger = int(rng.choice([cv2.INTER_NEAREST, cv2.INTER_LINEAR, cv2.INTER_CUBIC], p=[0.1, 0.6, 0.3]))
        pixels = np.asarray(cv2.resize(small, (width, height), interpolation=larger), dtype=np.uint8)
    elif rng.random() < 0.6:
        sigma = rng.uniform(0.01, 0.04) * max(height, width)
        pixels = np.asarray(cv2.GaussianBlur(pixels, (0, 0), sigma), dtype=np.uint8)
    if rng.random() < 0.4:
        light, noise = rng.uniform(0.08, 0.5), rng.normal(0, rng.uniform(2, 8), pixels.shape)
        dark = np.clip(pixels * light + noise, 0, 255)
        gain = rng.uniform(1.0, 1.0 / light)  # a camera brightens part of it again, with the noise
        pixels = np.clip(dark * gain, 0, 255).astype(np.uint8)
    if rng.random() < 0.3:
        _, data = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(8, 40))])
        pixels = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), dtype=np.uint8)
    return pixels


def _motion_blur(pixels: Image, rng: np.random.Generator) -> Image:
    length = int(rng.integers(3, 9))
    angle = rng.uniform(0, np.pi)
    kernel = np.zeros((9, 9), dtype=np.float32)
    reach = (np.array([np.cos(angle), np.sin(angle)]) * length / 2).round().astype(int)
    cv2.line(kernel, (4 - int(reach[0]), 4 - int(reach[1])), (4 + int(reach[0]), 4 + int(reach[1])), 1.0)
    return np.asarray(cv2.filter2D(pixels, -1, kernel / max(float(kernel.sum()), 1.0)), dtype=np.uint8)


def occlude(pixels: Image, rng: np.random.Generator, *, share: float = 0.35) -> Image:
    """Cover rectangles of an image with a colour or noise (random erasing, Zhong et al. 2020).

    Args:
        pixels: Image (h, w, 3) uint8; not modified.
        rng: Random generator.
        share: Maximum side of a rectangle, as a fraction of the image's height.
    """
    size = pixels.shape[0]
    covered = pixels.copy()
    for _ in range(int(rng.integers(1, 3))):
        h, w = (rng.uniform(0.1, share, 2) * size).astype(int)
        y, x = int(rng.integers(0, size - h)), int(rng.integers(0, size - w))
        if rng.random() < 0.5:
            covered[y : y + h, x : x + w] = rng.integers(0, 256, 3)
        else:
            covered[y : y + h, x : x + w] = rng.integers(0, 256, (h, w, 3))
    return covered


MASK_COLOURS = ((250, 245, 240), (235, 215, 180), (200, 170, 110), (40, 40, 40), (200, 200, 205), (190, 160, 230))


def wear_mask(image: Image, outline: FloatArray, rng: np.random.Generator) -> Image:
    """Draw a face mask with shading and folds.

    Args:
        image: Image (h, w, 3) uint8; not modified.
        outline: Outline (j, 2) of the lower face, in px.
        rng: Random generator.
    """
    covered = image.copy()
    points = outline + rng.normal(0, 0.02, outline.shape) * np.ptp(outline[:, 0])
    points[-1, 1] += rng.uniform(-0.1, 0.15) * np.ptp(outline[:, 1])
    polygon = points.round().astype(np.int32)
    base = rng.integers(0, 256, 3) if rng.random() < 0.4 else MASK_COLOURS[int(rng.integers(len(MASK_COLOURS)))]
    colour_at = np.asarray(base, dtype=np.float64)
    cv2.fillPoly(covered, [polygon], tuple(int(v) for v in colour_at), cv2.LINE_AA)
    (x0, y0), (x1, y1) = polygon.min(axis=0), polygon.max(axis=0)
    for y in np.linspace(y0, y1, int(rng.integers(2, 6)))[1:-1]:
        shade = tuple(int(v) for v in np.clip(colour_at - rng.uniform(10, 50), 0, 255))
        cv2.line(
            covered, (int(x0 + 0.2 * (x1 - x0)), int(y)), (int(x1 - 0.2 * (x1 - x0)), int(y)), shade, 1, cv2.LINE_AA
        )
    # Light the mask like the face, by keeping part of the shading beneath it.
    light = image.mean(axis=2, keepdims=True) / max(float(image.mean()), 1.0)
    inside = np.zeros(image.shape[:2], dtype=np.uint8)
    cv2.fillPoly(inside, [polygon], 1)
    lit = np.clip(covered * (0.5 + 0.5 * np.clip(light, 0.3, 1.5)), 0, 255).astype(np.uint8)
    return np.where(inside[..., None] > 0, lit, covered)
