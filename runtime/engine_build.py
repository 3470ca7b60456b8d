"""From an ONNX file to a TensorRT engine: parsed, built and inspected, by TensorRT 10.3 to 11 alike.

The network is strongly typed: the file says in which numbers each layer computes, and no builder flag says otherwise
(TensorRT 11 has none left).
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import InputError, ModelError, ProviderError
from .runner import Precision
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
_MOST = 0.5
"""Of the heavy layers of an fp16 engine, more than this share computes in half."""


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
        InputError: the three are not in order, or `max_side` is smaller than the size that the model was trained at.
    """
    if not 1 <= batch[0] <= batch[1] <= batch[2]:
        raise InputError(
            f"wanted a smallest, usual and largest batch such as 1,1,16; found {','.join(map(str, batch))}"
        )
    height, width = spec.input_size
    if spec.task is not Task.DETECTOR:
        return Profile(*((n, height, width, 3) for n in batch))
    if max_side < max(height, width):
        raise InputError(f"wanted a side of {max(height, width)} px and more for this detector, found {max_side}")
    side = -(-max_side // DETECTOR_STEP) * DETECTOR_STEP
    return Profile((1, DETECTOR_STEP, DETECTOR_STEP, 3), (1, height, width, 3), (1, side, side, 3))


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
        ProviderError: there is no GPU, or the build fails, for instance for lack of memory.
    """
    started = time.monotonic()
    logger = engine_logger(trt)
    builder, network = parse(trt, model, logger)
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace_mb << 20)
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
        raise ProviderError(
            f"TensorRT could not build {model.name} ({why}); if memory is short, close other programs or use "
            f"--workspace {max(64, workspace_mb // 4)}"
        )
    return Built(
        plan=bytes(plan),
        timing_cache=bytes(config.get_timing_cache().serialize()),
        types=network_types(trt, network),
        seconds=time.monotonic() - started,
    )


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


def network_types(trt: Any, network: Any) -> dict[str, int]:
    """How many heavy layers of a parsed network compute in what, by TensorRT's names such as ``HALF``."""
    heavy = (trt.LayerType.CONVOLUTION, trt.LayerType.DECONVOLUTION, trt.LayerType.MATRIX_MULTIPLY)
    layers = [network.get_layer(i) for i in range(network.num_layers)]
    return dict(Counter(layer.get_output(0).dtype.name for layer in layers if layer.type in heavy))


def engine_types(trt: Any, engine: Any) -> dict[str, int]:
    """How many heavy layers of an engine give what type, as its inspector tells.

    Layers are fused in an engine; those count whose kind or name speaks of a convolution or a matrix product.
    """
    text = engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
    found: Counter[str] = Counter()
    for layer in json.loads(text).get("Layers", []):
        if not isinstance(layer, dict) or not layer.get("Outputs"):
            continue  # a bare name: the engine was built without details
        if _HEAVY.search(f"{layer.get('LayerType', '')} {layer.get('Name', '')}"):
            found[_type_name(str(layer["Outputs"][0].get("Format/Datatype", "")))] += 1
    return dict(found)


_HEAVY = re.compile("conv|gemm|matmul|matrix|linear", re.IGNORECASE)
_TYPES = {"HALF": "HALF|FP16", "INT8": "INT8", "BF16": "BF16", "FLOAT": "FLOAT|FP32"}


def _type_name(text: str) -> str:
    """TensorRT's name of a type: versions say ``Half`` or ``Channel major FP16 format where channel % 8 == 0``."""
    upper = text.upper()
    return next((name for name, words in _TYPES.items() if re.search(rf"\b(?:{words})\b", upper)), "OTHER")


def check_types(types: Mapping[str, int], precision: Precision, *, name: str) -> None:
    """Whether the heavy layers compute in what the model file asks for.

    Raises:
        ProviderError: they do not.
    """
    floats, halves, bytes8 = (types.get(key, 0) for key in ("FLOAT", "HALF", "INT8"))
    holds = {
        Precision.FP32: not halves and not bytes8 and floats > 0,
        Precision.FP16: halves > _MOST * (halves + floats),
        Precision.INT8: bytes8 > 0,
    }[precision]
    if not holds:
        told = ", ".join(f"{count} in {kind}" for kind, count in sorted(types.items())) or "none that it tells of"
        raise ProviderError(f"{name} is {precision.value}, but TensorRT's engine has layers: {told}")


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
