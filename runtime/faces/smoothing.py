"""One-Euro smoothing of tracked faces: still when the face is still, quick when it moves.

Casiez, Roussel, Vogel: "1 € filter: a simple speed-based low-pass filter for noisy input in interactive systems",
CHI 2012.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mien.runtime.values import Faces, FloatArray
from mien.runtime.vision.geometry import landmark_bounds


@dataclass(frozen=True, slots=True)
class OneEuro:
    """The filter's parameters. Speeds are in face sizes per second, so that near and far faces are treated alike.

    min_cutoff_hz: lower is stiller and later. beta: how much the cutoff rises with speed, Hz per (face size / s).
    derivative_cutoff_hz: how the speed itself is smoothed.
    """

    min_cutoff_hz: float = 1.0
    beta: float = 10.0
    derivative_cutoff_hz: float = 1.0


@dataclass(frozen=True, slots=True)
class FilterState:
    """What the filter remembers of one signal: values and speeds, any one shape, and when they were (s)."""

    time_s: float
    values: FloatArray
    speeds: FloatArray


def one_euro(
    state: FilterState | None, values: FloatArray, *, time_s: float, scale: float, euro: OneEuro
) -> FilterState:
    """Next state; its `values` are the smoothed ones. `scale` is the face's size in the unit of the values.

    The first values are taken as they are, and so are values whose time does not go forward.
    """
    if state is None:
        return FilterState(time_s, values, np.zeros_like(values))
    step_s = time_s - state.time_s
    if step_s <= 0:
        return FilterState(state.time_s, values, state.speeds)
    raw_speeds = (values - state.values) / (step_s * scale)
    speeds = _blend(state.speeds, raw_speeds, smoothing_factor(euro.derivative_cutoff_hz, step_s))
    # A point's x, y and z share one cutoff: filtered apart, a point that moves along x would lag in x but not in y.
    speed = np.linalg.norm(speeds, axis=-1, keepdims=True)
    cutoff = euro.min_cutoff_hz + euro.beta * speed
    return FilterState(time_s, _blend(state.values, values, smoothing_factor(cutoff, step_s)), speeds)


def smoothing_factor(cutoff_hz: FloatArray | float, step_s: float) -> FloatArray | float:
    """Weight of the new value in an exponential filter of this cutoff (eq. 3 and 5 of the paper)."""
    r = 2 * np.pi * cutoff_hz * step_s
    return r / (r + 1)


def _blend(old: FloatArray, new: FloatArray, factor: FloatArray | float) -> FloatArray:
    return old + factor * (new - old)


class Smoother:
    """Smooths the landmarks of tracked faces; holds a filter state for each face that is in view."""

    def __init__(self, euro: OneEuro | None = None) -> None:
        self._euro = euro if euro is not None else OneEuro()
        self._states: dict[int, FilterState] = {}

    def update(self, faces: Faces, *, timestamp_ns: int) -> Faces:
        """Smoothed faces; boxes stay as they are."""
        landmarks = faces.landmarks.copy()
        states: dict[int, FilterState] = {}
        for i, track in enumerate(faces.track_id.tolist()):
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
        self._states = states  # faces that are gone are forgotten
        return faces.with_fields(landmarks=landmarks)
