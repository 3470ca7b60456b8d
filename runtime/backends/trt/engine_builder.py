"""Builds a TensorRT engine from an ONNX model, with TensorRT 10.3 to 11.

The network is strongly typed: the model determines the data type of each layer, and no builder flag overrides it
(TensorRT 11 has none left).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...errors import InputError, ModelError, ProviderError
from ...interrupts import deferred
from ...models.input_shapes import INPUT, Profile
from ...models.model_file import ModelFile, ModelSource
from .layer_precision import network_types

log = logging.getLogger("mien")

Progress = Callable[[str, float], None]
"""Called while an engine is built, with the current phase and the completed fraction (0..1)."""

DEFAULT_WORKSPACE_MB = 1024
MAX_WORKSPACE_MB = 1 << 20


@dataclass(frozen=True, slots=True)
class BuiltEngine:
    """A serialized engine.

    Attributes:
        plan: The serialized engine.
        timing_cache: Kernel timings, for later builds.
        types: Number of heavy layers of the network by data type; see `network_types`.
        seconds: Duration of the build.
    """

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
) -> BuiltEngine:
    """Parse a model and build its engine for this machine's GPU; Ctrl-C cancels the build.

    Args:
        trt: The tensorrt module.
        source: Path of the model, or the file already read.
        profile: Input shapes that the engine accepts.
        workspace_mb: Scratch memory that kernels may use, MB.
        timing_cache: Kernel timings of earlier builds.
        progress: Called with the phase and the completed fraction.

    Raises:
        ModelError: TensorRT cannot read the model.
        InputError: The model does not accept the shapes, or no GPU has that much workspace.
        ProviderError: There is no GPU, or the build fails, for instance for lack of memory.
    """
    if not 1 <= workspace_mb <= MAX_WORKSPACE_MB:
        raise InputError(f"expected a workspace of 1 to {MAX_WORKSPACE_MB} MB, found {workspace_mb}")
    started = time.monotonic()
    model = ModelFile.of(source)
    logger = engine_logger(trt)
    builder, network = parse(trt, model, logger)
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace_mb << 20)
    config.clear_flag(trt.BuilderFlag.TF32)  # on by default; for less than float32, use an fp16 file
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    shapes = builder.create_optimization_profile()
    shapes.set_shape(INPUT, profile.min, profile.opt, profile.max)
    if config.add_optimization_profile(shapes) < 0:
        raise InputError(f"{model.name} does not accept the shapes {profile}; export it again")
    # The cache of another GPU or TensorRT is rejected; start an empty one.
    if not config.set_timing_cache(config.create_timing_cache(timing_cache), ignore_mismatch=False):
        config.set_timing_cache(config.create_timing_cache(b""), ignore_mismatch=False)
    monitor = _monitor(trt, progress)
    config.progress_monitor = monitor
    with deferred(monitor.cancel):  # at its next step: no exception may pass through TensorRT's callbacks
        plan = builder.build_serialized_network(network, config)
    if monitor.cancelled:
        raise KeyboardInterrupt
    if plan is None:
        why = "; ".join(map(_first_line, logger.errors[-2:])) or "TensorRT gives no reason"
        raise ProviderError(f"TensorRT could not build {model.name} ({why}){_hint(logger.errors, workspace_mb)}")
    return BuiltEngine(
        plan=bytes(plan),
        timing_cache=bytes(config.get_timing_cache().serialize()),
        types=network_types(trt, network),
        seconds=time.monotonic() - started,
    )


def _hint(errors: Sequence[str], workspace_mb: int) -> str:
    """Return what to do about a failed build, if its errors are known; else nothing."""
    text = " ".join(errors).lower().replace(" ", "")
    if "workspacelimit" in text:
        return f"; use more than --workspace-mb {workspace_mb}"
    if "outofmemory" in text:
        return f"; close other programs, or use less: --workspace-mb {max(1, workspace_mb // 4)}"
    return ""


def parse(trt: Any, source: ModelSource, logger: Any) -> tuple[Any, Any]:
    """Parse a model into a strongly typed network.

    Args:
        trt: The tensorrt module.
        source: Path of the model, or the file already read.
        logger: Logger made by `engine_logger`.

    Returns:
        The builder and the network.

    Raises:
        ModelError: TensorRT cannot read the model.
        ProviderError: There is no GPU.
    """
    try:
        builder = trt.Builder(logger)
    except TypeError as error:  # its factory returns None without a GPU
        why = "; ".join(logger.errors[-1:]) or "no GPU responds"
        raise ProviderError(f"TensorRT cannot start ({why}); check nvidia-smi") from error
    typed = trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED  # its number differs between TensorRT 10 and 11
    network = builder.create_network(1 << int(typed))
    parser = trt.OnnxParser(network, logger)
    model = ModelFile.of(source)
    content = model.path_or_bytes()
    if not (parser.parse(content) if isinstance(content, bytes) else parser.parse_from_file(content)):
        errors = [parser.get_error(i) for i in range(parser.num_errors)]
        reasons = (
            "; ".join(f"{e.node_name() or 'graph'}: {_first_line(e.desc())}" for e in errors[:3]) or "no reason given"
        )
        raise ModelError(
            f"TensorRT cannot read {model} ({reasons}); int8 files for it need mien export --target tensorrt"
        )
    return builder, network


def load_engine(trt: Any, plan: bytes, logger: Any) -> Any | None:
    """Deserialize an engine.

    Returns:
        The engine; None if it is damaged, or belongs to another TensorRT or GPU.

    Raises:
        ProviderError: There is no GPU.
    """
    try:
        runtime = trt.Runtime(logger)
    except TypeError as error:
        raise ProviderError("TensorRT cannot start: no GPU responds; check nvidia-smi") from error
    return runtime.deserialize_cuda_engine(plan)


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0][:200]


def engine_logger(trt: Any) -> Any:
    """Make a TensorRT logger that forwards to ``logging`` and collects errors for a message."""

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
    """Make a progress monitor that combines the nested phases of a build into one fraction."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.cancelled = False
            self._phases: dict[str, tuple[str | None, int]] = {}
            self._done: dict[str, int] = {}
            self._fraction = 0.0

        def cancel(self, _: object) -> None:
            self.cancelled = True

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
