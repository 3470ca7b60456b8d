"""The same pictures through the `face-alignment` package (Bulat and Tzimiropoulos, ICCV 2017), for comparison.

It is no dependency, and it downloads its weights when it is first used: which is why nothing here does so unasked.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np

from mien.bench.accuracy.evaluate_faces import (
    Progress,
    landmark_rows,
    landmark_summary,
    quiet,
    readable_pictures,
    readable_rows,
)
from mien.runtime.errors import InputError
from mien.runtime.vision.geometry import box_from_bounds, landmark_bounds


def evaluate_face_alignment(data: Path, *, validation_only: bool = False, progress: Progress = quiet) -> dict[str, Any]:
    """NME, AUC@8 and FR@8 of 2DFAN-4, given the labelled faces' boxes; its points have no depth.

    Raises:
        InputError: the package is not installed, or its weights cannot be had.
    """
    network = _network()
    table = landmark_rows(data, validation_only)
    boxes = box_from_bounds(landmark_bounds(table.points))
    predicted = np.full((len(table), 68, 3), np.nan)
    unreadable: dict[int, str] = {}
    for i, image in readable_pictures(table.files, unreadable, progress):
        found = network.get_landmarks_from_image(np.ascontiguousarray(image[..., ::-1]), detected_faces=[boxes[i]])
        if found:
            predicted[i, :, :2] = found[0]
    keep = readable_rows(len(table), unreadable)
    return landmark_summary(predicted[keep], table.mask(keep)) | {"unreadable": list(unreadable.values())}


def _network() -> Any:
    try:
        package: Any = importlib.import_module("face_alignment")
    except ModuleNotFoundError:
        raise InputError("face-alignment is not installed; run: pip install face-alignment (it is not ours)") from None
    try:
        return package.FaceAlignment(package.LandmarksType.TWO_D, device="cpu", flip_input=False, compile=False)
    except OSError as error:  # URLError is one
        raise InputError(f"face-alignment cannot load its weights, which it downloads ({error})") from error
