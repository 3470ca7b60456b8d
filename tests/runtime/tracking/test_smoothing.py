from __future__ import annotations

import numpy as np
import pytest

from mien.runtime.tracking.smoothing import FilterState, OneEuro, Smoother, one_euro, smoothing_factor
from mien.runtime.values import Faces

FPS = 30.0
SIZE = 100.0


def face(offset: np.ndarray, noise: np.ndarray, track: int = 0) -> Faces:
    shape = np.concatenate([np.random.default_rng(0).uniform(0, SIZE, (68, 2)), np.zeros((68, 1))], axis=1)
    shape[:2, :2] = [[0, 0], [SIZE, SIZE]]
    points = shape + noise
    points[:, :2] += offset
    faces = Faces.from_boxes(np.array([[0.0, 0, 1, 1]]), np.ones(1))
    return faces.with_fields(landmarks=points[None], track_id=np.array([track]))


def run(offsets: np.ndarray, *, noise_px: float = 0.0) -> np.ndarray:
    """Smoothed positions (n, 2) of the face's mean point."""
    rng = np.random.default_rng(1)
    smoother = Smoother(OneEuro())
    smoothed = []
    for i, offset in enumerate(offsets):
        noisy = face(offset, rng.normal(0, noise_px, (68, 3)))
        smoothed.append(smoother.update(noisy, timestamp_ns=round(i / FPS * 1e9)).landmarks[0, :, :2])
    return np.array(smoothed)


def test_one_step_by_hand() -> None:
    euro = OneEuro(min_cutoff_hz=1.0, beta=0.0, derivative_cutoff_hz=1.0)
    first = one_euro(None, np.array([[0.0]]), time_s=0.0, scale=1.0, euro=euro)
    second = one_euro(first, np.array([[1.0]]), time_s=0.1, scale=1.0, euro=euro)
    alpha = 2 * np.pi * 0.1 / (2 * np.pi * 0.1 + 1)
    assert second.values[0, 0] == pytest.approx(alpha)
    assert second.speeds[0, 0] == pytest.approx(alpha * 10)


def test_cutoff_rises_with_speed_in_face_sizes() -> None:
    euro = OneEuro(min_cutoff_hz=1.0, beta=2.0, derivative_cutoff_hz=1.0)
    state = FilterState(0.0, np.zeros((1, 2)), np.zeros((1, 2)))
    near = one_euro(state, np.full((1, 2), 10.0), time_s=0.1, scale=10.0, euro=euro).values / 10
    far = one_euro(state, np.full((1, 2), 1.0), time_s=0.1, scale=1.0, euro=euro).values
    assert np.allclose(near, far)
    assert smoothing_factor(3.0, 0.1) > smoothing_factor(1.0, 0.1)


def test_time_zero_is_a_time_and_time_must_go_forward() -> None:
    euro = OneEuro()
    state = one_euro(None, np.zeros((1, 2)), time_s=0.0, scale=1.0, euro=euro)
    assert state.time_s == 0.0
    assert one_euro(state, np.ones((1, 2)), time_s=0.0, scale=1.0, euro=euro).values.tolist() == [[1.0, 1.0]]


def test_jitter_of_a_still_face_and_lag_of_a_moving_one() -> None:
    """The two numbers that a user feels, against the truth. Noise of 1 % of the face, as the landmark model has."""
    still = run(np.zeros((120, 2)), noise_px=1.0)[60:]
    jitter = np.diff(still, axis=0).std()
    raw = np.diff(np.random.default_rng(2).normal(0, 1.0, (60, 68, 2)), axis=0).std()
    assert jitter < 0.27 * raw

    speed = 1.0 * SIZE / FPS  # one face size per second
    offsets = np.stack([np.arange(90) * speed, np.zeros(90)], axis=1)
    truth = run(offsets[:1])[0].mean(axis=0)[0] + offsets[:, 0]
    lag_frames = (truth - run(offsets, noise_px=1.0).mean(axis=1)[:, 0])[45:].mean() / speed
    assert 0 <= lag_frames < 0.45


def test_faces_do_not_mix_and_the_gone_are_forgotten() -> None:
    smoother = Smoother(OneEuro())
    a, b = face(np.zeros(2), np.zeros((68, 3)), 0), face(np.array([500.0, 0]), np.zeros((68, 3)), 1)
    smoother.update(Faces.concat([a, b]), timestamp_ns=0)
    swapped = smoother.update(Faces.concat([b, a]), timestamp_ns=33_000_000)
    assert np.allclose(swapped.landmarks, np.concatenate([b.landmarks, a.landmarks]))
    smoother.update(Faces.empty(), timestamp_ns=66_000_000)
    assert not smoother._states
