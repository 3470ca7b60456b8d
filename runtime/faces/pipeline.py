"""Detect, crop, find the landmarks: from pictures to `Faces`."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

import numpy as np

from mien.runtime.backends.open_runner import open_model
from mien.runtime.errors import InputError, ModelError
from mien.runtime.faces.attributes import TrackedAttributes, estimate
from mien.runtime.faces.detector import DEFAULT_MAX_SIDE, Detector, open_detector
from mien.runtime.faces.smoothing import OneEuro, Smoother
from mien.runtime.faces.stage_timer import StageTimer
from mien.runtime.faces.tracker import Tracker
from mien.runtime.models.bundle import read_bundle
from mien.runtime.models.model_file import ModelFile, ModelSource
from mien.runtime.models.runner import DEFAULT_THREADS, Provider, Runner, as_choice
from mien.runtime.models.shipped import shipped_model
from mien.runtime.models.spec import Precision, Task
from mien.runtime.values import Faces, FloatArray, Frame, Image
from mien.runtime.vision.crop import cut_crop
from mien.runtime.vision.geometry import bounds_from_box, crop_matrix, landmark_bounds, roll_of

TILTED = 0.3
"""Rolls up to here, in radians, are what the landmark model was trained on most; a crop is turned only beyond."""


class Pipeline:
    """A detector, a landmark model and, if wanted, one of age and gender.

    It owns them: close it, or use it as a context manager.

    Calls keep no state, so one pipeline serves several threads; `track` keeps its state in the iterator it returns.
    """

    def __init__(self, detector: Detector, landmarks: Runner, age_gender: Runner | None = None) -> None:
        if landmarks.spec.task is not Task.LANDMARKS:
            raise ModelError(f"wanted a landmark model, found a model for {landmarks.spec.task.value}")
        if age_gender is not None and age_gender.spec.task is not Task.AGE_GENDER:
            raise ModelError(f"wanted an age and gender model, found a model for {age_gender.spec.task.value}")
        self.detector = detector
        self.landmarks = landmarks
        self.age_gender = age_gender
        self._calls = InFlightCalls(self._release, name="pipeline")

    @classmethod
    def load(
        cls,
        *,
        model: ModelSource | None = None,
        detector: ModelSource | None = None,
        age_gender: ModelSource | None = None,
        bundle: str | os.PathLike[str] | None = None,
        precision: Precision | str = Precision.FP32,
        attributes: bool = True,
        provider: Provider | str = Provider.AUTO,
        threads: int = DEFAULT_THREADS,
        max_side: int = DEFAULT_MAX_SIDE,
        min_score: float | None = None,
        open_runner: Callable[..., Runner] = open_model,
    ) -> Pipeline:
        """Open the shipped models, or others. attributes: tell age and gender too.

        open_runner: opens all but the detector, as `open_model` does; a program with runners of its own gives another.
        bundle: file of ``mien bundle`` to take all models from, those of `precision`; one without a model of age and
        gender leaves them unknown.

        Raises:
            ModelError: a file that is no model of the right kind, or a bundle that is damaged.
            InputError: a bundle beside other models, or without any of that precision; no such provider or precision.
            ProviderError: `provider` is not what would really run.
        """
        provider, precision = as_choice(Provider, provider), as_choice(Precision, precision)
        if bundle is None and precision is not Precision.FP32:
            raise InputError(f"{precision.value} is chosen within a bundle; other model files have their own precision")
        if bundle is not None:
            if not (model is detector is age_gender is None):
                raise InputError("a bundle brings its own models; give either the bundle or model files")
            models = read_bundle(Path(bundle)).models_in(precision)
            model, detector, age_gender = models["landmarks"], models["detector"], models.get("age_gender")
            attributes = attributes and age_gender is not None

        def source_of(given: ModelSource | None, name: str) -> Path | ModelFile:
            if given is None:
                return shipped_model(name)
            return given if isinstance(given, ModelFile) else Path(given)

        with ExitStack() as opened:  # closed again where a later one is no model
            found = open_detector(
                source_of(detector, "detector"),
                provider=provider,
                threads=threads,
                max_side=max_side,
                min_score=min_score,
            )
            opened.callback(found.close)
            points = open_runner(source_of(model, "landmarks"), provider=provider, threads=threads)
            opened.callback(points.close)
            known = None
            if attributes:
                known = open_runner(source_of(age_gender, "age_gender"), provider=provider, threads=threads)
                opened.callback(known.close)
            pipeline = cls(found, points, known)
            opened.pop_all()
            return pipeline

    def __call__(self, image: Image) -> Faces:
        """Find every face of a picture (h, w, 3) uint8 BGR, best score first.

        The landmarks are located twice: within the detector's box, then within the first landmarks' own bounds, turned
        upright where the face is tilted. On held-out faces the second look took 0.14 % off the NME.

        Raises:
            InputError: not such a picture, or the pipeline is closed.
        """
        check_image(image)
        with self._calls:
            return self._look(image)

    def _look(self, image: Image) -> Faces:
        boxes, scores = self.detector(image)
        faces = Faces.from_boxes(boxes, scores)
        faces = self.locate(image, faces, bounds_from_box(boxes))
        roll = roll_of(faces.landmarks)
        tilted = np.where(np.abs(roll) > TILTED, roll, 0.0)
        faces = self.locate(image, faces, landmark_bounds(faces.landmarks), tilted)
        if self.age_gender is None or not len(faces):
            return faces
        age, female = estimate(self.age_gender, image, faces.landmarks)
        return faces.with_fields(age=age, female=female)

    def locate(self, image: Image, faces: Faces, bounds: FloatArray, roll: FloatArray | None = None) -> Faces:
        """Fill in landmarks and presence of faces whose landmarks are expected within `bounds` (n, 4).

        roll: (n,) radians, clockwise, by which each face is turned; its crop is turned back.
        """
        if not len(faces):
            return faces
        spec = self.landmarks.spec
        size = spec.input_size[0]
        angles = np.zeros(len(faces)) if roll is None else roll
        crops = [
            cut_crop(image, crop_matrix(b, scale=spec.crop_scale, size=size, roll=float(a)), size)
            for b, a in zip(bounds, angles, strict=True)
        ]
        outputs = self.landmarks(np.stack([c.pixels for c in crops]))
        points = np.stack([c.to_image(p.astype(np.float64)) for c, p in zip(crops, outputs["landmarks"], strict=True)])
        # A model that was trained on faces alone takes every crop for one.
        presence = outputs["presence"] if "presence" in outputs else np.ones(len(faces))
        return faces.with_fields(landmarks=points, presence=presence.astype(np.float64))

    def track(
        self,
        frames: Iterable[Frame],
        *,
        detect_every: int = 15,
        smoothing: OneEuro | None = None,
        clock: StageTimer | None = None,
    ) -> Iterator[tuple[Frame, Faces]]:
        """Follow faces through frames: crops come from the last landmarks, the detector looks for new faces.

        Every face carries a `track_id` that stays while it is followed. Landmarks are smoothed only if `smoothing`
        is given (tracking itself goes on from the raw ones). `clock` notes what each stage takes.

        Raises:
            InputError: the pipeline is closed, told at the next frame.
        """
        clock = clock if clock is not None else StageTimer()
        tracker = Tracker(self, detect_every=detect_every, clock=clock)
        smoother = Smoother(smoothing) if smoothing is not None else None
        attributes = TrackedAttributes(self.age_gender) if self.age_gender is not None else None
        for frame in frames:
            with self._calls, clock.stage("process"):
                faces = tracker.update(frame)
                if attributes is not None and len(faces):
                    with clock.stage("attributes"):
                        faces = attributes.update(frame.pixels, faces)
                if smoother is not None:
                    with clock.stage("smooth"):
                        faces = smoother.update(faces, timestamp_ns=frame.timestamp_ns)
            yield frame, faces

    def close(self) -> None:
        """Close the models, behind the calls that are under way; later ones are refused."""
        self._calls.close()

    def _release(self) -> None:
        with ExitStack() as models:  # each of them, also if another fails
            for model in (self.detector, self.landmarks, self.age_gender):
                if model is not None:
                    models.callback(model.close)

    def __enter__(self) -> Pipeline:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def check_image(image: object) -> None:
    """Raise InputError unless `image` is (h, w, 3) uint8 with pixels in it."""
    if not isinstance(image, np.ndarray):
        hint = "; did cv2.imread find the file?" if image is None else ""
        found = "None" if image is None else type(image).__name__
        raise InputError(f"wanted a picture (h, w, 3) uint8 BGR, found {found}{hint}")
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise InputError(f"wanted a picture (h, w, 3) uint8 BGR, found {image.dtype} {image.shape}")


class InFlightCalls:
    """A context manager around each call. Closing it refuses later calls, and runs `release` when none is under way.

    Nobody waits: a signal's handler may close what its own thread is in the middle of.
    """

    def __init__(self, release: Callable[[], None], *, name: str) -> None:
        self._release = release
        self._name = name
        self._lock = threading.RLock()
        self._count = 0
        self._closed = False

    def __enter__(self) -> None:
        """Begin a call.

        Raises:
            InputError: closed.
        """
        with self._lock:
            if self._closed:
                raise InputError(f"the {self._name} is closed")
            self._count += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._count -= 1
            last = self._closed and not self._count
        if last:
            self._release()

    def close(self) -> None:
        """Refuse later calls, and release now or behind the last call under way; a second time does nothing."""
        with self._lock:
            idle = not self._closed and not self._count
            self._closed = True
        if idle:
            self._release()
