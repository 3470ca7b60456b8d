"""Crops whose eyes lie where an aligned face has them, for models of the whole face such as age and gender."""

from __future__ import annotations

import numpy as np

from .canonical_face import CANONICAL
from .values import FloatArray

CROP_SCALE = 1.855
"""Side of the crop over the distance of the outer eye corners, as UTKFace's aligned crops have it (median of 600)."""
EYE_HEIGHT = 0.3
"""Height of the eyes in the crop, as a fraction from its top (likewise)."""
_INNER = slice(17, 68)
"""Brows to lips; the jaw line is another for each pose."""


def alignment_matrix(landmarks: FloatArray, *, scale: float, size: int) -> FloatArray:
    """Affine map (2, 3) from image px to the aligned crop of `size` px, of landmarks (68, ≥ 2).

    The mean face seen from the front is laid on the landmarks by a similarity, in the sense of least squares
    (Umeyama, PAMI 1991); the crop is `scale` of its outer eye distances wide.
    """
    seen = landmarks[_INNER, 0] + 1j * landmarks[_INNER, 1]
    mean_face = CANONICAL[_INNER, 0] + 1j * CANONICAL[_INNER, 1]
    centred = seen - seen.mean()
    # The similarity from picture to mean face, as a complex factor: rotation and zoom in one.
    factor = (centred.conj() @ (mean_face - mean_face.mean())) / (centred.conj() @ centred)
    zoom = factor * size / scale
    eyes = complex(0.5 * size, EYE_HEIGHT * size) - complex(0.5, 0.5)  # centre of a pixel = its index
    shift = eyes + (mean_face.mean() - factor * seen.mean()) * size / scale
    return np.array([[zoom.real, -zoom.imag, shift.real], [zoom.imag, zoom.real, shift.imag]])
