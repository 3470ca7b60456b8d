"""What a candidate's process measures: the `Target` protocol, and `ModelTarget` for mien's models."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from ...runtime.backends.ort.onnx_runner import OnnxRunner
from ...runtime.backends.ort.onnx_session import NAMES, placement
from ...runtime.errors import InputError
from ...runtime.faces.attributes import estimate
from ...runtime.faces.detector import OwnDetector
from ...runtime.models.input_shapes import INPUT
from ...runtime.models.runner import Provider, Runner
from ...runtime.models.spec import ModelSpec, Precision, Task
from ...runtime.values import FloatArray, Image, percentile
from ...runtime.vision.crop import cut_crop
from ...runtime.vision.geometry import crop_matrix, landmark_bounds
from ...runtime.vision.resize import resized
from ..timing.interleave import DeviceClock, TimedCalls, digest_of, time_calls
from ..timing.measurement import Level
from .candidate import Candidate

InputArrays = Mapping[str, npt.NDArray[Any]]
PRIMING_CALLS = 1
"""Untimed calls (or frames) before each round, to refill the caches that other candidates have evicted."""
OVERHEAD_CALLS = 300
OVERHEAD_NS = 2_000_000_000


class Target(Protocol):
    """A candidate opened in this process.

    Attributes:
        spec: The model's spec; None for a foreign model or a pipeline.
        provider: The actual provider.
        precision: Precision of the computation; None if unknown.
        batch: Images per call.
    """

    spec: ModelSpec | None
    provider: str
    precision: Precision | None
    batch: int

    def bind(self, arrays: InputArrays) -> tuple[str, str]:
        """Set the inputs.

        Args:
            arrays: Input arrays by name.

        Returns:
            The digest of the inputs, and a note on them for the report, which may be empty.

        Raises:
            InputError: The inputs do not fit this candidate.
        """
        ...

    def prime(self, first: int, count: int) -> int:
        """Make the untimed calls that precede a round of calls; return the number of calls to time in it.

        Args:
            first: Number of the round's first call.
            count: Calls per round; a target may have rounds of its own.
        """
        ...

    def time_calls(self, first: int, count: int) -> TimedCalls:
        """Time calls; see `CallTimer`."""
        ...

    def outputs(self, batch: Image) -> Mapping[str, FloatArray]:
        """Run the model on a batch (b, h, w, 3) uint8 BGR."""
        ...

    def overhead_us(self) -> tuple[float, float] | None:
        """Measure the time that the runner's own code adds to a bare call, and that call, in µs; None without one."""
        ...

    def nodes(self) -> tuple[int, int] | None:
        """Return the number of nodes that run on the provider, and of all nodes; None if unknown."""
        ...


class ModelTarget:
    """A mien model behind its `Runner`, called alone or from picture to result."""

    def __init__(self, runner: Runner, candidate: Candidate, *, device_clock: DeviceClock | None = None) -> None:
        self.spec: ModelSpec | None = runner.spec
        self.provider = runner.provider
        self.precision: Precision | None = runner.precision
        self._runner = runner
        self._candidate = candidate
        self.batch = candidate.batch
        self._device_clock = device_clock
        self._inputs: list[Image] = []
        self._call: Callable[[int], object] = runner_without_inputs

    def bind(self, arrays: InputArrays) -> tuple[str, str]:
        """See `Target`; arrays are ``inputs`` (n, b, h, w, 3), or pictures with the landmarks of a face each."""
        runner = self._runner
        if self._candidate.level is Level.PICTURE:
            pictures = [arrays[f"picture_{i}"] for i in range(len(arrays["landmarks"]))]
            self._call = picture_call(runner, pictures, arrays["landmarks"])
            return digest_of(pictures), ""
        inputs = list(arrays["inputs"])
        self._inputs = inputs
        self._call = lambda i: runner(inputs[i % len(inputs)])
        return digest_of(inputs), ""

    def prime(self, first: int, count: int) -> int:
        """See `Target`."""
        self.time_calls(first, PRIMING_CALLS)
        return count

    def time_calls(self, first: int, count: int) -> TimedCalls:
        """See `CallTimer`."""
        return time_calls(self._call, first=first, count=count, device_clock=self._device_clock)

    def outputs(self, batch: Image) -> Mapping[str, FloatArray]:
        """See `Target`."""
        return self._runner(batch)

    def overhead_us(self) -> tuple[float, float] | None:
        """See `Target`."""
        runner, inputs = self._runner, self._inputs
        if not isinstance(runner, OnnxRunner) or not inputs:
            return None
        session = runner.session
        if session is None:
            return None
        return overhead_us(lambda i: runner(inputs[i]), lambda i: session.run(None, {INPUT: inputs[i]}), len(inputs))

    def nodes(self) -> tuple[int, int] | None:
        """See `Target`."""
        if not isinstance(self._runner, OnnxRunner):
            return None
        return nodes_on_provider(self._candidate.path, Provider(self.provider))


