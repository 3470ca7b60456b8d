"""An evaluation as a self-contained HTML page: metrics, charts, groups, and the worst pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from ...runtime.values import FloatArray
from ..accuracy.metrics import (
    FAILURE_PERCENT,
    Detections,
    calibration_error,
    detection_curve,
    match_picture,
    normalized_mean_error,
)
from ..data.age_gender_labels import AgeGenderTable
from ..data.class_folders import ClassTable
from ..data.landmark_labels import LandmarkTable
from .accuracy_charts import confusion, cumulative_errors, line_chart, reliability
from .html_page import bullets, gallery, page, section, table
from .tables import Table
from .worst_pictures import face_with_points, picture_with_boxes, whole_picture, worst_rows

WORST = 20
DRAWN = "Labels are green, predictions red."
FACE_SIDES_PX = (0.0, 16.0, 24.0, 40.0)
FAR_OFF_YEARS = 5.0


def landmark_sections(predicted: FloatArray, labels: LandmarkTable) -> str:
    """Render the cumulative error by source, and the worst faces.

    Args:
        predicted: Landmarks (n, 68, 3) in image px, NaN for faces that were not found.
        labels: Labels of the same faces.
    """
    errors, sources = normalized_mean_error(predicted, labels.points), np.array(labels.sources)
    groups = {"all": errors}
    if len(set(labels.sources)) > 1:
        groups |= {str(source): errors[sources == source] for source in np.unique(sources)}
    curve = cumulative_errors(groups, label="percentage of faces over NME in percent", limit=FAILURE_PERCENT)
    worst = [
        (
            face_with_points(labels.files[i], labels.points[i], predicted[i, :, :2]),
            f"{labels.files[i].name}: {'not found' if np.isnan(errors[i]) else f'NME {errors[i]:.1f} %'}, {sources[i]}",
        )
        for i in worst_rows(errors, WORST)
    ]
    caption = "Across: NME in percent of the outer eye distance. Up: percentage of faces with at most that error."
    return section("Cumulative error", curve, f"{caption} Dashed: the limit of FR and AUC.") + _worst(worst, DRAWN)


def detector_sections(detections: Sequence[Detections], files: Sequence[Path], score: float) -> str:
    """Render precision-recall curves by face size, and the pictures with the most mistakes.

    Args:
        detections: Detected and labelled boxes of each picture.
        files: File of each picture.
        score: The detector's default score threshold.
    """
    lines, dots = {}, {}
    for side in FACE_SIDES_PX:
        curve = detection_curve(detections, min_side_px=side)
        if not curve.faces or not len(curve.scores):
            continue
        name = f"{f'from {side:g} px' if side else 'all'} ({curve.faces})"
        lines[name], dots[name] = (100 * curve.recall, 100 * curve.precision), curve.at(score)
    chart = line_chart(lines, label="precision over recall, in percent", x_range=(0.0, 100.0), dots=dots)
    kept = [Detections(d.boxes[d.scores >= score], d.scores[d.scores >= score], d.labelled) for d in detections]
    found = [sum(match_picture(d).hits) for d in kept]
    missed = np.array([len(d.labelled) - hits for d, hits in zip(kept, found, strict=True)])
    wrong = np.array([len(d.boxes) - hits for d, hits in zip(kept, found, strict=True)])
    worst = [
        (
            picture_with_boxes(files[i], kept[i].labelled, kept[i].boxes, kept[i].scores.tolist()),
            f"{files[i].name}: {missed[i]} of {len(kept[i].labelled)} faces missed, {wrong[i]} false",
        )
        for i in worst_rows((missed + wrong).astype(float), WORST)
        if missed[i] + wrong[i]
    ]
    caption = f"Across: recall. Up: precision. One line per minimum face size; dots mark a score of {score:g}."
    return section("Precision and recall", chart, caption) + _worst(worst, f"{DRAWN} Boxes scored {score:g} or more.")


def age_gender_sections(predicted: FloatArray, labels: AgeGenderTable) -> str:
    """Render the cumulative age error, the reliability and confusion of the gender, and the worst ages.

    Args:
        predicted: Predictions (n, ≥ 2): age in years, probability of female; further columns are ignored.
        labels: Labels of the same faces.
    """
    age, female = predicted.T[:2]
    errors, is_female = np.abs(age - labels.age), labels.female >= 0.5
    curve = cumulative_errors({"all": errors}, label="percentage of faces over the error in years", limit=FAR_OFF_YEARS)
    genders = ("male", "female")
    worst = [
        (
            whole_picture(labels.files[i]),
            f"{labels.files[i].name}: age {labels.age[i]:g}, predicted {age[i]:.0f}; {genders[int(is_female[i])]}, "
            f"predicted {genders[int(female[i] >= 0.5)]} ({100 * max(female[i], 1 - female[i]):.0f} %)",
        )
        for i in worst_rows(errors, WORST)
    ]
    caption = "Across: error in years. Up: percentage of faces with at most that error. Dashed: CS@5."
    gender = reliability(female, is_female, label="labelled female over predicted probability of female, in percent")
    return (
        section("Age: cumulative error", curve, caption)
        + _reliable("Gender: reliability", gender, calibration_error(female, labels.female))
        + section("Gender: confusion", confusion(is_female.astype(int), (female >= 0.5).astype(int), genders))
        + _worst(worst, "Sorted by age error.")
    )


def class_sections(probabilities: FloatArray, labels: ClassTable) -> str:
    """Render the confusion matrix, the reliability of the top class, and the worst pictures.

    Args:
        probabilities: Class probabilities (n, classes).
        labels: Labels of the same pictures.
    """
    best = probabilities.argmax(axis=1)
    highest, correct = probabilities.max(axis=1), best == labels.labels
    of_label = probabilities[np.arange(len(labels)), labels.labels]
    worst = [
        (
            whole_picture(labels.files[i]),
            f"{labels.files[i].name}: {labels.classes[labels.labels[i]]} ({100 * of_label[i]:.0f} %), predicted "
            f"{labels.classes[best[i]]} ({100 * highest[i]:.0f} %)",
        )
        for i in worst_rows(-of_label, WORST)
    ]
    chart = reliability(highest, correct, label="accuracy over the probability of the predicted class, in percent")
    return (
        section("Confusion", confusion(labels.labels, best, labels.classes))
        + _reliable("Reliability", chart, None)
        + _worst(worst, "Sorted by the probability of the labelled class.")
    )


def accuracy_page(summary: dict[str, Any], data: Path, sections: str) -> str:
    """Render the page of an evaluation.

    Args:
        summary: Metrics by name; a mapping becomes a table of its own.
        data: Folder with the labels.
        sections: HTML of the task's charts and pictures.
    """
    single = {k: v for k, v in summary.items() if k not in ("model", "task") and not isinstance(v, (dict, list))}
    groups = "".join(f"<h2>{escape(title)}</h2>{table(content)}" for title, content in group_tables(summary).items())
    about = f"<p>{escape(str(summary['model']))} on {escape(data.resolve().name)}</p>"
    body = f"{about}{table(_measures({'all': single}))}{groups}{sections}{bullets('Skipped', summary['unreadable'])}"
    return page(f"mien evaluate {summary['task']}", body)


def group_tables(summary: Mapping[str, Any]) -> dict[str, Table]:
    """Tabulate the groups of metrics in a summary, such as those by source, by title."""
    tables = {}
    for name, group in summary.items():
        if isinstance(group, dict):
            rows = group if isinstance(next(iter(group.values())), dict) else {"": group}
            tables[name.replace("_", " ").capitalize()] = _measures(rows)
    return tables


def _measures(rows: Mapping[str, Mapping[str, object]]) -> Table:
    """Tabulate metrics, one row per group."""
    names = list(next(iter(rows.values())))
    head = ["", *(name.replace("_", " ") for name in names)]
    return head, [[group, *(_text(row.get(name)) for name in names)] for group, row in rows.items()]


def _text(value: object) -> str:
    return "–" if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def _reliable(title: str, chart: str, error: float | None) -> str:
    measured = "" if error is None else f" Expected calibration error: {error:.1f} %."
    caption = f"Across: predicted probability. Up: observed frequency. Dashed: a perfectly calibrated model.{measured}"
    return section(title, chart, caption)


def _worst(pictures: Sequence[tuple[bytes, str]], caption: str) -> str:
    return section("Worst pictures", f"<p>{caption}</p>{gallery(pictures)}" if pictures else "<p>No mistakes.</p>")
