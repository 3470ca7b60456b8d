"""Labels whole pictures and frames with a classifier."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from ..faces.classifier import class_probabilities, name_classes
from ..image_check import check_frame, check_image
from ..models.runner import Runner, check_task
from ..models.spec import Task
from ..stage_timer import StageTimer
from ..tracking.class_average import ClassAverage
from ..tracking.smoothing import OneEuro
from ..values import Classes, Faces, Frame, Image


class FrameClassifier:
    """Classifier of whole pictures, for use instead of a `Pipeline`. It owns the model, so close it.

    Args:
        classifier: Runner of a classifier.

    Raises:
        ModelError: The runner holds a model for another task.
    """

    def __init__(self, classifier: Runner) -> None:
        check_task(classifier.spec, Task.CLASSIFY)
        self.runner = classifier

    def __call__(self, image: Image) -> Classes:
        """Return the probability of each class of a picture.

        Args:
            image: Picture (h, w, 3), uint8 BGR.

        Raises:
            InputError: `image` is not such a picture.
        """
        check_image(image)
        return name_classes(self.runner, class_probabilities(self.runner, [image])[0])

    def track(
        self, frames: Iterable[Frame], *, smoothing: OneEuro | None = None, clock: StageTimer | None = None
    ) -> Iterator[tuple[Frame, Faces]]:
        """Yield each frame with its classes, and no faces.

        Args:
            frames: Frames of one video, in order.
            smoothing: Parameters of the landmarks' filter, from which those of the average over time are derived;
                None: do not average.
            clock: Records how long the classifier takes.

        Raises:
            InputError: A frame is not a `Frame` of (h, w, 3) uint8.
        """
        clock = clock if clock is not None else StageTimer()
        average = ClassAverage(smoothing)
        for frame in frames:
            check_frame(frame)
            with clock.stage("process"):
                values = average.add(class_probabilities(self.runner, [frame.pixels])[0], frame.timestamp_ns)
            yield replace(frame, classes=name_classes(self.runner, values)), Faces.empty()

    def close(self) -> None:
        """Close the model."""
        self.runner.close()

    def __enter__(self) -> FrameClassifier:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
