"""Accuracy in the field's own terms: NME, AUC, FR for landmarks; AP, recall, precision for boxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mien.runtime.values import FloatArray
from mien.runtime.vision.geometry import intersection_over_union, longer_side

OUTER_EYE_CORNERS = (36, 45)
FAILURE_PERCENT = 8.0


def normalized_mean_error(predicted: FloatArray, labelled: FloatArray) -> FloatArray:
    """Inter-ocular NME (n,) in percent of landmarks (n, 68, ≥ 2) against labels (n, 68, ≥ 2), in any one unit.

    Mean distance of the points over the distance of the outer eye corners (Sagonas et al., 300-W, ICCVW 2013).
    """
    distance = np.linalg.norm(predicted[..., :2] - labelled[..., :2], axis=-1).mean(axis=-1)
    return 100 * distance / outer_eye_distance(labelled)


def outer_eye_distance(points: FloatArray) -> FloatArray:
    """Distance (n,) of the outer eye corners of landmarks (n, 68, ≥ 2)."""
    left, right = OUTER_EYE_CORNERS
    return np.linalg.norm(points[:, left, :2] - points[:, right, :2], axis=-1)


def depth_error(predicted: FloatArray, labelled: FloatArray) -> FloatArray:
    """Mean |Δz| (n,) in percent of the outer eye distance; each face's mean depth is taken off first.

    Landmarks are (n, 68, 3); faces whose labelled depth is unknown give NaN.
    """
    z_predicted = predicted[..., 2] - predicted[..., 2].mean(axis=-1, keepdims=True)
    z_labelled = labelled[..., 2] - labelled[..., 2].mean(axis=-1, keepdims=True)
    return 100 * np.abs(z_predicted - z_labelled).mean(axis=-1) / outer_eye_distance(labelled)


def area_under_curve(errors: FloatArray, limit: float = FAILURE_PERCENT) -> float:
    """Area under the cumulative error distribution up to `limit` percent, itself in percent.

    Exact for a step function: the mean of max(0, limit − error) / limit.
    """
    return float(100 * np.clip(limit - errors, 0, None).mean() / limit)


def failure_rate(errors: FloatArray, limit: float = FAILURE_PERCENT) -> float:
    """Share of errors above `limit`, in percent."""
    return float(100 * (errors > limit).mean())


def age_gender_measures(
    age: FloatArray, female: FloatArray, labelled_age: FloatArray, labelled_female: FloatArray
) -> dict[str, float]:
    """MAE in years, CS@5 and gender accuracy in percent, and how far the probabilities are off; all arrays (n,).

    CS@5 is the share of ages at most five years off. The calibration error is of the gender's probability, in percent
    (Guo et al., ICML 2017, eq. 3, ten bins).
    """
    distance = np.abs(age - labelled_age)
    return {
        "mae_years": float(distance.mean()),
        "cs5": float(100 * (distance <= 5).mean()),
        "gender_accuracy": float(100 * ((female >= 0.5) == (labelled_female >= 0.5)).mean()),
        "gender_calibration_error": calibration_error(female, labelled_female),
    }


def calibration_error(probability: FloatArray, labelled: FloatArray, *, bins: int = 10) -> float:
    """Expected calibration error in percent of probabilities (n,) against labels (n,) of 0 or 1."""
    confidence = np.maximum(probability, 1 - probability)
    right = (probability >= 0.5) == (labelled >= 0.5)
    which = np.minimum(((confidence - 0.5) * 2 * bins).astype(int), bins - 1)
    gaps = [abs(confidence[which == b].mean() - right[which == b].mean()) * (which == b).sum() for b in set(which)]
    return float(100 * sum(gaps) / len(probability))


@dataclass(frozen=True, slots=True)
class Detections:
    """One picture's boxes (n, 4) with scores (n,), and what is really there (m, 4)."""

    boxes: FloatArray
    scores: FloatArray
    labelled: FloatArray


@dataclass(frozen=True, slots=True)
class DetectionCurve:
    """Precision and recall at each score (k,), falling; `faces` counts what there was to find."""

    scores: FloatArray
    precision: FloatArray
    recall: FloatArray
    faces: int

    def average_precision(self) -> float:
        """Area under the precision envelope in percent (all-point interpolation, Pascal VOC 2010)."""
        envelope = np.maximum.accumulate(self.precision[::-1])[::-1]
        steps = np.diff(np.concatenate([[0.0], self.recall]))
        return float(100 * (envelope * steps).sum())

    def at(self, score: float) -> tuple[float, float]:
        """(recall, precision) in percent when only boxes of at least `score` are kept."""
        kept = int((self.scores >= score).sum())
        if kept == 0:
            return 0.0, 100.0
        return float(100 * self.recall[kept - 1]), float(100 * self.precision[kept - 1])


@dataclass(frozen=True, slots=True)
class Matches:
    """One picture's boxes that count, by falling score: their scores, which hit a face; and how many there are."""

    scores: tuple[float, ...]
    hits: tuple[bool, ...]
    faces: int


def match_picture(picture: Detections, *, min_side_px: float = 0.0, iou: float = 0.5) -> Matches:
    """Match boxes greedily by falling score, each labelled face once (Everingham et al., Pascal VOC).

    Labelled faces whose longer side is under `min_side_px`, and boxes of that size that match none, do not count.
    """
    scores: list[float] = []
    hits: list[bool] = []
    ignored = longer_side(picture.labelled) < min_side_px
    free = np.ones(len(picture.labelled), dtype=bool)
    overlap = intersection_over_union(picture.boxes, picture.labelled)
    for i in np.argsort(-picture.scores, kind="stable"):
        candidates = np.where(free, overlap[i], 0.0)
        best = int(candidates.argmax()) if len(candidates) else -1
        if best >= 0 and candidates[best] >= iou:
            free[best] = False
            if ignored[best]:
                continue
            hits.append(True)
        elif longer_side(picture.boxes[i : i + 1])[0] < min_side_px:
            continue
        else:
            hits.append(False)
        scores.append(float(picture.scores[i]))
    return Matches(tuple(scores), tuple(hits), int((~ignored).sum()))


def curve_of(matches: Sequence[Matches]) -> DetectionCurve:
    """Precision and recall over pictures."""
    scores = np.array([score for m in matches for score in m.scores], dtype=np.float64)
    hits = np.array([hit for m in matches for hit in m.hits], dtype=np.float64)
    total = sum(m.faces for m in matches)
    order = np.argsort(-scores, kind="stable")
    found = np.cumsum(hits[order])
    return DetectionCurve(
        scores=scores[order],
        precision=found / np.arange(1, len(found) + 1),
        recall=found / max(total, 1),
        faces=total,
    )


def detection_curve(pictures: Sequence[Detections], *, min_side_px: float = 0.0, iou: float = 0.5) -> DetectionCurve:
    """The curve of `match_picture` over pictures."""
    return curve_of([match_picture(picture, min_side_px=min_side_px, iou=iou) for picture in pictures])
