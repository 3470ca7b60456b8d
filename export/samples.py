"""Real pictures for parity gates and benchmarks: from the user's folder, or the demo camera's photograph."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..runtime.crop import cut_crop
from ..runtime.demo_camera import find_photo
from ..runtime.geometry import bounds_from_box, crop_matrix, landmark_bounds
from ..runtime.images import pictures_in, read_image
from ..runtime.spec import ModelSpec, Task
from ..runtime.values import FloatArray, Image
from .landmark_data import LABELS, SEED_LABELS, read_landmarks


def sample_batch(spec: ModelSpec, count: int, *, data: Path | None = None, seed: int = 0) -> Image:
    """Inputs (count, h, w, 3) uint8 for a model: face crops for landmarks, scenes for a detector.

    data: a folder of labelled landmarks or of pictures; without it the demo photograph serves.

    Raises:
        InputError: a folder without pictures.
    """
    rng = np.random.default_rng(seed)
    pictures = _labelled_faces(data, count, rng) if data and _has_labels(data) else _pictures(data, count, rng)
    height, width = spec.input_size
    if spec.task is Task.DETECTOR:
        return np.stack([_scene(image, height, width, rng) for image, _ in pictures])
    return np.stack(
        [
            cut_crop(
                image,
                crop_matrix(_jittered(bounds, rng), scale=max(spec.crop_scale, 1.0), size=height),
                height,
            ).pixels
            for image, bounds in pictures
        ]
    )


def _has_labels(data: Path) -> bool:
    return (data / LABELS).is_file() or (data / SEED_LABELS).is_file()


def _labelled_faces(data: Path, count: int, rng: np.random.Generator) -> list[tuple[Image, FloatArray]]:
    table = read_landmarks(data)
    rows = rng.choice(len(table), size=count, replace=len(table) < count)
    bounds = landmark_bounds(table.points)
    return [(read_image(table.files[i]), bounds[i]) for i in rows]


def _pictures(data: Path | None, count: int, rng: np.random.Generator) -> list[tuple[Image, FloatArray]]:
    if data is None:
        path, photo = find_photo()
        return [(read_image(path), bounds_from_box(np.array(photo.face)))] * count
    files = pictures_in(data)
    images = [read_image(files[i]) for i in rng.choice(len(files), size=count, replace=len(files) < count)]
    return [(image, _middle(image)) for image in images]


def _middle(image: Image) -> FloatArray:
    height, width = image.shape[:2]
    side = min(height, width) / 3
    centre = np.array([width / 2, height / 2])
    return np.concatenate([centre - side, centre + side])


def _jittered(bounds: FloatArray, rng: np.random.Generator) -> FloatArray:
    side = np.max(bounds[2:] - bounds[:2])
    centre = (bounds[:2] + bounds[2:]) / 2 + rng.normal(0, 0.04, 2) * side
    half = (bounds[2:] - bounds[:2]) / 2 * rng.uniform(0.9, 1.15)
    return np.concatenate([centre - half, centre + half])


def _scene(image: Image, height: int, width: int, rng: np.random.Generator) -> Image:
    zoom = min(height / image.shape[0], width / image.shape[1]) * rng.uniform(0.7, 1.3)
    shift = np.array([width, height]) / 2 - zoom * np.array([image.shape[1], image.shape[0]]) / 2
    matrix = np.array([[zoom, 0.0, shift[0]], [0.0, zoom, shift[1]]])
    side = max(height, width)
    return np.ascontiguousarray(cut_crop(image, matrix, side).pixels[:height, :width])
