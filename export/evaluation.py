"""`mien evaluate`: accuracy of any `Runner` on labelled folders. No torch is needed here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..bench.metrics import (
    Detections,
    area_under_curve,
    depth_error,
    detection_curve,
    failure_rate,
    normalised_mean_error,
)
from ..runtime.crop import cut_crop
from ..runtime.detector import Detector
from ..runtime.errors import InputError
from ..runtime.geometry import box_from_bounds, crop_matrix, intersection_over_union, landmark_bounds
from ..runtime.images import read_image
from ..runtime.pipeline import Pipeline
from ..runtime.runner import Runner
from ..runtime.spec import Task
from ..runtime.tracker import SAME_FACE_IOU
from ..runtime.values import FloatArray
from .face_data import FaceTable, held_out_pictures, read_faces
from .landmark_data import LandmarkTable, read_landmarks
from .splits import HELD_OUT, held_out

BATCH = 32
Progress = Callable[[Sequence[Any], str], Iterable[Any]]


def quiet(items: Sequence[Any], title: str) -> Iterable[Any]:
    """No progress bar."""
    return items


def evaluate_landmarks(
    runner: Runner, data: Path, *, validation_only: bool = False, progress: Progress = quiet
) -> dict[str, Any]:
    """NME, AUC@8 and FR@8 in percent over crops cut from the labelled points, in all and by source.

    validation_only: only the subjects that `mien train` holds out. Pictures that cannot be read are left out and
    listed under ``unreadable``.

    Raises:
        InputError: not a landmark model, malformed labels, or nothing left to measure.
    """
    if runner.spec.task is not Task.LANDMARKS:
        raise InputError(f"wanted a landmark model, found a model for {runner.spec.task.value}")
    table, unreadable = _readable(_landmark_rows(data, validation_only))
    bounds = landmark_bounds(table.points)
    size, scale = runner.spec.input_size[0], runner.spec.crop_scale
    predicted: list[FloatArray] = []
    for start in progress(range(0, len(table), BATCH), "evaluate"):
        rows = range(start, min(start + BATCH, len(table)))
        crops = [
            cut_crop(read_image(table.files[i]), crop_matrix(bounds[i], scale=scale, size=size), size) for i in rows
        ]
        outputs = runner(np.stack([c.pixels for c in crops]))
        predicted += [c.to_image(p.astype(np.float64)) for c, p in zip(crops, outputs["landmarks"], strict=True)]
    return landmark_summary(np.stack(predicted), table) | {"unreadable": unreadable}


def evaluate_pipeline(
    pipeline: Pipeline, data: Path, *, validation_only: bool = False, progress: Progress = quiet
) -> dict[str, Any]:
    """The same measures over the whole path, picture to points.

    A face that is not found counts as a failure in AUC and FR, and under ``not_detected``; NME is of the found ones.
    """
    table, unreadable = _readable(_landmark_rows(data, validation_only))
    boxes = box_from_bounds(landmark_bounds(table.points))
    predicted = np.full((len(table), 68, 3), np.nan)
    for i in progress(range(len(table)), "evaluate"):
        faces = pipeline(read_image(table.files[i]))
        if len(faces):
            overlap = intersection_over_union(faces.boxes, boxes[i : i + 1])[:, 0]
            if overlap.max() >= SAME_FACE_IOU:
                predicted[i] = faces.landmarks[int(overlap.argmax())]
    if not np.isfinite(predicted).any():
        raise InputError(f"no labelled face of {data} was detected")
    missed = int(np.isnan(predicted[:, 0, 0]).sum())
    return landmark_summary(predicted, table) | {"not_detected": missed, "unreadable": unreadable}


def landmark_summary(predicted: FloatArray, table: LandmarkTable) -> dict[str, Any]:
    """Summarise landmarks (n, 68, 3) in image px, NaN where a face was not found, against their table."""
    labelled = np.concatenate([table.points, table.depth[..., None]], axis=2)
    errors = normalised_mean_error(predicted, labelled)
    sources = np.array(table.sources)
    summary: dict[str, Any] = {"task": "landmarks", **_landmark_measures(errors)}
    depths = depth_error(predicted, labelled)
    if np.isfinite(depths).any():
        summary["depth_error_percent"] = round(float(np.nanmean(depths)), 3)
    summary["by_source"] = {str(s): _landmark_measures(errors[sources == s]) for s in np.unique(sources)}
    return summary


def _landmark_measures(errors: FloatArray) -> dict[str, float | None]:
    found = errors[np.isfinite(errors)]
    failed = np.where(np.isfinite(errors), errors, np.inf)
    return {
        "count": len(errors),
        "nme": round(float(found.mean()), 3) if len(found) else None,
        "auc8": round(area_under_curve(failed), 2),
        "fr8": round(failure_rate(failed), 2),
    }


def _readable(table: LandmarkTable) -> tuple[LandmarkTable, list[str]]:
    """Leave out rows whose picture cannot be read; their errors are told at the end."""
    errors: dict[int, str] = {}
    for i, file in enumerate(table.files):
        try:
            read_image(file)
        except InputError as error:
            errors[i] = str(error)
    keep = np.array([i not in errors for i in range(len(table))])
    if not keep.any():
        raise InputError(f"none of the {len(table)} pictures can be read; the first: {next(iter(errors.values()))}")
    return table.mask(keep), list(errors.values())


def _landmark_rows(data: Path, validation_only: bool) -> LandmarkTable:
    table = read_landmarks(data)
    if validation_only:
        table = table.mask(held_out(table.subjects, HELD_OUT))
    if not len(table):
        raise InputError(f"{data}: nothing to evaluate; no subject falls into the validation split")
    return table


def evaluate_detector(
    detector: Detector, data: Path, *, validation_only: bool = False, progress: Progress = quiet
) -> dict[str, Any]:
    """AP50, and recall and precision at the detector's usual score, over boxed pictures, by smallest size of face.

    The detector should be opened with a low `min_score`, so that the whole curve is seen.
    """
    table = _picture_rows(data, validation_only)
    pictures: list[Detections] = []
    unreadable: list[str] = []
    for i in progress(range(len(table)), "evaluate"):
        try:
            boxes, scores = detector(read_image(table.files[i]))
            pictures.append(Detections(boxes, scores, table.boxes[i]))
        except InputError as error:
            unreadable.append(str(error))
    summary: dict[str, Any] = {"task": "detector", "pictures": len(pictures), "score": detector.usual_score}
    summary |= _detector_measures(pictures, 0.0, detector.usual_score)
    summary["by_min_side_px"] = {
        str(side): _detector_measures(pictures, side, detector.usual_score) for side in (16, 24, 40)
    }
    return summary | {"unreadable": unreadable}


def _picture_rows(data: Path, validation_only: bool) -> FaceTable:
    table = read_faces(data)
    if validation_only:
        table = table.mask(held_out_pictures(data, table))
    if not any(len(boxes) for boxes in table.boxes):
        raise InputError(f"{data}: no boxed face to evaluate on")
    return table


def _detector_measures(pictures: Sequence[Detections], min_side_px: float, score: float) -> dict[str, float]:
    curve = detection_curve(pictures, min_side_px=min_side_px)
    recall, precision = curve.at(score)
    precise = curve.precision >= 0.9
    return {
        "count": curve.faces,
        "ap50": round(curve.average_precision(), 2),
        "recall": round(recall, 2),
        "precision": round(precision, 2),
        "recall_at_precision_90": round(float(100 * curve.recall[precise].max()), 2) if precise.any() else 0.0,
    }
