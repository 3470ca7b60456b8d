from __future__ import annotations

import numpy as np
import pytest

from mien.runtime.models.spec import ModelSpec, Task
from mien.runtime.tracking.class_average import CUTOFF, EVERY, ClassAverage, TrackedClasses
from mien.runtime.tracking.smoothing import OneEuro
from mien.runtime.values import Faces, FloatArray, Frame, Image


class Brightness:
    """Classifier of brightness; counts the pictures it is given."""

    spec = ModelSpec(Task.CLASSIFY, (4, 4), ("probabilities",), classes=("dark", "bright"))
    provider = "fake"

    def __init__(self) -> None:
        self.batches: list[int] = []

    def __call__(self, batch: Image) -> dict[str, FloatArray]:
        self.batches.append(len(batch))
        bright = batch.mean(axis=(1, 2, 3)) / 255
        return {"probabilities": np.stack([1 - bright, bright], axis=1)}


def faces(*ids: int) -> Faces:
    """Faces side by side, 10 px each, without landmarks."""
    boxes = np.array([[12.0 * i + 3, 3, 12 * i + 9, 9] for i in ids]).reshape(-1, 4)
    return Faces.from_boxes(boxes, np.ones(len(ids))).with_fields(track_id=np.array(ids, dtype=np.int64))


def frame(index: int, *greys: int) -> Frame:
    pixels = np.repeat(np.repeat(np.array([greys], np.uint8), 12, axis=0), 12, axis=1)
    return Frame(np.repeat(pixels[..., None], 3, axis=2), timestamp_ns=index * 100_000_000, index=index)


def test_the_average_approaches_a_new_value_exponentially() -> None:
    average = ClassAverage(OneEuro(min_cutoff_hz=2))
    assert average.add(np.array([1.0, 0.0]), 0).tolist() == [1, 0]
    r = 2 * np.pi * CUTOFF * 2 * 0.1
    left = 1.0
    for step in range(1, 20):
        left *= 1 - r / (r + 1)
        assert average.add(np.array([0.0, 1.0]), step * 100_000_000) == pytest.approx([left, 1 - left])
    assert average.add(np.array([1.0, 0.0]), 19 * 100_000_000) == pytest.approx([left, 1 - left])  # no time has passed


def test_nothing_is_averaged_without_smoothing() -> None:
    average = ClassAverage(None)
    average.add(np.array([1.0, 0.0]), 0)
    assert average.add(np.array([0.0, 1.0]), 1).tolist() == [0, 1]


def test_a_face_out_of_view_keeps_its_classes() -> None:
    classifier = Brightness()
    tracked = TrackedClasses(classifier, None)  # type: ignore[arg-type]
    tracked.update(frame(0, 255), faces(0))
    unseen = faces(0).with_fields(scores=np.array([np.nan]))
    later = [tracked.update(frame(i, 0), unseen) for i in range(1, 2 * EVERY)]
    assert classifier.batches == [1] and all(f.classes[0]["bright"] == 1 for f in later)


def test_each_track_is_classified_when_it_is_new_and_every_few_frames() -> None:
    classifier = Brightness()
    tracked = TrackedClasses(classifier, None)  # type: ignore[arg-type]
    seen = [tracked.update(frame(0, 255, 0), faces(0, 1))]
    seen += [tracked.update(frame(i, 0, 0), faces(0, 1)) for i in range(1, EVERY)]
    assert classifier.batches == [2]
    assert all(f.classes[0]["bright"] == 1 and f.classes[1]["dark"] == 1 for f in seen)
    later = tracked.update(frame(EVERY, 0, 0, 255), faces(0, 1, 2))
    assert classifier.batches == [2, 3] and later.classes[0]["dark"] == 1 and later.classes[2]["bright"] == 1
    assert not len(tracked.update(frame(EVERY + 1, 0), faces()))
    again = tracked.update(frame(EVERY + 2, 255), faces(0))  # it had left, so that it starts anew
    assert classifier.batches == [2, 3, 1] and again.classes[0]["bright"] == 1
