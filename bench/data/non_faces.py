"""Makes pictures without a face out of crops of faces."""

from __future__ import annotations

import cv2
import numpy as np

from ...runtime.values import Image

TILES = 4
"""Number of tiles in each direction into which a crop is cut."""


def without_faces(crops: Image, rng: np.random.Generator) -> Image:
    """Turn crops of faces into pictures without one: shuffled tiles, enlarged corners, noise, plain colours, black.

    Args:
        crops: Crops (n, size, size, 3), uint8 BGR.
        rng: Random generator.

    Returns:
        As many pictures of the same size.
    """
    kinds = (_shuffled, _corner, _shuffled, _corner, _noise, _plain, _black)
    return np.stack([kinds[i % len(kinds)](crop, rng) for i, crop in enumerate(crops)])


def _shuffled(crop: Image, rng: np.random.Generator) -> Image:
    side = crop.shape[0] // TILES
    mixed = crop.copy()
    for target, source in enumerate(rng.permutation(TILES**2).tolist()):
        (y, x), (v, u) = (np.array(divmod(tile, TILES)) * side for tile in (target, source))
        mixed[y : y + side, x : x + side] = crop[v : v + side, u : u + side]
    return mixed


def _corner(crop: Image, rng: np.random.Generator) -> Image:
    size = crop.shape[0]
    corner = crop[: size // 3, : size // 3] if rng.random() < 0.5 else crop[-size // 3 :, -size // 3 :]
    return np.asarray(cv2.resize(corner, (size, size), interpolation=cv2.INTER_CUBIC), np.uint8)


def _noise(crop: Image, rng: np.random.Generator) -> Image:
    return rng.integers(0, 256, crop.shape, dtype=np.uint8)


def _plain(crop: Image, rng: np.random.Generator) -> Image:
    return np.broadcast_to(rng.integers(0, 256, 3, dtype=np.uint8), crop.shape).copy()


def _black(crop: Image, rng: np.random.Generator) -> Image:
    return np.zeros_like(crop)
