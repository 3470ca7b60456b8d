"""Range of input shapes that a model is built or run for."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mien.runtime.errors import InputError
from mien.runtime.models.spec import ModelSpec, Task

Shape = tuple[int, int, int, int]
"""Of an input batch: (b, h, w, 3)."""


INPUT = "image"


DETECTOR_STEP = 32


DETECTOR_MAX_SIDE = 640


DEFAULT_BATCH = (1, 1, 16)


MAX_VALUES = 2**31 - 1
"""So many values a tensor of TensorRT can have."""


@dataclass(frozen=True, slots=True)
class Profile:
    """Input shapes that an engine takes; it is fastest at `usual`."""

    smallest: Shape
    usual: Shape
    largest: Shape

    def takes(self, shape: tuple[int, ...]) -> bool:
        """Whether a batch of this shape can be run."""
        return all(a <= n <= b for a, n, b in zip(self.smallest, shape, self.largest, strict=True))

    def __str__(self) -> str:
        return "–".join("×".join(map(str, shape)) for shape in (self.smallest, self.usual, self.largest))


def profile_for(
    spec: ModelSpec, batch: tuple[int, int, int] = DEFAULT_BATCH, max_side: int = DETECTOR_MAX_SIDE
) -> Profile:
    """The profile of a model. batch: smallest, usual and largest number of images in a call.

    A detector takes one picture at a time, of any size up to `max_side` px.

    Raises:
        InputError: the three are not in order, `max_side` is smaller than the size that the model was trained at, or
            either is larger than TensorRT can take.
    """
    if not 1 <= batch[0] <= batch[1] <= batch[2]:
        raise InputError(
            f"wanted a smallest, usual and largest batch such as 1,1,16; found {','.join(map(str, batch))}"
        )
    height, width = spec.input_size
    if spec.task is not Task.DETECTOR:
        return _within_limit(Profile(*((n, height, width, 3) for n in batch)))
    if max_side < max(height, width):
        raise InputError(f"wanted a side of {max(height, width)} px and more for this detector, found {max_side}")
    side = -(-max_side // DETECTOR_STEP) * DETECTOR_STEP
    return _within_limit(Profile((1, DETECTOR_STEP, DETECTOR_STEP, 3), (1, height, width, 3), (1, side, side, 3)))


def _within_limit(profile: Profile) -> Profile:
    if math.prod(profile.largest) > MAX_VALUES:
        shape = "×".join(map(str, profile.largest))
        raise InputError(f"wanted inputs of at most {MAX_VALUES} values, found {shape}; take fewer or smaller pictures")
    return profile
