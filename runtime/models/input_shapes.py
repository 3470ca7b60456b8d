"""Input shapes that a model is built for."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..errors import InputError
from .spec import ModelSpec, Task

Shape = tuple[int, int, int, int]
"""Shape of an input batch: (b, h, w, 3)."""

INPUT = "image"
"""Name of every model's input tensor."""
DETECTOR_STEP = 32
"""Both sides of a detector's input are multiples of this, px."""
DETECTOR_MAX_SIDE = 960
"""Longest side in px that engines for detectors accept by default; `--blur` searches frames of this size."""
DEFAULT_BATCH = (1, 1, 16)
MAX_VALUES = 2**31 - 1
"""Largest number of values in a TensorRT tensor."""


@dataclass(frozen=True, slots=True)
class Profile:
    """Optimization profile: the input shapes that an engine accepts.

    Attributes:
        min: Smallest shape.
        opt: Shape that the engine is tuned for.
        max: Largest shape.
    """

    min: Shape
    opt: Shape
    max: Shape

    def accepts(self, shape: tuple[int, ...]) -> bool:
        """Return whether a batch of this shape can be run."""
        return all(low <= n <= high for low, n, high in zip(self.min, shape, self.max, strict=True))

    def __str__(self) -> str:
        return "–".join("×".join(map(str, shape)) for shape in (self.min, self.opt, self.max))


def profile_for(
    spec: ModelSpec, batch: tuple[int, int, int] = DEFAULT_BATCH, max_side: int = DETECTOR_MAX_SIDE
) -> Profile:
    """Return the default profile of a model.

    A detector takes one picture per call, of any size up to `max_side`.

    Args:
        spec: The model's spec.
        batch: Minimum, optimum and maximum number of images per call; ignored for a detector.
        max_side: Longest side of a detector's picture, px; rounded up to a multiple of 32.

    Raises:
        InputError: The batch sizes are not in ascending order, `max_side` is smaller than the model's training size, or
            the input exceeds what TensorRT can hold.
    """
    if not 1 <= batch[0] <= batch[1] <= batch[2]:
        raise InputError(
            f"expected a minimum, optimum and maximum batch such as 1,1,16; found {','.join(map(str, batch))}"
        )
    height, width = spec.input_size
    if spec.task is not Task.DETECTOR:
        return _within_limit(Profile(*((n, height, width, 3) for n in batch)))
    if max_side < max(height, width):
        raise InputError(f"expected a side of at least {max(height, width)} px for this detector, found {max_side}")
    side = -(-max_side // DETECTOR_STEP) * DETECTOR_STEP
    return _within_limit(Profile((1, DETECTOR_STEP, DETECTOR_STEP, 3), (1, height, width, 3), (1, side, side, 3)))


def _within_limit(profile: Profile) -> Profile:
    if math.prod(profile.max) > MAX_VALUES:
        shape = "×".join(map(str, profile.max))
        raise InputError(
            f"expected inputs of at most {MAX_VALUES} values, found {shape}; use fewer or smaller pictures"
        )
    return profile
