from __future__ import annotations

import numpy as np
import pytest

from mien.bench.accuracy.metrics import age_gender_measures, calibration_error


def test_ages_and_genders_by_hand() -> None:
    age, labelled = np.array([20.0, 36.0, 50.0, 70.0]), np.array([25.0, 30.0, 50.0, 80.0])
    female, is_female = np.array([0.9, 0.4, 0.2, 0.6]), np.array([1.0, 1.0, 0.0, 0.0])
    found = age_gender_measures(age, female, labelled, is_female)
    assert found["mae_years"] == pytest.approx((5 + 6 + 0 + 10) / 4)
    assert found["cs5"] == 50 and found["gender_accuracy"] == 50


def test_calibration_by_hand_and_of_honest_probabilities() -> None:
    # Four faces at 0.9 of which three are right, two at 0.3 (0.7 sure of male) of which one is.
    probability, labelled = np.array([0.9] * 4 + [0.3] * 2), np.array([1, 1, 1, 0, 0, 1])
    assert calibration_error(probability, labelled) == pytest.approx(100 * (4 * 0.15 + 2 * 0.2) / 6)
    rng = np.random.default_rng(0)
    honest = rng.uniform(0, 1, 20_000)
    assert calibration_error(honest, (rng.uniform(0, 1, 20_000) < honest).astype(float)) < 1.5
    assert calibration_error(honest**4, (rng.uniform(0, 1, 20_000) < honest).astype(float)) > 10
