"""What a measured process may meet, for the tests: opened by name in a fresh interpreter."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from mien.bench.timing.interleave import TimedCalls, time_calls
from mien.bench.worker.candidate import Candidate
from mien.runtime.errors import InputError
from mien.runtime.models.spec import ModelSpec, Precision, Task


class Sleeper:
    """Every call takes `candidate.path` ms; outputs are the means of the images."""

    precision: Precision | None = Precision.FP32

    def __init__(self, candidate: Candidate) -> None:
        self.spec: ModelSpec | None = ModelSpec(Task.CLASSIFY, (4, 4), ("logits",))
        self.provider = f"sleeps-{'onnxruntime' in sys.modules}-{'torch' in sys.modules}"
        self.batch = candidate.batch
        self.seconds = float(str(candidate.path)) / 1e3

    def bind(self, material: Mapping[str, Any]) -> tuple[str, str]:
        return "digest", f"{sorted(material)} {os.environ.get('OMP_NUM_THREADS')}"

    def call(self, i: int) -> object:
        time.sleep(self.seconds)
        return i

    def prime(self, first: int, count: int) -> int:
        self.call(first)
        return count

    def time_calls(self, first: int, count: int) -> TimedCalls:
        return time_calls(self.call, first=first, count=count)

    def outputs(self, batch: Any) -> Mapping[str, Any]:
        if len(batch) != self.batch:
            raise InputError(f"expected batches of {self.batch}, found {len(batch)}")
        return {"logits": batch.reshape(len(batch), -1).mean(axis=1, keepdims=True)}

    def overhead_us(self) -> tuple[float, float] | None:
        return 1.5, 100.0

    def nodes(self) -> tuple[int, int] | None:
        return 3, 4


def sleeps(candidate: Candidate) -> Sleeper:
    print("a library that prints")
    return Sleeper(candidate)


def refuses(candidate: Candidate) -> Sleeper:
    raise InputError("this file is no good")


def breaks(candidate: Candidate) -> Sleeper:
    raise ZeroDivisionError("a bug")


def aborts(candidate: Candidate) -> Sleeper:
    os.abort()


def hangs(candidate: Candidate) -> Sleeper:
    time.sleep(1000)
    raise AssertionError


def floods(candidate: Candidate) -> Sleeper:
    for _ in range(200):
        os.write(1, b"x" * 100_000)
    raise ValueError("after the flood")


def falls_silent(candidate: Candidate) -> Sleeper:
    os.closerange(3, 20)
    time.sleep(1000)
    raise AssertionError


def devours(candidate: Candidate) -> Sleeper:
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (1 << 32, 1 << 32))
    np.ones(1 << 32)
    raise AssertionError


class Fussy(Sleeper):
    """Refuses whatever it is given."""

    def bind(self, material: Mapping[str, Any]) -> tuple[str, str]:
        raise InputError("not this")


def wants_nothing(candidate: Candidate) -> Sleeper:
    return Fussy(candidate)


class Aborter(Sleeper):
    """Aborts in its third round."""

    def call(self, i: int) -> object:
        if i >= 4:
            os.abort()
        return super().call(i)


def aborts_later(candidate: Candidate) -> Sleeper:
    return Aborter(candidate)
