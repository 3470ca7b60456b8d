"""Averages class probabilities over time, for steady labels of whole frames or tracked faces."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ..faces.classifier import class_probabilities, name_classes
from ..models.runner import Runner
from ..values import Classes, Faces, FloatArray, Frame, object_array
from ..vision.face_crop import face_crop
from .smoothing import OneEuro, smoothing_factor

CUTOFF = 0.3
"""Cutoff as a fraction of that for landmarks at rest: about half a second at the default of 1 Hz."""
EVERY = 5
"""Frames between two classifications of one tracked face."""


class ClassAverage:
    """Exponential average of probabilities over time.

    Args:
        smoothing: Parameters of the landmarks' filter; None: do not average.
    """

    def __init__(self, smoothing: OneEuro | None) -> None:
        self._cutoff_hz = None if smoothing is None else CUTOFF * smoothing.min_cutoff_hz
        self._values: FloatArray | None = None
        self._time_ns = 0

    def add(self, values: FloatArray, timestamp_ns: int) -> FloatArray:
        """Add the probabilities (classes,) at a time, and return the average."""
        if self._values is not None and self._cutoff_hz is not None:
            step_s = max(timestamp_ns - self._time_ns, 0) / 1e9
            values = self._values + smoothing_factor(self._cutoff_hz, step_s) * (values - self._values)
        self._values, self._time_ns = values, timestamp_ns
        return values


@dataclass(slots=True)
class _Track:
    average: ClassAverage
    classes: Classes = field(default_factory=dict)
    next_frame: int = 0


class TrackedClasses:
    """Classes of tracked faces; a face is classified when it is new and every `EVERY` frames after that.

    Args:
        classifier: Classifier of the crops that `face_crop` cuts.
        smoothing: See `ClassAverage`.
    """

    def __init__(self, classifier: Runner, smoothing: OneEuro | None) -> None:
        self._classifier = classifier
        self._smoothing = smoothing
        self._tracks: dict[int, _Track] = {}
        self._frame = 0

    def update(self, frame: Frame, faces: Faces) -> Faces:
        """Return the faces of the next frame with their classes."""
        ids = faces.track_id.tolist()
        self._tracks = {
            i: self._tracks.get(i) or _Track(ClassAverage(self._smoothing)) for i in ids
        }  # forget the faces that left
        in_view = ~np.isnan(faces.scores)
        due = [n for n, i in enumerate(ids) if in_view[n] and self._tracks[i].next_frame <= self._frame]
        if due:
            crops = [face_crop(frame.pixels, faces, n) for n in due]
            for n, values in zip(due, class_probabilities(self._classifier, crops), strict=True):
                track = self._tracks[ids[n]]
                track.classes = name_classes(self._classifier, track.average.add(values, frame.timestamp_ns))
                track.next_frame = self._frame + EVERY
        self._frame += 1
        return faces.with_fields(classes=object_array([self._tracks[i].classes for i in ids]))
