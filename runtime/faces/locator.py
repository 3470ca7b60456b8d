"""Locates the landmarks of several faces on two threads in parallel."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ..models.runner import Provider, Runner
from ..values import FloatArray, Image
from .landmarks import locate


class Locator:
    """Locator of landmarks, which on the CPU processes half of the faces in a second thread.

    The two calls wait for each other once, whereas the threads of one call do so at every operator, which costs much
    where the detector or another program takes one of the cores. On a GPU all faces are located in one call.

    Args:
        runner: A landmark model.
    """

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._shares = runner.provider == Provider.CPU.value
        self._helper = ThreadPoolExecutor(1, thread_name_prefix="landmarks")

    def __call__(self, image: Image, bounds: FloatArray, roll: FloatArray) -> tuple[FloatArray, FloatArray]:
        """See `locate`."""
        own = (len(bounds) + 1) // 2 if self._shares else len(bounds)
        if own == len(bounds):
            return locate(self._runner, image, bounds, roll)
        others = self._helper.submit(locate, self._runner, image, bounds[own:], roll[own:])
        points, presence = locate(self._runner, image, bounds[:own], roll[:own])
        other_points, other_presence = others.result()
        return np.concatenate([points, other_points]), np.concatenate([presence, other_presence])

    def close(self) -> None:
        """End the thread."""
        self._helper.shutdown(wait=False)
