"""`mien evaluate`: accuracy of any `Runner` on labelled folders. No torch is needed here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from mien.bench.accuracy.metrics import (
    Detections,
    area_under_curve,
    depth_error,
    detection_curve,
    failure_rate,
    normalized_mean_error,
)
from mien.bench.data.face_boxes import FaceTable, held_out_pictures, read_faces
from mien.bench.data.landmark_labels import LandmarkTable, read_landmarks
from mien.bench.data.splits import HELD_OUT, held_out
from mien.runtime.errors import InputError
from mien.runtime.faces.detector import Detector
from mien.runtime.faces.pipeline import Pipeline
from mien.runtime.faces.tracker import SAME_FACE_IOU
from mien.runtime.images import read_image
from mien.runtime.models.runner import Runner
from mien.runtime.models.spec import Task
from mien.runtime.values import FloatArray, Image
from mien.runtime.vision.crop import cut_crop
from mien.runtime.vision.geometry import box_from_bounds, crop_matrix, intersection_over_union, landmark_bounds

BATCH = 32
Row = TypeVar("Row")
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
    table = landmark_rows(data, validation_only)
    unreadable: dict[int, str] = {}
    predicted = locate_labelled(runner, table, unreadable, progress)
    keep = readable_rows(len(table), unreadable)
    return landmark_summary(predicted[keep], table.mask(keep)) | {"unreadable": list(unreadable.values())}


def locate_labelled(
    runner: Runner, table: LandmarkTable, unreadable: dict[int, str], progress: Progress = quiet
) -> FloatArray:
    """Landmarks (n, 68, 3) in image px of crops cut from the labelled points; NaN for pictures that cannot be read."""
    bounds = landmark_bounds(table.points)
    size, scale = runner.spec.input_size[0], runner.spec.crop_scale
    predicted = np.full((len(table), 68, 3), np.nan)
    crops = (
        (i, cut_crop(image, crop_matrix(bounds[i], scale=scale, size=size), size))
        for i, image in readable_pictures(table.files, unreadable, progress)
    )
    for batch in in_batches(crops):
        outputs = runner(np.stack([crop.pixels for crop in batch.values()]))
        for (i, crop), points in zip(batch.items(), outputs["landmarks"], strict=True):
            predicted[i] = crop.to_image(points.astype(np.float64))
    return predicted


def in_batches(rows: Iterable[tuple[int, Row]]) -> Iterator[dict[int, Row]]:
    """Put rows with their numbers together, `BATCH` at a time."""
    waiting: dict[int, Row] = {}
    for i, row in rows:
        waiting[i] = row
        if len(waiting) == BATCH:
            yield waiting
            waiting = {}
    if waiting:
        yield waiting


def evaluate_pipeline(
    pipeline: Pipeline, data: Path, *, validation_only: bool = False, progress: Progress = quiet
) -> dict[str, Any]:
    """The same measures over the whole path, picture to points.

    A face that is not found counts as a failure in AUC and FR, and under ``not_detected``; NME is of the found ones.
    """
    table = landmark_rows(data, validation_only)
    unreadable: dict[int, str] = {}
    boxes = box_from_bounds(landmark_bounds(table.points))
    predicted = np.full((len(table), 68, 3), np.nan)
    for i, image in readable_pictures(table.files, unreadable, progress):
        faces = pipeline(image)
        if len(faces):
            overlap = intersection_over_union(faces.boxes, boxes[i : i + 1])[:, 0]
            if overlap.max() >= SAME_FACE_IOU:
                predicted[i] = faces.landmarks[int(overlap.argmax())]
    keep = readable_rows(len(table), unreadable)
    if not np.isfinite(predicted).any():
        raise InputError(f"no labelled face of {data} was detected")
    missed = int(np.isnan(predicted[keep, 0, 0]).sum())
    summary = landmark_summary(predicted[keep], table.mask(keep))
    return summary | {"not_detected": missed, "unreadable": list(unreadable.values())}


def landmark_summary(predicted: FloatArray, table: LandmarkTable) -> dict[str, Any]:
    """Summarise landmarks (n, 68, 3) in image px, NaN where a face was not found, against their table."""
    labelled = np.concatenate([table.points, table.depth[..., None]], axis=2)
    errors = normalized_mean_error(predicted, labelled)
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


def readable_pictures(
    files: Sequence[Path], unreadable: dict[int, str], progress: Progress
) -> Iterator[tuple[int, Image]]:
    """Yield (row, picture); rows that cannot be read are noted in `unreadable` instead."""
    for i in progress(range(len(files)), "evaluate"):
        try:
            image = read_image(files[i])
        except InputError as error:
            unreadable[i] = str(error)
        else:
            yield i, image


def readable_rows(rows: int, unreadable: dict[int, str]) -> npt.NDArray[np.bool_]:
    """Mark the rows (n,) that could be read."""
    if len(unreadable) == rows:
        raise InputError(f"none of the {rows} pictures can be read; the first: {next(iter(unreadable.values()))}")
    return np.array([i not in unreadable for i in range(rows)])


def landmark_rows(data: Path, validation_only: bool) -> LandmarkTable:
    """Read the labelled faces of a folder, or those that training never sees.

    Raises:
        InputError: malformed labels, or nothing left to measure.
    """
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
    table = picture_rows(data, validation_only)
    unreadable: dict[int, str] = {}
    pictures = detect_labelled(detector, table, unreadable, progress)
    summary: dict[str, Any] = {"task": "detector", "pictures": len(pictures), "score": detector.usual_score}
    summary |= _detector_measures(pictures, 0.0, detector.usual_score)
    summary["by_min_side_px"] = {
        str(side): _detector_measures(pictures, side, detector.usual_score) for side in (16, 24, 40)
    }
    return summary | {"unreadable": list(unreadable.values())}


def detect_labelled(
    detector: Detector, table: FaceTable, unreadable: dict[int, str], progress: Progress = quiet
) -> list[Detections]:
    """What a detector finds in every picture that can be read."""
    pictures = []
    for i, image in readable_pictures(table.files, unreadable, progress):
        boxes, scores = detector(image)
        pictures.append(Detections(boxes, scores, table.boxes[i]))
    return pictures


def picture_rows(data: Path, validation_only: bool) -> FaceTable:
    """Read the boxed pictures of a folder, or those that training never sees.

    Raises:
        InputError: malformed labels, or no boxed face.
    """
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
