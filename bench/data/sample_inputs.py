"""Model inputs for parity checks and benchmarks, sampled from the user's pictures or the demo photograph."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from enum import Enum
from itertools import islice, repeat
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...runtime.capture.demo_camera import DemoCamera, find_photo
from ...runtime.errors import InputError, warn_once
from ...runtime.faces.detector import open_detector
from ...runtime.models.runner import Provider
from ...runtime.models.shipped import shipped_model
from ...runtime.models.spec import ModelSpec, Precision, Task
from ...runtime.pictures.folders import pictures_in
from ...runtime.pictures.images import read_image
from ...runtime.pipeline.pipeline import Pipeline
from ...runtime.values import FloatArray, Image
from ...runtime.vision.crop import cut_crop
from ...runtime.vision.geometry import bounds_from_box, crop_matrix, landmark_bounds
from ...runtime.vision.resize import resized
from .age_gender_rows import has_ages
from .aligned_crops import aligned_input
from .drawn_face import draw_face
from .landmark_labels import has_landmarks, read_landmarks

PictureWithFace = tuple[Image, FloatArray]
"""Picture (h, w, 3) uint8 BGR, and the bounds (4,) of its face's landmarks, xyxy px."""
SPACING = 20
"""Number of demo camera frames from one picture to the next, so that they differ."""


