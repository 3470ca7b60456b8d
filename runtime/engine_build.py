"""From an ONNX file to a TensorRT engine: parsed, built and inspected, by TensorRT 10.3 to 11 alike.

The network is strongly typed: the file says in which numbers each layer computes, and no builder flag says otherwise
(TensorRT 11 has none left).
"""

from __future__ import annotations

import contextlib
import logging
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import InputError, ModelError, ProviderError
from .layer_types import network_types
from .spec import ModelSpec, Task

log = logging.getLogger("mien")

Shape = tuple[int, int, int, int]
"""Of an input batch: (b, h, w, 3)."""
Progress = Callable[[str, float], None]
"""Called while an engine is built, with what is done and how much of all is done (0..1)."""

INPUT = "image"
DETECTOR_STEP = 32
DETECTOR_MAX_SIDE = 640
DEFAULT_BATCH = (1, 1, 16)
DEFAULT_WORKSPACE_MB = 1024
MAX_WORKSPACE_MB = 1 << 20
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


@dataclass(frozen=True, slots=True)
class Built:
    """A serialised engine. types: see `network_types`. timing_cache: for later builds."""

    plan: bytes
    timing_cache: bytes
    types: Mapping[str, int]
    seconds: float


def build_engine(
    trt: Any,
    model: Path,
    profile: Profile,
    *,
    workspace_mb: int = DEFAULT_WORKSPACE_MB,
    timing_cache: bytes = b"",
    progress: Progress | None = None,
) -> Built:
    """Parse a model file and build its engine for the GPU of this machine.

    workspace_mb: memory that the fastest kernels may use meanwhile. Ctrl-C ends the build.

    Raises:
        ModelError: TensorRT cannot read the file.
        InputError: shapes that the model does not take, or a workspace that no GPU has.
        ProviderError: there is no GPU, or the build fails, for instance for lack of memory.
    """
    if not 1 <= workspace_mb <= MAX_WORKSPACE_MB:
        raise InputError(f"wanted a workspace of 1 to {MAX_WORKSPACE_MB} MB, found {workspace_mb}")
    started = time.monotonic()
    logger = engine_logger(trt)
    builder, network = parse(trt, model, logger)
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace_mb << 20)
    config.clear_flag(trt.BuilderFlag.TF32)  # on by default; whoever wants less than float32 takes an fp16 file
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    shapes = builder.create_optimization_profile()
    shapes.set_shape(INPUT, profile.smallest, profile.usual, profile.largest)
    if config.add_optimization_profile(shapes) < 0:
        raise InputError(f"{model.name} does not take the shapes {profile}; export it again")
    # A cache of another GPU or TensorRT is refused, and an empty one begun.
    if not config.set_timing_cache(config.create_timing_cache(timing_cache), ignore_mismatch=False):
        config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)
    monitor = _monitor(trt, progress)
    config.progress_monitor = monitor
    with _interrupts_kept(monitor):
        plan = builder.build_serialized_network(network, config)
    if monitor.cancelled:
        raise KeyboardInterrupt
    if plan is None:
        why = "; ".join(map(_first_line, logger.errors[-2:])) or "TensorRT does not say why"
        raise ProviderError(f"TensorRT could not build {model.name} ({why}){_hint(logger.errors, workspace_mb)}")
    return Built(
        plan=bytes(plan),
        timing_cache=bytes(config.get_timing_cache().serialize()),
        types=network_types(trt, network),
        seconds=time.monotonic() - started,
    )


def _hint(errors: Sequence[str], workspace_mb: int) -> str:
    """What to do about a build that failed, where its errors tell."""
    told = " ".join(errors).lower().replace(" ", "")
    if "workspacelimit" in told:
        return f"; take more than --workspace {workspace_mb}"
    if "outofmemory" in told:
        return f"; close other programs, or take less: --workspace {max(1, workspace_mb // 4)}"
    return ""


def parse(trt: Any, model: Path, logger: Any) -> tuple[Any, Any]:
    """A builder and the strongly typed network of a model file.

    Raises:
        ModelError: TensorRT cannot read the file.
        ProviderError: there is no GPU.
    """
    try:
        builder = trt.Builder(logger)
    except TypeError as error:  # its factory gives None without a GPU
        why = "; ".join(logger.errors[-1:]) or "no GPU answers"
        raise ProviderError(f"TensorRT cannot start ({why}); look at nvidia-smi") from error
    typed = trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED  # its number differs between TensorRT 10 and 11
    network = builder.create_network(1 << int(typed))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(model)):
        errors = [parser.get_error(i) for i in range(parser.num_errors)]
        told = (
            "; ".join(f"{e.node_name() or 'graph'}: {_first_line(e.desc())}" for e in errors[:3])
            or "it does not say why"
        )
        raise ModelError(f"TensorRT cannot read {model} ({told}); int8 files for it need mien export --preset tensorrt")
    return builder, network


def load_engine(trt: Any, plan: bytes, logger: Any) -> Any | None:
    """The engine of a serialised one; None where it is of another TensorRT or GPU, or damaged.

    Raises:
        ProviderError: there is no GPU.
    """
    try:
        runtime = trt.Runtime(logger)
    except TypeError as error:
        raise ProviderError("TensorRT cannot start: no GPU answers; look at nvidia-smi") from error
    return runtime.deserialize_cuda_engine(plan)


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0][:200]


def engine_logger(trt: Any) -> Any:
    """A logger for TensorRT that passes on to ``logging`` and keeps the errors for a message."""

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, text: str) -> None:
            if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
                self.errors.append(text.strip())
            log.debug("TensorRT: %s", text)

    return Logger()


def _monitor(trt: Any, progress: Progress | None) -> Any:
    """Follows the phases of a build, which nest, and adds them up to one fraction."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.cancelled = False
            self._phases: dict[str, tuple[str | None, int]] = {}
            self._done: dict[str, int] = {}
            self._fraction = 0.0

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
            self._phases[phase] = (parent, max(1, steps))
            self._done[phase] = 0

        def step_complete(self, phase: str, step: int) -> bool:
            self._done[phase] = step + 1
            self._fraction = max(self._fraction, self._sum(phase))
            if progress is not None:
                progress(phase, self._fraction)
            return not self.cancelled

        def phase_finish(self, phase: str) -> None:
            self._phases.pop(phase, None)

        def _sum(self, phase: str) -> float:
            parent, steps = self._phases[phase]
            fraction = min(1.0, self._done[phase] / steps)
            while parent in self._phases:
                outer, outer_steps = self._phases[parent]
                fraction = min(1.0, (self._done[parent] + fraction) / outer_steps)
                parent = outer
            return fraction

    return Monitor()


@contextlib.contextmanager
def _interrupts_kept(monitor: Any) -> Iterator[None]:
    """Let Ctrl-C end the build at its next step: an exception must not pass through TensorRT's callbacks."""

    def cancel(*_: object) -> None:
        monitor.cancelled = True

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, cancel)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
