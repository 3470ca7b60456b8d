"""Evaluation of the `face-alignment` package (Bulat and Tzimiropoulos, ICCV 2017) on the same pictures, for comparison.

The package is not a dependency. It downloads its weights on first use, so it runs only on request.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np

from ...runtime.errors import InputError
from ...runtime.values import Progress
from ...runtime.vision.geometry import box_from_bounds, landmark_bounds
from .evaluate_faces import landmark_summary, read_labelled_faces
from .evaluation import PictureReader


def evaluate_face_alignment(data: Path, *, held_out: bool = False, progress: Progress | None = None) -> dict[str, Any]:
    """Compute NME, AUC@8 and FR@8 of 2DFAN-4 in the boxes of the labelled faces; its points have no depth.

    Args:
        data: Folder with labelled landmarks.
        held_out: Evaluate only on the subjects that `mien train` holds out.
        progress: Called after each picture.

    Returns:
        The summary of `evaluate_landmarks`.

    Raises:
        InputError: The package is not installed, or its weights cannot be downloaded.
    """
    network = _network()
    table = read_labelled_faces(data, held_out)
    boxes = box_from_bounds(landmark_bounds(table.points))
    predicted = np.full((len(table), 68, 3), np.nan)
    pictures = PictureReader(table.files, progress)
    for i, image in pictures:
        found = network.get_landmarks_from_image(np.ascontiguousarray(image[..., ::-1]), detected_faces=[boxes[i]])
        if found:
            predicted[i, :, :2] = found[0]
    keep = pictures.readable()
    return landmark_summary(predicted[keep], table.mask(keep)) | {"unreadable": pictures.messages}


def _network() -> Any:
    try:
        package: Any = importlib.import_module("face_alignment")
    except ModuleNotFoundError:
        raise InputError("face-alignment is not installed; run: pip install face-alignment (third-party)") from None
    try:
        return package.FaceAlignment(package.LandmarksType.TWO_D, device="cpu", flip_input=False, compile=False)
    except OSError as error:  # URLError is one
        raise InputError(f"face-alignment cannot download its weights ({error})") from error
