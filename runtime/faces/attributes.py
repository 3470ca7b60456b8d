"""Estimates age and gender from crops aligned by the landmarks, and averages them over each track."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from ..models.runner import Runner, check_finite
from ..models.spec import MODEL_FOR, Task
from ..values import Faces, FloatArray, Image
from ..vision.crop import alignment_matrix, cut_crop
from ..vision.geometry import zoom_of

ESTIMATES = ("age", "age_std", "female")
"""Fields of `Faces` that are estimated."""
UNKNOWN = np.full(len(ESTIMATES), np.nan)
EVERY = 10
"""Frames between two estimates of one tracked face."""
AVERAGED = 20
"""Number of estimates to average plainly; after that, the mean is exponential."""
REMEMBERED = 100
"""Number of tracks out of view whose estimates are kept."""
MIN_SIDE_PX = 24.0
"""Minimum side of an aligned crop in px of the picture: at 24 px the age's mean error is 7 years, at 16 px 9.5."""
MIN_SHARPNESS = 0.6
"""Minimum `sharpness`. All sharp faces of at least 24 px pass, and half of those blurred by 3 px in a crop of 112 px,
whose error is 8 years, but only 1 % of those blurred by 4 px (9 years)."""


def estimate(runner: Runner, image: Image, landmarks: FloatArray) -> dict[str, FloatArray]:
    """Estimate age and gender of faces in one picture.

    Args:
        runner: An age and gender model.
        image: Picture (h, w, 3), uint8 BGR.
        landmarks: Landmarks (n, 68, ≥ 2) in px of `image`.

    Returns:
        Fields of `Faces`: age and its standard deviation in years, and the probability of female, each (n,). All are
        NaN for a face that is too small or blurred, and the standard deviation also if the model has none.

    Raises:
        ModelError: The model returned a number that is not finite.
    """
    spec = runner.spec
    size = spec.input_size[0]
    crops = [cut_crop(image, alignment_matrix(points, scale=spec.crop_scale, size=size), size) for points in landmarks]
    outputs = runner(np.stack([crop.pixels for crop in crops]))
    check_finite(MODEL_FOR[Task.AGE_GENDER], *outputs.values())
    clear = [size / zoom_of(c.matrix) >= MIN_SIDE_PX and sharpness(c.pixels) >= MIN_SHARPNESS for c in crops]
    unknown = np.full(len(crops), np.nan)
    return {name: np.where(clear, outputs.get(name, unknown), np.nan).astype(np.float64) for name in ESTIMATES}


def sharpness(crop: Image) -> float:
    """Measure the fineness of a face's details: curvature divided by slope of its brightness, at 40 px.

    The ratio does not depend on contrast; a Gaussian blur by σ px reduces it as 1 / σ².

    Args:
        crop: Aligned crop (size, size, 3), uint8 BGR.

    Returns:
        Variance of the Laplacian divided by the mean squared gradient; infinite for a crop without contrast.
    """
    grey = cv2.cvtColor(cv2.resize(crop, (40, 40), interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2GRAY)
    curvature, *slopes = (
        cv2.Laplacian(grey, cv2.CV_32F),
        cv2.Sobel(grey, cv2.CV_32F, 1, 0, scale=1 / 8),
        cv2.Sobel(grey, cv2.CV_32F, 0, 1, scale=1 / 8),
    )
    face = np.s_[5:-5, 5:-5]
    slope = sum(float(np.square(s[face]).mean()) for s in slopes)
    return float(curvature[face].var()) / slope if slope > 0.5 else np.inf


@dataclass(slots=True)
class _Track:
    estimates: int
    mean: FloatArray
    next_frame: int


class TrackedAttributes:
    """Age and gender averaged over each track; a face is estimated when it is new, then every `EVERY` frames."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._tracks: dict[int, _Track] = {}
        self._frame = 0

    def update(self, image: Image, faces: Faces) -> Faces:
        """Return the faces of the next frame with age and gender filled in."""
        ids = faces.track_id.tolist()
        for i in list(self._tracks)[:-REMEMBERED]:
            if i not in ids:
                del self._tracks[i]
        located = np.isfinite(faces.landmarks[:, 0, 0])
        waiting = {i for i, track in self._tracks.items() if track.next_frame > self._frame}
        due = [n for n, i in enumerate(ids) if located[n] and i not in waiting]
        if due:
            found = estimate(self._runner, image, faces.landmarks[due])
            for n, values in zip(due, np.stack([found[name] for name in ESTIMATES], axis=1), strict=True):
                self._add(ids[n], values)
        self._frame += 1
        means = np.array([self._tracks[i].mean if i in self._tracks else UNKNOWN for i in ids])
        return faces.with_fields(**dict(zip(ESTIMATES, means.reshape(-1, len(ESTIMATES)).T, strict=True)))

    def _add(self, track_id: int, values: FloatArray) -> None:
        track = self._tracks.setdefault(track_id, _Track(0, UNKNOWN, 0))
        track.next_frame = self._frame + EVERY
        if np.isnan(values[0]):  # no clear view of the face
            return
        track.estimates = min(track.estimates + 1, AVERAGED)
        # Estimates of one face have the same bias, so that their mean is no more certain than each of them.
        before = values if track.estimates == 1 else track.mean
        track.mean = before + (values - before) / track.estimates
