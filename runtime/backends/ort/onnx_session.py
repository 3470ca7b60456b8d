"""Opens ONNX Runtime sessions that run on the requested provider, or fail."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import onnxruntime as ort
from onnxruntime.capi.onnxruntime_pybind11_state import EngineError, EPFail, Fail
from onnxruntime.capi.onnxruntime_pybind11_state import RuntimeException as OrtRuntimeException

from ...errors import ModelError, ProviderError
from ...files import cache_folder
from ...models.first_try import try_first
from ...models.input_shapes import INPUT, profile_for
from ...models.model_file import ModelFile, ModelSource
from ...models.runner import Provider
from ...models.spec import Precision, precision_of
from .cuda_libraries import captured_stdout, preload, why_not
from .io_binding import GPU_LOCK

log = logging.getLogger("mien")

NAMES = {
    Provider.CPU: "CPUExecutionProvider",
    Provider.CUDA: "CUDAExecutionProvider",
    Provider.ORT_TENSORRT: "TensorrtExecutionProvider",
}
"""ONNX Runtime's names of its providers."""

CUDA_OPTIONS = {
    # The number of faces changes between frames; an exhaustive search would stall the view at each new batch size.
    "cudnn_conv_algo_search": "HEURISTIC",
    # float32 means float32; for less, use an fp16 file.
    "use_tf32": "0",
    # Small models: allocate what is requested, not the next power of two.
    "arena_extend_strategy": "kSameAsRequested",
}

_GPU_FAILURES = (EPFail, EngineError, Fail, OrtRuntimeException, RuntimeError)
"""Errors that ONNX Runtime raises when a GPU fails, lacks memory or lacks kernels; they have no common base."""


REASON_LENGTH = 200
_NOISE = (
    re.compile(r"^.*\[ONNXRuntimeError\] : \d+ : \w+ : "),
    re.compile(r"^Exception during initialization: "),
    re.compile(r"^Load model from .*? failed:\s*"),
    re.compile(r"^.*(?:\bError:? |Status Message: )(?=.)"),
    re.compile(r"^/?\S+\.(?:cc|h|cpp|cu):\d+ (?:\w+(?= [A-Z])|.*?\)>?(?: const)?) "),
    re.compile(r"(?<=[\s\"'(])(?:[A-Za-z]:)?(?:[/\\][^/\\\"'()]+)+[/\\](?=[^/\\])"),
)


@dataclass(frozen=True, slots=True)
class OpenSession:
    """An open session.

    Attributes:
        session: The `onnxruntime.InferenceSession`.
        cuda_graph: Whether calls are captured as CUDA graphs.
    """

    session: Any
    cuda_graph: bool = False


def open_session(
    source: ModelSource, *, provider: Provider, threads: int, cuda_graph: bool = True, record_placement: bool = False
) -> OpenSession:
    """Open a session and check which provider runs it.

    Args:
        source: Path of the model, or the file already read.
        provider: Execution provider, one of `NAMES`.
        threads: Intra-op threads, 0 for all cores.
        cuda_graph: Capture calls on CUDA if every node of the model runs there.
        record_placement: Record which provider each node was assigned to.

    Raises:
        ModelError: The file is missing or not an ONNX file.
        ProviderError: The model would not actually run on `provider`.
        ProcessFailed: ONNX Runtime crashes on it; see `try_first`.
    """
    model = ModelFile.of(source)
    if provider not in NAMES:
        raise ProviderError(f"{provider.value} is not an ONNX Runtime provider; open the model with open_model")
    try_first(model, runtime=f"ONNX Runtime {ort.__version__} ({provider.value})", open_it=_open_once, args=(provider,))
    options = _session_options(threads, record_placement=record_placement)
    if provider is Provider.CUDA and cuda_graph:
        try:
            return OpenSession(_session(model, provider, options, {"enable_cuda_graph": "1"}), cuda_graph=True)
        except ProviderError as error:  # for instance, a node does not run on CUDA
            log.info("%s: no CUDA graph (%s)", model.name, error)
    return OpenSession(_session(model, provider, options, {}))


def _open_once(model: ModelFile, provider: Provider) -> None:
    """Open a session and discard it; a mien model is also run once."""
    session = _session(model, provider, _session_options(1), {})
    if model.metadata is None:
        return
    try:
        with gpu_errors(provider, doing=f"to run {model.name}"):
            session.run(None, {INPUT: np.zeros((1, *model.metadata.input_size, 3), np.uint8)})
    except ProviderError:
        raise
    except Exception as error:  # ONNX Runtime has one class per error code, without a common base
        raise ModelError(f"{model} cannot be run on a picture ({reason_of(error)}); export it again") from error


def compiled_in(provider: Provider) -> bool:
    """Return whether this onnxruntime was built with a provider; it may still fail to load."""
    return NAMES[provider] in ort.get_available_providers()


@contextlib.contextmanager
def gpu_errors(provider: Provider, *, doing: str) -> Iterator[None]:
    """Translate ONNX Runtime's GPU errors into ProviderError; errors on the CPU pass unchanged.

    Args:
        provider: Provider that runs the model.
        doing: Activity for the message, such as ``while landmarks ran``.

    Raises:
        ProviderError: The GPU failed.
    """
    try:
        yield
    except _GPU_FAILURES as error:
        if provider is Provider.CPU:
            raise
        raise ProviderError(
            f"{provider.value} failed {doing} ({reason_of(error)}); check nvidia-smi, or use --provider cpu"
        ) from error


