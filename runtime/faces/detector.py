"""Detects faces with a mien detector, or with a YuNet file in OpenCV."""

from __future__ import annotations

import threading
from typing import Any, Protocol

import cv2
import numpy as np
import numpy.typing as npt

from ..backends.open_runner import open_model
from ..errors import InputError, ModelError, ProviderError
from ..models.input_shapes import DETECTOR_STEP
from ..models.model_file import ModelFile, ModelSource
from ..models.runner import DEFAULT_THREADS, Provider, Runner, check_finite, check_task
from ..models.spec import MODEL_FOR, Task
from ..values import GREY, FloatArray, Image, size_of
from ..vision.boxes import select_boxes
from ..vision.geometry import longer_side
from ..vision.resize import pad_to_multiple, reduced, shrink

DEFAULT_SCORE = 0.5
DEFAULT_MAX_SIDE = 640
LIVE_MAX_SIDE = 480
"""Default for video, where the detector must not delay frames for long."""
TWICE_FROM_PX = 400
"""Minimum longer side of pictures that are searched a second time at half size."""
LARGE_PX = 100
"""Minimum longer side of faces from the second pass; faces up to 1.5 times this size also come from the first."""

CLOSE_PX, CLOSE_CANVAS_PX = 96, 160
"""Longer side of a picture, and side of the grey canvas around it, when a face may fill the whole picture."""
CLOSE_SHARE = 0.5
"""Minimum size of faces from that pass, as a fraction of the picture's longer side."""

YUNET_OUTPUTS = {"cls_8", "obj_8", "bbox_8", "kps_8"}
"""Outputs that identify a YuNet file."""


class Detector(Protocol):
    """Face detector. Safe to call from several threads at once."""

    usual_score: float
    """Score above which boxes are usually correct."""
    max_side: int
    """Maximum longer side of pictures in px; larger ones are downscaled."""
    min_score: float
    """Default minimum score of a detection."""

    def __call__(
        self, image: Image, *, min_score: float | None = None, small_only: bool = False
    ) -> tuple[FloatArray, FloatArray]:
        """Find faces.

        Args:
            image: Picture (h, w, 3), uint8 BGR.
            min_score: Minimum score of a detection; None for the detector's default.
            small_only: Whether large faces may be missed, to save time.

        Returns:
            Boxes (n, 4) xyxy px of `image` and scores (n,), best first.
        """
        ...

    def close(self) -> None:
        """Release the detector's resources."""
        ...


