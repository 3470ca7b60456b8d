"""The page of an evaluation shows what was measured: curves, counts, groups and the worst pictures."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from mien.bench.accuracy.evaluate_faces import landmark_summary
from mien.bench.accuracy.metrics import Detections
from mien.bench.data.age_gender_labels import read_age_gender
from mien.bench.data.class_folders import read_classes
from mien.bench.data.landmark_labels import read_landmarks
from mien.bench.report.accuracy_charts import BOTTOM, confusion, cumulative_errors, reliability
from mien.bench.report.accuracy_report import (
    WORST,
    accuracy_page,
    age_gender_sections,
    class_sections,
    detector_sections,
    landmark_sections,
)
from mien.bench.report.html_charts import TOP
from mien.bench.report.worst_pictures import LABELLED, PREDICTED, worst_rows
from mien.runtime.values import FloatArray


def pictures_of(page: str) -> list[np.ndarray]:
    jpegs = re.findall(r"data:image/jpeg;base64,([^\"]+)", page)
    return [cv2.imdecode(np.frombuffer(base64.b64decode(j), np.uint8), cv2.IMREAD_COLOR) for j in jpegs]


def captions_of(page: str) -> list[str]:
    return re.findall(r"<figcaption>(.*?)</figcaption>", page)


def percent_at_the_end(chart: str) -> float:
    last_y = float(re.findall(r'class="line line0" d="M[^"]* ([\d.]+)"', chart)[0])
    return 100 * (BOTTOM - last_y) / (BOTTOM - TOP)


def pixels_of(image: np.ndarray, colour: tuple[int, int, int]) -> int:
    return int((np.abs(image.astype(int) - colour).max(axis=2) < 60).sum())


def test_a_cumulative_curve_counts_what_failed_altogether() -> None:
    chart = cumulative_errors({"all": np.array([1.0, 2.0, 3.0, np.nan])}, label="errors", limit=8.0)
    assert percent_at_the_end(chart) == pytest.approx(75.0, abs=0.1)
    assert "all (4)" in chart


def test_a_confusion_matrix_has_a_row_per_labelled_class() -> None:
    table = confusion(np.array([0, 0, 0, 1]), np.array([0, 0, 1, 0]), ["cat", "<dog>"])
    assert re.findall(r">(\d+)</td>", table) == ["2", "1", "1", "0"]
    assert "&lt;dog&gt;" in table and "<dog>" not in table


def test_reliability_compares_the_predicted_with_the_observed_rate() -> None:
    chart = reliability(np.array([0.72, 0.78, 0.95, 1.0]), np.array([True, False, True, True]), label="r")
    assert "70 to 80 %: 2 samples, predicted 75.0 %, observed 50.0 %" in chart
    assert "90 to 100 %: 2 samples, predicted 97.5 %, observed 100.0 %" in chart


def test_the_worst_come_first_and_failures_before_them() -> None:
    assert worst_rows(np.array([1.0, 5.0, np.nan, 3.0]), 3) == [2, 1, 3]


def test_the_page_of_landmarks(landmark_folder: Path) -> None:
    table = read_landmarks(landmark_folder)
    predicted = np.concatenate([table.points, table.depth[..., None]], axis=2)
    predicted[3, :, 0] += 9.0
    predicted[5] = np.nan
    summary = {"model": "shipped", **landmark_summary(predicted, table), "unreadable": ["x.png is <empty>"]}
    page = accuracy_page(summary, landmark_folder, landmark_sections(predicted, table))
    captions, pictures = captions_of(page), pictures_of(page)
    assert captions[0].startswith("face_05.png: not found") and captions[1].startswith("face_03.png: NME")
    assert len(captions) == len(pictures) == WORST
    assert pixels_of(pictures[1], PREDICTED) > pixels_of(pictures[0], PREDICTED) + 100  # of the drawn mouths
    assert pixels_of(pictures[0], LABELLED) > 100 and pixels_of(pictures[1], LABELLED) > 100
    for group in ("all (24)", "drawn (12)", "sketched (12)", "x.png is &lt;empty&gt;"):
        assert group in page
    assert re.findall(r"(?:src|href)=\"(?!data:)|https?://", page) == []


def test_the_page_of_a_detector(landmark_folder: Path) -> None:
    files = read_landmarks(landmark_folder).files[:3]
    face, far = np.array([[20.0, 20.0, 80.0, 80.0]]), np.array([[100.0, 100.0, 140.0, 140.0]])
    none, scores = np.empty((0, 4)), np.array([0.9])
    detections = [
        Detections(face, scores, face),
        Detections(far, np.array([0.3]), face),  # too unsure to count
        Detections(far, scores, np.concatenate([face, face + 70])),
    ]
    sections = detector_sections(detections, files, 0.5)
    assert captions_of(sections) == [
        f"{files[2].name}: 2 of 2 faces missed, 1 false",
        f"{files[1].name}: 1 of 1 faces missed, 0 false",
    ]
    assert "from 40 px (4)" in sections
    without = detector_sections([Detections(none, np.empty(0), face)], files[:1], 0.5)
    assert "1 of 1 faces missed" in without
    assert "No mistakes." in detector_sections(detections[:1], files[:1], 0.5)


def test_the_page_of_ages_and_genders(age_gender_folder: Path) -> None:
    table = read_age_gender(age_gender_folder)
    predicted = np.stack([table.age, table.female * 0.8 + 0.1], axis=1)
    predicted[7] = table.age[7] + 30, 1 - predicted[7, 1]
    sections = age_gender_sections(predicted, table)
    first = f"07.png: age {table.age[7]:g}, predicted {table.age[7] + 30:.0f}; female, predicted male (90 %)"
    assert captions_of(sections)[0] == first
    assert re.findall(r">(\d+)</td>", sections) == ["20", "0", "1", "19"]


def test_the_page_of_a_classifier(class_folder: Path) -> None:
    table = read_classes(class_folder)
    table = replace(table, classes=("disc", "a & b"))
    probabilities: FloatArray = np.where(np.arange(2) == table.labels[:, None], 0.9, 0.1)
    probabilities[4] = probabilities[4, ::-1]
    captions = captions_of(class_sections(probabilities, table))
    assert captions[0] == f"{table.files[4].name}: disc (10 %), predicted a &amp; b (90 %)"
