"""Accuracy of one artifact on labelled data, with what an interval needs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Any

import numpy as np
import numpy.typing as npt

from mien.runtime.errors import InputError
from mien.runtime.values import FloatArray

REPLICATES = 400


class Metric(str, Enum):
    """In what a task's accuracy is told."""

    NME = "nme"
    """Percent of the outer eye distance, the mean over faces."""
    MAE = "mae"
    """Years."""
    AP50 = "ap50"
    """Percent."""
    ACCURACY = "accuracy"
    """Percent of pictures."""

    @property
    def higher_is_better(self) -> bool:
        """Whether more of it is more accurate."""
        return self in (Metric.AP50, Metric.ACCURACY)

    @property
    def unit(self) -> str:
        """Behind a figure."""
        return " years" if self is Metric.MAE else " %"


@dataclass(frozen=True, slots=True)
class Accuracy:
    """A figure over `count` labelled samples.

    replicates: the same figure over samples drawn with replacement (a bootstrap). The draws depend on nothing but
    `count`: two artifacts measured on the same data, which `data_digest` tells, are compared draw by draw.
    """

    metric: Metric
    value: float
    count: int
    replicates: tuple[float, ...]
    data_digest: str

    def __str__(self) -> str:
        return f"{self.value:.2f}{self.metric.unit}"


def mean_accuracy(values: FloatArray, metric: Metric, *, data_digest: str) -> Accuracy:
    """The mean of values (n,), one a sample.

    Raises:
        InputError: no samples, or one that is not finite.
    """
    return resampled(lambda picks: float(values[picks].mean()), len(values), metric, data_digest=data_digest)


def resampled(figure: Callable[[npt.NDArray[Any]], float], count: int, metric: Metric, *, data_digest: str) -> Accuracy:
    """A figure that is a function of the rows (k,) of the samples it is taken over.

    Raises:
        InputError: no samples, or a figure that is not finite.
    """
    if not count:
        raise InputError(f"wanted labelled samples to tell the {metric.value} of, found none")
    value = figure(np.arange(count))
    draws = np.random.default_rng(0).integers(0, count, (REPLICATES, count))
    replicates = tuple(round(figure(picks), 6) for picks in draws)
    if not np.isfinite([value, *replicates]).all():
        raise InputError(f"the {metric.value} is not a number")
    return Accuracy(metric, round(value, 6), count, replicates, data_digest)
