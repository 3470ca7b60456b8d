"""One-Euro smoothing of tracked faces: steady at rest, with little lag in motion.

Casiez, Roussel, Vogel: "1 € filter: a simple speed-based low-pass filter for noisy input in interactive systems",
CHI 2012.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..values import Faces, FloatArray
from ..vision.geometry import landmark_bounds


@dataclass(frozen=True, slots=True)
class OneEuro:
    """Parameters of the filter. Speeds are in face sizes per second, to treat near and far faces alike.

    Attributes:
        min_cutoff_hz: Cutoff for a face at rest; lower values are steadier and lag more.
        beta: Rise of the cutoff with speed, Hz per (face size / s).
        derivative_cutoff_hz: Cutoff for the speed itself.
    """

    min_cutoff_hz: float = 1.0
    beta: float = 10.0
    derivative_cutoff_hz: float = 1.0


@dataclass(frozen=True, slots=True)
class FilterState:
    """State of the filter for one signal: smoothed values, their speeds (same shape), and the time in s."""

    time_s: float
    values: FloatArray
    speeds: FloatArray


def one_euro(
    state: FilterState | None, values: FloatArray, *, time_s: float, scale: float, euro: OneEuro
) -> FilterState:
    """Filter one sample.

    Args:
        state: State after the previous sample; None for the first, which is returned unchanged.
        values: New values; points along the last axis share one cutoff.
        time_s: Time of the values; if it does not advance, they are returned unchanged.
        scale: Size of the face, in the unit of the values.
        euro: Parameters of the filter.

    Returns:
        The next state, whose `values` are the smoothed ones.
    """
    if state is None:
        return FilterState(time_s, values, np.zeros_like(values))
    step_s = time_s - state.time_s
    if step_s <= 0:
        return FilterState(state.time_s, values, state.speeds)
    raw_speeds = (values - state.values) / (step_s * scale)
    speeds = _blend(state.speeds, raw_speeds, smoothing_factor(euro.derivative_cutoff_hz, step_s))
    # A point's x, y and z share one cutoff; otherwise a point that moves along x would lag in x but not in y.
    speed = np.sqrt(np.square(speeds).sum(axis=-1, keepdims=True))
    cutoff = euro.min_cutoff_hz + euro.beta * speed
    return FilterState(time_s, _blend(state.values, values, smoothing_factor(cutoff, step_s)), speeds)


def smoothing_factor(cutoff_hz: FloatArray | float, step_s: float) -> FloatArray | float:
    """Return the weight of the new value in an exponential filter with this cutoff (eq. 3 and 5 of the paper)."""
    r = 2 * np.pi * cutoff_hz * step_s
    return r / (r + 1)


def _blend(old: FloatArray, new: FloatArray, factor: FloatArray | float) -> FloatArray:
    return old + factor * (new - old)


class Smoother:
    """Smoother of the landmarks of tracked faces, with one filter state for each face in view."""

    def __init__(self, euro: OneEuro) -> None:
        self._euro = euro
        self._states: dict[int, FilterState] = {}

    def update(self, faces: Faces, *, timestamp_ns: int) -> Faces:
        """Return the faces with their landmarks, if any, smoothed; boxes are unchanged."""
        landmarks = faces.landmarks.copy()
        states: dict[int, FilterState] = {}
        for i, track in enumerate(faces.track_id.tolist()):
            if np.isnan(landmarks[i, 0, 0]):
                continue
            bounds = landmark_bounds(faces.landmarks[i])
            scale = float(np.max(bounds[2:] - bounds[:2]))
            states[track] = one_euro(
                self._states.get(track),
                faces.landmarks[i],
                time_s=timestamp_ns / 1e9,
                scale=max(scale, 1e-6),
                euro=self._euro,
            )
            landmarks[i] = states[track].values
        self._states = states  # forget the faces that left
        return faces.with_fields(landmarks=landmarks)