class Subset(Enum):
    """Part of a folder to sample from, so that an int8 model is not checked on its calibration pictures."""

    ALL = "all"
    CALIBRATION = "calibration"
    GATE = "gate"

    def rows(self, count: int) -> npt.NDArray[np.int64]:
        """Return the indices of this subset among `count` rows; every fourth row belongs to `GATE`."""
        rows = np.arange(count)
        return {Subset.ALL: rows, Subset.CALIBRATION: rows[rows % 4 != 3], Subset.GATE: rows[rows % 4 == 3]}[self]

    def draw(self, total: int, count: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        """Draw the indices of `count` rows of this subset among `total`; they repeat only once all have been drawn."""
        rows = self.rows(total)
        return np.resize(rows[rng.choice(len(rows), size=min(count, len(rows)), replace=False)], count)


def pictures_of(data: Path) -> int:
    """Return the number of pictures that `sample_batch` can draw from a folder.

    Raises:
        InputError: The folder contains no pictures.
    """
    return len(read_landmarks(data)) if has_landmarks(data) else len(pictures_in(data))


def sample_batch(
    spec: ModelSpec, count: int, *, data: Path | None = None, seed: int = 0, subset: Subset = Subset.ALL
) -> Image:
    """Sample a batch of inputs for a model: face crops, scenes for a detector, whole pictures for a classifier.

    Args:
        spec: The model's description.
        count: Number of inputs.
        data: Folder with labelled landmarks or with pictures; None: the demo photograph, or a drawn face without it.
        seed: Seed of the random generator.
        subset: Part of the folder to draw from.

    Returns:
        Inputs (count, h, w, 3) uint8 BGR.

    Raises:
        InputError: The folder contains no pictures.
    """
    rng = np.random.default_rng(seed)
    is_aligned = spec.task is Task.AGE_GENDER and data is not None and has_ages(data)
    pictures: Iterator[PictureWithFace]
    if data is None:
        pictures = repeat(_demo_face(), count)
    elif has_landmarks(data) and not is_aligned:
        pictures = _labelled_faces(data, count, rng, subset)
    else:
        has_faces = spec.task in (Task.LANDMARKS, Task.AGE_GENDER) and not is_aligned
        pictures = _pictures(data, count, rng, subset, faces=has_faces)
    return np.stack([_input(spec, image, bounds, rng, is_aligned=is_aligned) for image, bounds in pictures])


def _input(spec: ModelSpec, image: Image, bounds: FloatArray, rng: np.random.Generator, *, is_aligned: bool) -> Image:
    """Return the input (h, w, 3) that a picture, with a face in these bounds, yields for a model."""
    height, width = spec.input_size
    if spec.task is Task.DETECTOR:
        return _scene(image, height, width, rng)
    if is_aligned:
        return aligned_input(image, height)
    if spec.task is Task.CLASSIFY:
        return resized(image, height)
    return cut_crop(image, crop_matrix(_jittered(bounds, rng), scale=_scale(spec), size=height), height).pixels


@dataclass(frozen=True, slots=True)
class Portraits:
    """Pictures with one face each.

    Attributes:
        pictures: The n pictures.
        landmarks: Landmarks (n, 68, 3) of each face, px of the picture.
    """

    pictures: tuple[Image, ...]
    landmarks: FloatArray


def sample_pictures(count: int, *, data: Path | None = None) -> Iterator[Image]:
    """Sample whole pictures.

    Args:
        count: Number of pictures.
        data: Folder with pictures; None: frames of the moving demo camera, or drawn faces.

    Raises:
        InputError: The folder contains no pictures.
    """
    if data is not None:
        files = pictures_in(data)
        return (read_image(files[i]) for i in Subset.ALL.draw(len(files), count, np.random.default_rng(0)))
    if not has_photo():
        return (draw_face(i)[0] for i in range(count))
    camera = DemoCamera()
    return (camera.frame(SPACING * i) for i in range(count))


def sample_portraits(count: int, *, data: Path | None = None) -> Portraits:
    """Sample pictures in which the shipped models find a face.

    Args:
        count: Number of pictures at most; four times as many are tried.
        data: Folder with pictures; None: frames of the demo camera, or drawn faces.

    Returns:
        The pictures, with the best face of each.

    Raises:
        InputError: No face is found in any of the pictures tried.
    """
    with Pipeline.load(attributes=False, provider=Provider.CPU, precision=Precision.FP32) as pipeline:
        tried = ((picture, pipeline(picture)) for picture in sample_pictures(4 * count, data=data))
        found = list(islice(((picture, faces) for picture, faces in tried if len(faces)), count))
    if not found:
        raise InputError(f"no face was found in pictures of {data}; --level picture needs faces, pass another --data")
    return Portraits(tuple(picture for picture, _ in found), np.stack([faces.landmarks[0] for _, faces in found]))


def _scale(spec: ModelSpec) -> float:
    """Return the ratio of the crop's side to the landmarks' bounds, similar to that of aligned crops."""
    return max(spec.crop_scale, 1.0) if spec.task is Task.LANDMARKS else 1.3


def _labelled_faces(data: Path, count: int, rng: np.random.Generator, subset: Subset) -> Iterator[PictureWithFace]:
    table = read_landmarks(data)
    bounds = landmark_bounds(table.points)
    return ((read_image(table.files[i]), bounds[i]) for i in subset.draw(len(table), count, rng))


def has_photo() -> bool:
    """Return whether the demo photograph is installed; if not, warn once."""
    try:
        find_photo()
    except InputError:
        warn_once("no sample photograph is installed (mien[demo]); using a drawn face, pass --data for real pictures")
        return False
    return True


def _demo_face() -> PictureWithFace:
    if not has_photo():
        picture, landmarks = draw_face()
        return picture, landmark_bounds(landmarks)
    path, photo = find_photo()
    return read_image(path), bounds_from_box(np.array(photo.face))


def _pictures(
    data: Path, count: int, rng: np.random.Generator, subset: Subset, *, faces: bool
) -> Iterator[PictureWithFace]:
    """Draw pictures from a folder, with the bounds of the best face in each, or of its middle if there is none."""
    files = pictures_in(data)
    with ExitStack() as stack:
        detector = open_detector(shipped_model("detector"), provider=Provider.CPU) if faces else None
        if detector is not None:
            stack.callback(detector.close)
        for i in subset.draw(len(files), count, rng):
            image = read_image(files[i])
            boxes = np.empty((0, 4)) if detector is None else detector(image)[0]
            yield image, bounds_from_box(boxes[0]) if len(boxes) else _middle(image)


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