def runner_without_inputs(_: int) -> object:
    """Raise InputError, as no inputs have been bound."""
    raise InputError("this candidate has no inputs yet")


def picture_call(runner: Runner, pictures: Sequence[Image], landmarks: FloatArray) -> Callable[[int], object]:
    """Return a function that takes the number of a call, crops a picture, runs the model, and decodes the result.

    Args:
        runner: The model.
        pictures: Pictures (h, w, 3) uint8 BGR, which calls cycle through.
        landmarks: Landmarks (n, 68, ≥ 2) of one face in each picture, in px.
    """
    spec, count = runner.spec, len(pictures)
    size = spec.input_size[0]
    if spec.task is Task.DETECTOR:
        detector = OwnDetector(runner)
        return lambda i: detector(pictures[i % count])
    if spec.task is Task.AGE_GENDER:
        return lambda i: estimate(runner, pictures[i % count], landmarks[i % count][None])
    if spec.task is Task.CLASSIFY:
        return lambda i: runner(resized(pictures[i % count], size)[None])

    bounds = landmark_bounds(landmarks)

    def locate(i: int) -> FloatArray:
        matrix = crop_matrix(bounds[i % count], scale=spec.crop_scale, size=size)
        crop = cut_crop(pictures[i % count], matrix, size)
        return crop.to_image(runner(crop.pixels[None])["landmarks"][0].astype(np.float64))

    return locate


def overhead_us(
    through_runner: Callable[[int], object], bare: Callable[[int], object], inputs: int
) -> tuple[float, float]:
    """Measure the time that a runner adds to a bare call.

    The two alternate on the same inputs, and take turns in going first. The overhead is the difference of their first
    deciles: the cost of a few lines of Python is constant, and other load on the machine can only lengthen a call.

    Args:
        through_runner: Calls the runner on the input of a given number.
        bare: Calls the session on it.
        inputs: Number of inputs.

    Returns:
        The overhead and the median of the bare call, both in µs.
    """
    taken: tuple[list[int], list[int]] = ([], [])
    until = time.perf_counter_ns() + OVERHEAD_NS
    for i in range(OVERHEAD_CALLS):
        for which in (0, 1) if i % 2 else (1, 0):
            call = (through_runner, bare)[which]
            start = time.perf_counter_ns()
            result = call(i // 2 % inputs)
            taken[which].append(time.perf_counter_ns() - start)
            del result
        if time.perf_counter_ns() > until:
            break
    through, alone = (np.array(ns) / 1e3 for ns in taken)
    return percentile(through, 10) - percentile(alone, 10), float(np.median(alone))


def nodes_on_provider(path: Path, provider: Provider) -> tuple[int, int] | None:
    """Count the nodes that ONNX Runtime assigns to `provider`, and all nodes; None if this version does not report it.

    Opens a second session, since recording the assignment could slow down the measured one.
    """
    placed = placement(path, provider=provider)
    if placed is None:
        return None
    return len(placed.get(NAMES[provider], [])), sum(len(nodes) for nodes in placed.values())