def _session_options(threads: int, *, record_placement: bool = False) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4  # errors are raised, and need not be printed too
    # Memory patterns are planned and retained per shape: 30 MB for the detector's two sizes, without a speedup.
    options.enable_mem_pattern = False
    # Worker threads spin within a call only, because a pipeline's models and the capture thread share the cores.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if record_placement:
        options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    return options


def _session(model: ModelFile, provider: Provider, options: Any, extra: Mapping[str, str]) -> Any:
    name = NAMES[provider]
    if not compiled_in(provider):
        raise ProviderError(
            f"this onnxruntime has no {name} (it has {', '.join(ort.get_available_providers())}); "
            f"install mien[cuda]{' and TensorRT 10' * (provider is Provider.ORT_TENSORRT)} in a fresh environment"
        )
    providers = _providers(model, provider, extra)
    on_gpu = provider is not Provider.CPU
    if on_gpu:
        preload()
    else:
        _register_arena()
        options.add_session_config_entry("session.use_env_allocators", "1")
    try:
        with (
            gpu_errors(provider, doing=f"to open {model.name}"),
            GPU_LOCK if on_gpu else contextlib.nullcontext(),
            _quiet() if on_gpu else contextlib.nullcontext(),
        ):
            session = ort.InferenceSession(model.path_or_bytes(), options, providers=providers)
    except (ModelError, ProviderError):
        raise
    except Exception as error:  # ONNX Runtime has one class per error code, without a common base
        _ = model.metadata  # raises for a file of another kind, and says what it holds
        raise ModelError(f"{model} is not a model that ONNX Runtime can load ({reason_of(error)})") from error
    if session.get_providers()[0] != name:  # ONNX Runtime falls back silently
        raise ProviderError(
            f"{provider.value} was requested, but ONNX Runtime fell back to {session.get_providers()[0]}: "
            f"{why_not(name)}"
        )
    return session


@cache
def _register_arena() -> None:
    """Share one CPU arena between all sessions: a pipeline's models run in turn and can reuse its memory."""
    memory = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    as_requested = ort.OrtArenaCfg({"arena_extend_strategy": 1})  # not the next power of two
    ort.create_and_register_allocator(memory, as_requested)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence ONNX Runtime while a provider loads; failures are raised instead."""
    ort.set_default_logger_severity(4)
    try:
        with captured_stdout():
            yield
    finally:
        ort.set_default_logger_severity(2)  # the default


def _providers(model: ModelFile, provider: Provider, extra: Mapping[str, str]) -> list[Any]:
    if provider is Provider.CPU:
        return [NAMES[provider]]
    cuda = (NAMES[Provider.CUDA], CUDA_OPTIONS | dict(extra))
    if provider is Provider.CUDA:
        return [cuda]
    return [(NAMES[Provider.ORT_TENSORRT], _tensorrt_options(model)), cuda]


def _tensorrt_options(model: ModelFile) -> dict[str, str]:
    """Cache engines, build them once for all shapes, and allow fp16 or int8 only for files in that precision."""
    spec = model.spec
    precision = precision_of(spec, origin=model.origin)
    timings = cache_folder() / "onnxruntime"
    engines = timings / model.sha256[:16]  # ONNX Runtime names an engine by its graph, not its weights
    try:
        engines.mkdir(parents=True, exist_ok=True)  # ONNX Runtime does not create parents
    except OSError as error:
        raise ProviderError(
            f"{engines} cannot be created ({error.strerror}); set MIEN_CACHE=DIR to use another place"
        ) from error
    options = {
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(engines),
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": str(timings),
    }
    options["trt_fp16_enable"] = str(int(precision is Precision.FP16))
    options["trt_int8_enable"] = str(int(precision is Precision.INT8))
    profile = profile_for(spec)
    for key, shape in (("min", profile.min), ("opt", profile.opt), ("max", profile.max)):
        options[f"trt_profile_{key}_shapes"] = f"image:{'x'.join(map(str, shape))}"
    return options


def placement(source: ModelSource, *, provider: Provider) -> dict[str, list[str]] | None:
    """Group the nodes of a model by the execution provider that runs them.

    Returns:
        Descriptions of the nodes by ONNX Runtime's name of the provider; None if ONNX Runtime is too old to report it.

    Raises:
        ModelError: The file is missing or not an ONNX file.
        ProviderError: The model would not actually run on `provider`.
    """
    session = open_session(source, provider=provider, threads=1, cuda_graph=False, record_placement=True).session
    if not hasattr(session, "get_provider_graph_assignment_info"):
        return None
    found: dict[str, list[str]] = {}
    for part in session.get_provider_graph_assignment_info():
        found.setdefault(part.ep_name, []).extend(f"{node.op_type} {node.name}" for node in part.get_nodes())
    return found


def reason_of(error: Exception) -> str:
    """Shorten an error of ONNX Runtime to its essence, without code, C++ locations and folders."""
    text = " ".join(str(error).split()) or type(error).__name__
    for noise in _NOISE:
        text = noise.sub("", text)
    return text if len(text) <= REASON_LENGTH else f"{text[:REASON_LENGTH]}…"