class OwnDetector:
    """Detector model of mien on a `Runner`.

    The network sees about 200 px around a cell, so large pictures are searched a second time at half their size. If no
    large face was found, they are searched a third time, very small and with a margin, as a face may fill the picture.

    Args:
        runner: A detector model.
        max_side: Maximum longer side in px; larger pictures are downscaled. Faces should still have about 10 px then.
        min_score: Minimum score of a detection.
    """

    usual_score = DEFAULT_SCORE

    def __init__(self, runner: Runner, *, max_side: int = DEFAULT_MAX_SIDE, min_score: float = DEFAULT_SCORE) -> None:
        check_task(runner.spec, Task.DETECTOR)
        self.runner = runner
        self.max_side = max_side
        self.min_score = min_score

    def __call__(
        self, image: Image, *, min_score: float | None = None, small_only: bool = False
    ) -> tuple[FloatArray, FloatArray]:
        """See `Detector`."""
        lowest = self.min_score if min_score is None else min_score
        scaled, factor = reduced(image, self.max_side)
        twice = max(scaled.shape[:2]) >= TWICE_FROM_PX
        found = self._search(scaled, factor, lowest)
        if small_only or twice:
            found = found[longer_side(found) < 1.5 * LARGE_PX / factor]
        if twice and not small_only:
            half = self._search(*reduced(image, max(scaled.shape[:2]) // 2), lowest)
            found = np.concatenate([found, half[longer_side(half) >= LARGE_PX / factor]])
        if not small_only and not _filling(found, image).any():
            found = np.concatenate([found, self._search_close(image, lowest)])
        return select_boxes(found[:, :4], found[:, 4], threshold=lowest)

    def _search(self, scaled: Image, factor: float, min_score: float) -> FloatArray:
        """Return the boxes in px of the whole picture, with their scores: (n, 5)."""
        outputs = self.runner(pad_to_multiple(scaled, DETECTOR_STEP)[None])
        scores = outputs["scores"][0]
        likely = scores >= min_score
        boxes = outputs["boxes"][0][likely]
        check_finite(MODEL_FOR[Task.DETECTOR], boxes, scores)
        return np.column_stack([boxes / factor, scores[likely]])

    def _search_close(self, image: Image, min_score: float) -> FloatArray:
        """Search for faces that fill the picture or extend beyond it; see `_search`."""
        factor = CLOSE_PX / max(image.shape[:2])
        width, height = (max(1, round(side * factor)) for side in size_of(image))
        canvas = np.full((CLOSE_CANVAS_PX, CLOSE_CANVAS_PX, 3), GREY, np.uint8)
        left, top = (CLOSE_CANVAS_PX - width) // 2, (CLOSE_CANVAS_PX - height) // 2
        canvas[top : top + height, left : left + width] = shrink(image, (width, height))
        found = self._search(canvas, 1.0, min_score)
        found[:, :4] = (found[:, :4] - [left, top, left, top]) / factor
        return found[_filling(found, image)]

    def close(self) -> None:
        """Close the runner."""
        self.runner.close()


def _filling(boxes: FloatArray, image: Image) -> npt.NDArray[np.bool_]:
    """Return which boxes (n, ≥ 4) are as long as `CLOSE_SHARE` of a picture's longer side, or longer."""
    return longer_side(boxes) >= CLOSE_SHARE * max(image.shape[:2])


class YunetDetector:
    """OpenCV's YuNet (Wu et al., "YuNet: a tiny millisecond-level face detector", 2023) from a file."""

    usual_score = 0.7

    def __init__(
        self, source: ModelSource, *, max_side: int = DEFAULT_MAX_SIDE, min_score: float = usual_score
    ) -> None:
        model = ModelFile.of(source)
        try:
            with model.as_path() as path:
                self._net = cv2.FaceDetectorYN.create(path, "", (32, 32), min_score)
                self._net.detect(np.zeros((32, 32, 3), np.uint8))
        except cv2.error as error:
            problem = " ".join(error.err.split())
            raise ModelError(f"{model} is not a YuNet file that OpenCV can run ({problem})") from error
        self._lock = threading.Lock()  # size and score are set in one call and used in the next
        self.max_side = max_side
        self.min_score = min_score

    def __call__(
        self, image: Image, *, min_score: float | None = None, small_only: bool = False
    ) -> tuple[FloatArray, FloatArray]:
        """See `Detector`."""
        scaled, factor = reduced(image, self.max_side)
        with self._lock:
            self._net.setScoreThreshold(self.min_score if min_score is None else min_score)
            self._net.setInputSize((scaled.shape[1], scaled.shape[0]))
            rows: Any = self._net.detect(scaled)[1]  # OpenCV's stubs do not know that it may be None
        if rows is None:
            return np.empty((0, 4)), np.empty(0)
        found = np.asarray(rows, dtype=np.float64)
        check_finite("a YuNet file", found)
        boxes = np.concatenate([found[:, :2], found[:, :2] + found[:, 2:4]], axis=1) / factor
        order = np.argsort(-found[:, 14], kind="stable")
        return boxes[order], found[order, 14]

    def close(self) -> None:
        """Do nothing; OpenCV frees the network with the object."""


def open_detector(
    source: ModelSource,
    *,
    provider: Provider = Provider.AUTO,
    threads: int = DEFAULT_THREADS,
    max_side: int = DEFAULT_MAX_SIDE,
    min_score: float | None = None,
) -> Detector:
    """Open a mien detector or a YuNet file.

    Args:
        source: Model file.
        provider: Provider to run the model on; a YuNet file runs in OpenCV on the CPU only.
        threads: Threads per operator on the CPU; 0: all cores.
        max_side: Maximum longer side in px; larger pictures are downscaled.
        min_score: Minimum score of a detection; None for the detector's default.

    Raises:
        InputError: `max_side` is less than 32 px.
        ModelError: The file is missing, or is neither of the two.
        ProviderError: The model would not actually run on `provider`.
    """
    if not max_side >= DETECTOR_STEP:
        raise InputError(f"max_side: expected at least {DETECTOR_STEP} px, found {max_side}")
    model = ModelFile.of(source)
    if model.metadata is None:
        if not YUNET_OUTPUTS.issubset(model.outputs):
            raise ModelError(f"{model} is neither a mien detector nor a YuNet file")
        if provider not in (Provider.AUTO, Provider.CPU):
            raise ProviderError(f"a YuNet file runs in OpenCV on the CPU, not on {provider.value}; use --provider cpu")
        score = YunetDetector.usual_score if min_score is None else min_score
        return YunetDetector(model, max_side=max_side, min_score=score)
    runner = open_model(model, provider=provider, threads=threads)
    return OwnDetector(runner, max_side=max_side, min_score=DEFAULT_SCORE if min_score is None else min_score)
