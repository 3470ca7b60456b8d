"""Accuracy metrics: NME, AUC and FR of landmarks; MAE and CS of ages; AP, recall and precision of boxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...runtime.values import FloatArray
from ...runtime.vision.geometry import intersection_over_union, longer_side

OUTER_EYE_CORNERS = (36, 45)
FAILURE_PERCENT = 8.0
BINS = 10
MATCH_IOU = 0.5


def normalized_mean_error(predicted: FloatArray, labelled: FloatArray) -> FloatArray:
    """Compute the inter-ocular NME: mean point distance over the distance of the outer eye corners.

    As defined by Sagonas et al., 300 Faces in-the-Wild Challenge, ICCVW 2013.

    Args:
        predicted: Landmarks (n, 68, 2 or 3); z is ignored.
        labelled: Labelled landmarks (n, 68, 2 or 3), in the same unit.

    Returns:
        Error of each face (n,) in percent.
    """
    distance = np.linalg.norm(predicted[..., :2] - labelled[..., :2], axis=-1).mean(axis=-1)
    return 100 * distance / outer_eye_distance(labelled)


def outer_eye_distance(points: FloatArray) -> FloatArray:
    """Return the distance (n,) between the outer eye corners of landmarks (n, 68, 2 or 3), in their unit."""
    left, right = OUTER_EYE_CORNERS
    return np.linalg.norm(points[:, left, :2] - points[:, right, :2], axis=-1)


def depth_error(predicted: FloatArray, labelled: FloatArray) -> FloatArray:
    """Compute the mean |Δz| divided by the outer eye distance, after subtracting each face's mean depth.

    Args:
        predicted: Landmarks (n, 68, 3).
        labelled: Labelled landmarks (n, 68, 3), z NaN where the depth is unknown.

    Returns:
        Error of each face (n,) in percent, NaN where the labelled depth is unknown.
    """
    z_predicted = predicted[..., 2] - predicted[..., 2].mean(axis=-1, keepdims=True)
    z_labelled = labelled[..., 2] - labelled[..., 2].mean(axis=-1, keepdims=True)
    return 100 * np.abs(z_predicted - z_labelled).mean(axis=-1) / outer_eye_distance(labelled)


def area_under_curve(errors: FloatArray) -> float:
    """Compute the area under the cumulative distribution of errors (n,) up to `FAILURE_PERCENT`, in percent.

    The area of the step function is exactly the mean of max(0, limit − error) / limit.
    """
    return float(100 * np.clip(FAILURE_PERCENT - errors, 0, None).mean() / FAILURE_PERCENT)


def failure_rate(errors: FloatArray) -> float:
    """Return the percentage of errors (n,) above `FAILURE_PERCENT`."""
    return float(100 * (errors > FAILURE_PERCENT).mean())


def age_gender_measures(
    age: FloatArray, female: FloatArray, labelled_age: FloatArray, labelled_female: FloatArray
) -> dict[str, float]:
    """Compute the metrics of age and gender estimates.

    Args:
        age: Estimated ages (n,) in years.
        female: Estimated probabilities of female (n,).
        labelled_age: True ages (n,) in years.
        labelled_female: True genders (n,), 0 or 1.

    Returns:
        MAE in years; CS@5, the percentage of ages at most five years off; gender accuracy in percent; and the
        calibration error of the gender in percent, see `calibration_error`.
    """
    distance = np.abs(age - labelled_age)
    return {
        "mae_years": float(distance.mean()),
        "cs5": float(100 * (distance <= 5).mean()),
        "gender_accuracy": float(100 * ((female >= 0.5) == (labelled_female >= 0.5)).mean()),
        "gender_calibration_error": calibration_error(female, labelled_female),
    }


def calibration_error(probability: FloatArray, labelled: FloatArray) -> float:
    """Compute the expected calibration error in percent, over `BINS` of the confidence between 0.5 and 1.

    As defined by Guo et al., ICML 2017, eq. 3.

    Args:
        probability: Estimated probabilities (n,) of a label 1.
        labelled: Labels (n,), 0 or 1.
    """
    confidence = np.maximum(probability, 1 - probability)
    correct = (probability >= 0.5) == (labelled >= 0.5)
    which = np.minimum(((confidence - 0.5) * 2 * BINS).astype(int), BINS - 1)
    gaps = [abs(confidence[which == b].mean() - correct[which == b].mean()) * (which == b).sum() for b in set(which)]
    return float(100 * sum(gaps) / len(probability))


@dataclass(frozen=True, slots=True)
class Detections:
    """Detected boxes (n, 4) of one picture with their scores (n,), and its labelled boxes (m, 4); all xyxy px."""

    boxes: FloatArray
    scores: FloatArray
    labelled: FloatArray


@dataclass(frozen=True, slots=True)
class DetectionCurve:
    """Precision-recall curve.

    Attributes:
        scores: Scores (k,) of the detections, in descending order.
        precision: Precision (k,), 0 to 1, of the detections up to each score.
        recall: Recall (k,), 0 to 1, likewise.
        faces: Number of labelled faces.
    """

    scores: FloatArray
    precision: FloatArray
    recall: FloatArray
    faces: int

    def average_precision(self) -> float:
        """Compute the area under the precision envelope in percent (all-point interpolation, Pascal VOC 2010)."""
        envelope = np.maximum.accumulate(self.precision[::-1])[::-1]
        steps = np.diff(np.concatenate([[0.0], self.recall]))
        return float(100 * (envelope * steps).sum())

    def at(self, score: float) -> tuple[float, float]:
        """Return recall and precision in percent of the boxes with a score of at least `score`."""
        kept = int((self.scores >= score).sum())
        if kept == 0:
            return 0.0, 100.0
        return float(100 * self.recall[kept - 1]), float(100 * self.precision[kept - 1])


@dataclass(frozen=True, slots=True)
class Matches:
    """Matched detections of one picture, by descending score.

    Attributes:
        scores: Scores of the detections.
        hits: Whether each detection matches a labelled face.
        faces: Number of labelled faces that are not ignored.
    """

    scores: tuple[float, ...]
    hits: tuple[bool, ...]
    faces: int


def match_picture(picture: Detections, *, min_side_px: float = 0.0) -> Matches:
    """Match detections to labelled faces greedily by descending score, at an IoU of `MATCH_IOU` or more.

    As in Everingham et al., Pascal VOC, IJCV 2010.

    Args:
        picture: Detected and labelled boxes.
        min_side_px: Ignore labelled faces whose longer side is shorter, and unmatched detections of that size.
    """
    scores: list[float] = []
    hits: list[bool] = []
    ignored = longer_side(picture.labelled) < min_side_px
    free = np.ones(len(picture.labelled), dtype=bool)
    overlap = intersection_over_union(picture.boxes, picture.labelled)
    for i in np.argsort(-picture.scores, kind="stable"):
        candidates = np.where(free, overlap[i], 0.0)
        best = int(candidates.argmax()) if len(candidates) else -1
        if best >= 0 and candidates[best] >= MATCH_IOU:
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
    """Compute the precision-recall curve over the matches of all pictures."""
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


def detection_curve(pictures: Sequence[Detections], *, min_side_px: float = 0.0) -> DetectionCurve:
    """Match all pictures with `match_picture`, and compute the precision-recall curve."""
    return curve_of([match_picture(picture, min_side_px=min_side_px) for picture in pictures])
