"""Finds faces in a picture or tracks them through a video: detection, landmarks, age and gender."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing

from ..backends.open_runner import open_model
from ..faces.attributes import TrackedAttributes, estimate
from ..faces.classifier import classify_faces
from ..faces.detector import DEFAULT_MAX_SIDE, Detector, OwnDetector, open_detector
from ..faces.face_filter import FaceFilter, Region
from ..faces.landmarks import SURE, locate_in_boxes
from ..faces.locator import Locator
from ..faces.turned import find_turned
from ..image_check import check_frame, check_image
from ..models.model_file import ModelFile, ModelSource
from ..models.runner import DEFAULT_THREADS, Provider, Runner, as_choice, check_precision, check_task
from ..models.spec import Precision, Task
from ..stage_timer import StageTimer
from ..tracking.class_average import TrackedClasses
from ..tracking.detection_schedule import DetectionSchedule
from ..tracking.smoothing import OneEuro, Smoother
from ..tracking.tracker import Tracker
from ..values import Faces, Frame, Image, size_of
from ..vision.boxes import lies_within
from .in_flight import InFlightCalls
from .model_choice import choose_models

DETECT_EVERY = 15
"""Frames of a video between two routine runs of the detector at full size."""


class Pipeline:
    """A detector, a landmark model and, optionally, an age and gender model and a face classifier.

    The pipeline owns its models: close it, or use it as a context manager. Calls keep no state, so several threads may
    share a pipeline; `track` keeps its state in the iterator that it returns.

    Args:
        detector: Face detector.
        landmarks: Runner of a landmark model.
        age_gender: Runner of an age and gender model; None leaves both NaN.
        classifier: Runner of a face classifier; None leaves the classes None.
        reported: Conditions on the faces to report; all by default.

    Raises:
        ModelError: A runner holds a model for another task.
    """

    def __init__(
        self,
        detector: Detector,
        landmarks: Runner,
        age_gender: Runner | None = None,
        classifier: Runner | None = None,
        *,
        reported: FaceFilter | None = None,
    ) -> None:
        check_task(landmarks.spec, Task.LANDMARKS)
        if age_gender is not None:
            check_task(age_gender.spec, Task.AGE_GENDER)
        if classifier is not None:
            check_task(classifier.spec, Task.CLASSIFY)
        self.detector = detector
        self.landmarks = landmarks
        self.age_gender = age_gender
        self.classifier = classifier
        self._reported = reported if reported is not None else FaceFilter()
        self._calls = InFlightCalls(self._release, name="pipeline")

    @classmethod
    def load(
        cls,
        *,
        model: ModelSource | None = None,
        detector: ModelSource | None = None,
        age_gender: ModelSource | None = None,
        classifier: ModelSource | None = None,
        bundle: str | os.PathLike[str] | None = None,
        precision: Precision | str | None = None,
        attributes: bool = True,
        provider: Provider | str = Provider.AUTO,
        threads: int = DEFAULT_THREADS,
        max_side: int = DEFAULT_MAX_SIDE,
        min_score: float | None = None,
        max_faces: int | None = None,
        min_face_px: float | None = None,
        region: Region | None = None,
        open_runner: Callable[..., Runner] = open_model,
    ) -> Pipeline:
        """Open the shipped models, or others instead.

        Args:
            model: Landmark model.
            detector: Detector of mien, or a YuNet file.
            age_gender: Age and gender model.
            classifier: Face classifier, trained on crops as written by ``mien predict --save-crops``.
            bundle: Bundle from ``mien bundle`` to take all other models from; without an age and gender model there,
                age and gender stay NaN.
            precision: Precision of the shipped models, or of those to take from the bundle. None for the fastest of the
                shipped ones: int8 on a CPU with VNNI, else float32; for a bundle, float32.
            attributes: Whether to estimate age and gender.
            provider: Provider to run the models on.
            threads: Threads of one operator on the CPU; 0 for all cores.
            max_side: Maximum longer side in px for detection; larger pictures are downscaled.
            min_score: Minimum score of a face's last detection; None for the detector's default, below which a face in
                a video may still be tracked.
            max_faces: Maximum number of faces per picture; the largest are kept. None for all.
            min_face_px: Minimum longer side of a box in px of the picture. None for any.
            region: Region that must contain the centre of a box: left, top, right, bottom as fractions of the picture's
                width and height, such as (0.5, 0, 1, 1) for its right half. None for anywhere.
            open_runner: Opens all models except the detector; has the signature of `open_model`.

        Raises:
            ModelError: A file is not a model of the right kind, or the bundle is damaged.
            InputError: A bundle was given together with other models, or holds no model of that precision; a file has
                another precision than requested; no such provider or precision; `max_side` is less than 32 px; a
                condition that no face can meet.
            ProviderError: `provider` is not what would really run.
        """
        provider = as_choice(Provider, provider)
        asked = None if precision is None else as_choice(Precision, precision)
        reported = FaceFilter(min_score, max_faces, min_face_px, region)
        given = {"landmarks": model, "detector": detector, "age_gender": age_gender}
        models = choose_models(given, bundle=bundle, precision=asked, provider=provider)
        with ExitStack() as opened:  # closes what is open if a later one fails
            found = open_detector(
                models["detector"], provider=provider, threads=threads, max_side=max_side, min_score=min_score
            )
            opened.callback(found.close)

            def open_one(source: ModelSource) -> Runner:
                runner = open_runner(source, provider=provider, threads=threads)
                opened.callback(runner.close)
                return runner

            points = open_one(models["landmarks"])
            known = open_one(models["age_gender"]) if attributes and "age_gender" in models else None
            labels = None if classifier is None else open_one(ModelFile.of(classifier))
            if asked is not None:
                own = found.runner if isinstance(found, OwnDetector) else None
                for runner in filter(None, (own, points, known)):
                    check_precision(runner, asked)
            pipeline = cls(found, points, known, labels, reported=reported)
            opened.pop_all()
            return pipeline

    @property
    def provider(self) -> str:
        """Provider that runs the landmark model."""
        return self.landmarks.provider

    def __call__(self, image: Image) -> Faces:
        """Find all faces in a picture, best score first.

        If no upright face is certain, the picture is searched again in seven rotations: eight detections in total.

        Args:
            image: Picture (h, w, 3), uint8 BGR.

        Raises:
            InputError: `image` is not such a picture, or the pipeline is closed.
        """
        check_image(image)
        with self._calls:
            return self._find(image)

    def _find(self, image: Image) -> Faces:
        faces = self._find_upright(image)
        if not (faces.presence >= SURE).any():
            faces = find_turned(image, self._find_upright, faces)
        faces = self._reported(faces, size_of(image))
        if self.age_gender is not None and len(faces):
            faces = faces.with_fields(**estimate(self.age_gender, image, faces.landmarks))
        return faces if self.classifier is None else classify_faces(self.classifier, image, faces)

    def _find_upright(self, image: Image) -> Faces:
        faces = locate_in_boxes(self.landmarks, image, Faces.from_boxes(*self.detector(image)))
        sure = faces.presence >= SURE
        parts = lies_within(faces.boxes, faces.boxes[sure]) & ~sure  # for example, an eye of a large face
        return faces.mask(~parts)

    def track(
        self,
        frames: Iterable[Frame],
        *,
        detect_every: int | None = None,
        thorough: bool = False,
        smoothing: OneEuro | None = None,
        clock: StageTimer | None = None,
    ) -> Iterator[tuple[Frame, Faces]]:
        """Track faces through frames: crops follow the last landmarks, and the detector finds new faces.

        While faces are tracked, the detector runs in a thread of its own. Its result is used a fixed number of frames
        later, so that the results for a video are the same in every run.

        Args:
            frames: Frames of one video, in order.
            detect_every: Frames between two runs of the detector at full size while all faces are tracked by their
                landmarks; otherwise it runs more often. None for `DETECT_EVERY`, or 1 if `thorough`.
            thorough: Yield every possible face, for hiding: new ones immediately, those that the pipeline would
                not report, and for two seconds lost ones, with a NaN score, where they should be by now.
            smoothing: Parameters of the One-Euro filter; None leaves landmarks as located. Tracking itself always
                continues from the raw ones. The average of class probabilities over time depends on it too.
            clock: Records how long each stage takes.

        Yields:
            Each frame with its faces. They keep their `track_id` while they are tracked, and for two seconds out of
            view. Faces without reliable landmarks, because they are small or turned away, have NaN landmarks.

        Raises:
            InputError: A frame is not a `Frame` of (h, w, 3) uint8, or the pipeline was closed; raised at that frame.
        """
        clock = clock if clock is not None else StageTimer()
        if detect_every is None:
            detect_every = 1 if thorough else DETECT_EVERY
        schedule = DetectionSchedule(self.detector, every=detect_every, timer=clock, calls=self._calls)
        locator = Locator(self.landmarks)
        tracker = Tracker(schedule, locator, timer=clock, thorough=thorough)
        smoother = Smoother(smoothing) if smoothing is not None else None
        attributes = TrackedAttributes(self.age_gender) if self.age_gender is not None else None
        classes = TrackedClasses(self.classifier, smoothing) if self.classifier is not None else None
        with closing(schedule), closing(locator):
            for frame in frames:
                check_frame(frame)
                with self._calls, clock.stage("process"):
                    faces = tracker.update(frame)
                    if not thorough:
                        faces = self._reported(faces, size_of(frame.pixels))
                    if attributes is not None and len(faces):
                        with clock.stage("attributes"):
                            faces = attributes.update(frame.pixels, faces)
                    if classes is not None:
                        with clock.stage("classify"):
                            faces = classes.update(frame, faces)
                    if smoother is not None:
                        with clock.stage("smooth"):
                            faces = smoother.update(faces, timestamp_ns=frame.timestamp_ns)
                yield frame, faces

    def close(self) -> None:
        """Close the models after the calls in flight; later calls are rejected."""
        self._calls.close()

    def _release(self) -> None:
        with ExitStack() as models:  # closes each, even if another fails
            for model in (self.detector, self.landmarks, self.age_gender, self.classifier):
                if model is not None:
                    models.callback(model.close)

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
