"""Evaluation of landmark models, detectors and the pipeline on labelled faces."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...runtime.errors import InputError
from ...runtime.faces.detector import Detector
from ...runtime.models.runner import Runner, check_task
from ...runtime.models.spec import Task
from ...runtime.pipeline.pipeline import Pipeline
from ...runtime.values import FloatArray, Progress
from ...runtime.vision.crop import cut_crop
from ...runtime.vision.geometry import (
    SAME_FACE_IOU,
    box_from_bounds,
    crop_matrix,
    intersection_over_union,
    landmark_bounds,
)
from ..data.face_boxes import FaceTable, held_out_pictures, pictures_in_test_split, read_faces
from ..data.landmark_labels import LandmarkTable, read_landmarks
from .evaluation import Evaluation, PictureReader, in_batches, of_test_split
from .metrics import (
    Detections,
    area_under_curve,
    depth_error,
    detection_curve,
    failure_rate,
    normalized_mean_error,
)

LOWEST_SCORE = 0.02
"""Score threshold for evaluating a detector, low enough for the whole precision-recall curve."""


def evaluate_landmarks(
    runner: Runner, data: Path, *, held_out: bool = False, progress: Progress | None = None
) -> Evaluation[FloatArray, LandmarkTable]:
    """Compute NME, AUC@8 and FR@8 of a landmark model on crops cut around the labelled points.

    Args:
        runner: The landmark model.
        data: Folder with labelled landmarks.
        held_out: Evaluate only on the subjects that `mien train` holds out.
        progress: Called after each picture.

    Returns:
        Landmarks (n, 68, 3) in image px, their labels, and metrics in percent over all faces, ``by_source`` and, of
        held-out subjects, over the ``test_split``.

    Raises:
        InputError: The model is for another task, labels are malformed, or there is no face to evaluate on.
    """
    check_task(runner.spec, Task.LANDMARKS)
    table = read_labelled_faces(data, held_out)
    bounds = landmark_bounds(table.points)
    size, scale = runner.spec.input_size[0], runner.spec.crop_scale
    predicted = np.full((len(table), 68, 3), np.nan)
    pictures = PictureReader(table.files, progress)
    crops = ((i, cut_crop(image, crop_matrix(bounds[i], scale=scale, size=size), size)) for i, image in pictures)
    for batch in in_batches(crops):
        outputs = runner(np.stack([crop.pixels for crop in batch.values()]))
        for (i, crop), points in zip(batch.items(), outputs["landmarks"], strict=True):
            predicted[i] = crop.to_image(points.astype(np.float64))
    keep = pictures.readable()
    predicted, table = predicted[keep], table.mask(keep)
    summary = landmark_summary(predicted, table, held_out=held_out)
    return Evaluation(predicted, table, summary | {"unreadable": pictures.messages})


def evaluate_pipeline(
    pipeline: Pipeline, data: Path, *, held_out: bool = False, progress: Progress | None = None
) -> Evaluation[FloatArray, LandmarkTable]:
    """Compute the metrics of `evaluate_landmarks` for the whole pipeline, from picture to points.

    A face that is not detected has landmarks of NaN. It counts as a failure in AUC and FR, and under ``not_detected``;
    NME is the mean over detected faces. Arguments and errors are those of `evaluate_landmarks`.
    """
    table = read_labelled_faces(data, held_out)
    boxes = box_from_bounds(landmark_bounds(table.points))
    predicted = np.full((len(table), 68, 3), np.nan)
    pictures = PictureReader(table.files, progress)
    for i, image in pictures:
        faces = pipeline(image)
        if len(faces):
            overlap = intersection_over_union(faces.boxes, boxes[i : i + 1])[:, 0]
            if overlap.max() >= SAME_FACE_IOU:
                predicted[i] = faces.landmarks[int(overlap.argmax())]
    keep = pictures.readable()
    if not np.isfinite(predicted).any():
        raise InputError(f"no labelled face of {data} was detected")
    predicted, table = predicted[keep], table.mask(keep)
    summary = landmark_summary(predicted, table, held_out=held_out)
    summary |= {"not_detected": int(np.isnan(predicted[:, 0, 0]).sum()), "unreadable": pictures.messages}
    return Evaluation(predicted, table, summary)


def landmark_summary(predicted: FloatArray, table: LandmarkTable, *, held_out: bool = False) -> dict[str, Any]:
    """Compare landmarks (n, 68, 3) in image px, NaN where a face was not found, with their labels.

    Args:
        predicted: Landmarks.
        table: Their labels.
        held_out: Whether these are the held-out subjects, so that the test split is also measured on its own.
    """
    labelled = np.concatenate([table.points, table.depth[..., None]], axis=2)
    errors = normalized_mean_error(predicted, labelled)
    sources = np.array(table.sources)
    summary: dict[str, Any] = {"task": "landmarks", **_landmark_measures(errors)}
    depths = depth_error(predicted, labelled)
    if np.isfinite(depths).any():
        summary["depth_error_percent"] = round(float(np.nanmean(depths)), 3)
    if held_out:
        summary |= of_test_split(lambda rows: _landmark_measures(errors[rows]), table.in_test_split())
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


def read_labelled_faces(data: Path, held_out: bool) -> LandmarkTable:
    """Read the labelled landmarks of a folder, or only the held-out ones.

    Raises:
        InputError: Labels are malformed, or nothing is held out.
    """
    table = read_landmarks(data)
    if held_out:
        table = table.mask(table.held_out())
    if not len(table):
        raise InputError(f"{data}: nothing to evaluate; no subject is held out")
    return table


def evaluate_detector(
    detector: Detector, data: Path, *, held_out: bool = False, progress: Progress | None = None
) -> Evaluation[list[Detections], FaceTable]:
    """Compute AP50, and recall and precision at the detector's default score, on pictures with boxed faces.

    Args:
        detector: Detector opened with a `min_score` of `LOWEST_SCORE`, so that the curve is complete.
        data: Folder with boxed faces.
        held_out: Evaluate only on the pictures that `mien train` holds out.
        progress: Called after each picture.

    Returns:
        The detections in each picture, the labels, and metrics in percent over all faces, ``by_min_side_px`` and, of
        held-out pictures, over the ``test_split``.

    Raises:
        InputError: Labels are malformed, or there is no face to evaluate on.
    """
    detections, table, unreadable = detect_faces(detector, data, held_out=held_out, progress=progress)
    score = detector.usual_score
    summary: dict[str, Any] = {"task": "detector", "pictures": len(detections), "score": score}
    summary |= _detector_measures(detections, 0.0, score)
    if held_out:
        summary |= of_test_split(
            lambda rows: _detector_measures([detections[i] for i in np.flatnonzero(rows)], 0.0, score),
            pictures_in_test_split(data, table),
        )
    summary["by_min_side_px"] = {str(side): _detector_measures(detections, side, score) for side in (16, 24, 40)}
    return Evaluation(detections, table, summary | {"unreadable": unreadable})


def detect_faces(
    detector: Detector, data: Path, *, held_out: bool, progress: Progress | None = None
) -> tuple[list[Detections], FaceTable, list[str]]:
    """Run a detector on labelled pictures.

    Returns:
        Detected and labelled boxes of each readable picture, the corresponding rows of the label table, and the error
        messages of unreadable pictures.
    """
    table = read_boxed_pictures(data, held_out)
    pictures = PictureReader(table.files, progress)
    detections = [Detections(*detector(image), table.boxes[i]) for i, image in pictures]
    return detections, table.mask(pictures.readable()), pictures.messages


def read_boxed_pictures(data: Path, held_out: bool) -> FaceTable:
    """Read the boxed faces of a folder, or only the held-out pictures.

    Raises:
        InputError: Labels are malformed, or there is no face.
    """
    table = read_faces(data)
    if held_out:
        table = table.mask(held_out_pictures(data, table))
    if not any(len(boxes) for boxes in table.boxes):
        raise InputError(f"{data}: no boxed face to evaluate on")
    return table


def _detector_measures(detections: Sequence[Detections], min_side_px: float, score: float) -> dict[str, float]:
    curve = detection_curve(detections, min_side_px=min_side_px)
    recall, precision = curve.at(score)
    precise = curve.precision >= 0.9
    return {
        "count": curve.faces,
        "ap50": round(curve.average_precision(), 2),
        "recall": round(recall, 2),
        "precision": round(precision, 2),
        "recall_at_precision_90": round(float(100 * curve.recall[precise].max()), 2) if precise.any() else 0.0,
    }
