"""From an ONNX file to a TensorRT engine: parsed, built and inspected, by TensorRT 10.3 to 11 alike.

The network is strongly typed: the file says in which numbers each layer computes, and no builder flag says otherwise
(TensorRT 11 has none left).
"""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mien.runtime.backends.trt.layer_precision import network_types
from mien.runtime.errors import InputError, ModelError, ProviderError
from mien.runtime.models.input_shapes import INPUT, Profile
from mien.runtime.models.model_file import ModelFile, ModelSource

log = logging.getLogger("mien")

Progress = Callable[[str, float], None]
"""Called while an engine is built, with what is done and how much of all is done (0..1)."""

DEFAULT_WORKSPACE_MB = 1024
MAX_WORKSPACE_MB = 1 << 20


@dataclass(frozen=True, slots=True)
class Built:
    """A serialised engine. types: see `network_types`. timing_cache: for later builds."""

    plan: bytes
    timing_cache: bytes
    types: Mapping[str, int]
    seconds: float


def build_engine(
    trt: Any,
    source: ModelSource,
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
    model = ModelFile.of(source)
    logger = engine_logger(trt)
    builder, network = parse(trt, model, logger)
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace_mb << 20)
    config.clear_flag(trt.BuilderFlag.TF32)  # on by default; whoever wants less than float32 takes an fp16 file
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    shapes = builder.create_optimization_profile()
    shapes.set_shape(INPUT, profile.min, profile.opt, profile.max)
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
        return f"; take more than --workspace-mb {workspace_mb}"
    if "outofmemory" in told:
        return f"; close other programs, or take less: --workspace-mb {max(1, workspace_mb // 4)}"
    return ""


def parse(trt: Any, source: ModelSource, logger: Any) -> tuple[Any, Any]:
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
    model = ModelFile.of(source)
    content = model.content
    if not (parser.parse(content) if isinstance(content, bytes) else parser.parse_from_file(str(content))):
        errors = [parser.get_error(i) for i in range(parser.num_errors)]
        told = (
            "; ".join(f"{e.node_name() or 'graph'}: {_first_line(e.desc())}" for e in errors[:3])
            or "it does not say why"
        )
        raise ModelError(f"TensorRT cannot read {model} ({told}); int8 files for it need mien export --target tensorrt")
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
