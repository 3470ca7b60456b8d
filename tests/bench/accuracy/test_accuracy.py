from __future__ import annotations

import numpy as np
import pytest

from mien.bench.accuracy.accuracy import REPLICATES, Metric, mean_accuracy, resampled
from mien.bench.accuracy.metrics import Detections, curve_of, detection_curve, match_picture
from mien.runtime.errors import InputError


def test_a_mean_comes_with_a_bootstrap_that_covers_it() -> None:
    covered = 0
    for seed in range(50):
        found = mean_accuracy(np.random.default_rng(seed).gamma(2.0, 1.0, 100), Metric.NME, data_digest="d")
        low, high = np.quantile(found.replicates, [0.025, 0.975])
        covered += bool(low <= 2.0 <= high)
    assert 43 <= covered <= 50 and len(found.replicates) == REPLICATES and found.count == 100


def test_the_draws_depend_on_nothing_but_the_number_of_samples() -> None:
    values = np.random.default_rng(0).uniform(1, 2, 60)
    one, other = (mean_accuracy(v, Metric.MAE, data_digest="d") for v in (values, values + 0.5))
    assert np.allclose(np.array(other.replicates) - np.array(one.replicates), 0.5, atol=1e-5)
    assert str(one) == f"{one.value:.2f} years"


def test_ap_is_resampled_by_pictures_without_matching_anew() -> None:
    rng = np.random.default_rng(3)
    pictures = []
    for _ in range(12):
        labelled = np.array([[10.0, 10, 40, 40], [60, 60, 80, 80]])
        boxes = labelled + rng.normal(0, 6, labelled.shape)
        pictures.append(Detections(np.vstack([boxes, [[90.0, 0, 99, 9]]]), rng.uniform(0.2, 1, 3), labelled))
    matches = [match_picture(picture) for picture in pictures]
    for picks in (range(12), [3, 3, 5], [0]):
        wanted = detection_curve([pictures[i] for i in picks]).average_precision()
        assert curve_of([matches[i] for i in picks]).average_precision() == wanted
    found = resampled(
        lambda rows: curve_of([matches[i] for i in rows]).average_precision(), 12, Metric.AP50, data_digest="d"
    )
    assert 0 < min(found.replicates) < found.value < max(found.replicates) <= 100


def test_no_samples_and_no_numbers_are_refused() -> None:
    with pytest.raises(InputError, match="no labelled samples"):
        mean_accuracy(np.empty(0), Metric.NME, data_digest="d")
    with pytest.raises(InputError, match="not a finite number"):
        mean_accuracy(np.array([1.0, np.nan]), Metric.NME, data_digest="d")
