"""ONNX Runtime sessions: what was asked for really runs, or there is an error."""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import onnxruntime as ort
from onnxruntime.capi.onnxruntime_pybind11_state import EngineError, EPFail, Fail
from onnxruntime.capi.onnxruntime_pybind11_state import RuntimeException as OrtRuntimeException

from mien.runtime.backends.ort.cuda_libraries import preload, why_not
from mien.runtime.errors import ModelError, ProviderError
from mien.runtime.files import cache_folder
from mien.runtime.models.input_shapes import profile_for
from mien.runtime.models.model_file import ModelFile, ModelSource
from mien.runtime.models.runner import Provider
from mien.runtime.models.spec import Precision, precision_of

log = logging.getLogger("mien")

NAMES = {
    Provider.CPU: "CPUExecutionProvider",
    Provider.CUDA: "CUDAExecutionProvider",
    Provider.ORT_TENSORRT: "TensorrtExecutionProvider",
}
"""ONNX Runtime's names of the providers that it runs."""

CUDA_OPTIONS = {
    # The number of faces changes from frame to frame: an exhaustive search would stall the view at each new number.
    "cudnn_conv_algo_search": "HEURISTIC",
    # float32 means float32; whoever wants less asks for fp16.
    "use_tf32": "0",
    # Small models: the memory that is asked for, not the next power of two.
    "arena_extend_strategy": "kSameAsRequested",
}

_GPU_FAILURES = (EPFail, EngineError, Fail, OrtRuntimeException, RuntimeError)
"""What ONNX Runtime raises when a GPU fails, lacks memory or has no kernels; its classes have no common base."""


@dataclass(frozen=True, slots=True)
class OpenSession:
    """A session, what really runs it, and whether its calls are captured as CUDA graphs."""

    session: Any
    provider: Provider
    cuda_graph: bool = False


def open_session(
    source: ModelSource, *, provider: Provider, threads: int, cuda_graph: bool = True, record_placement: bool = False
) -> OpenSession:
    """Open a session and make sure of what runs it.

    cuda_graph: capture calls on CUDA, where every node of the model runs there.

    Raises:
        ModelError: missing or no ONNX file.
        ProviderError: `provider` is not what would really run.
    """
    model = ModelFile.of(source)
    if provider not in NAMES:
        raise ProviderError(f"{provider.value} is none of ONNX Runtime's providers; open the model with open_model")
    options = _session_options(threads, record_placement=record_placement)
    if provider is Provider.CUDA and cuda_graph:
        try:
            return OpenSession(_session(model, provider, options, {"enable_cuda_graph": "1"}), provider, True)
        except ProviderError as error:  # such as a node that does not run on CUDA
            log.info("%s: no CUDA graph (%s)", model.name, error)
    return OpenSession(_session(model, provider, options, {}), provider)


def compiled_in(provider: Provider) -> bool:
    """Whether this onnxruntime has a provider, which does not say that it works."""
    return NAMES[provider] in ort.get_available_providers()


@contextlib.contextmanager
def gpu_failures_told(provider: Provider, *, doing: str) -> Iterator[None]:
    """Turn what ONNX Runtime raises when a GPU fails into an error that says so; on the CPU all passes as it is.

    Raises:
        ProviderError: the GPU failed.
    """
    try:
        yield
    except _GPU_FAILURES as error:
        if provider is Provider.CPU:
            raise
        raise ProviderError(
            f"{provider.value} failed {doing} ({_first_line(error)}); look at nvidia-smi, or take --provider cpu"
        ) from error


def _session_options(threads: int, *, record_placement: bool = False) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # Memory is planned anew for each shape else, and kept: 30 MB for the detector's two sizes, and no faster.
    options.enable_mem_pattern = False
    # Worker threads spin within a call only: the two models of a pipeline, and the capture, share the cores.
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
    content = model.content if isinstance(model.content, bytes) else str(model.content)
    try:
        with (
            gpu_failures_told(provider, doing=f"to open {model.name}"),
            _quiet() if on_gpu else contextlib.nullcontext(),
        ):
            session = ort.InferenceSession(content, options, providers=providers)
    except ProviderError:
        raise
    except Exception as error:  # ONNX Runtime has a class an error code, with no common base
        raise ModelError(f"{model} is not a model that ONNX Runtime can load ({_first_line(error)})") from error
    if session.get_providers()[0] != name:  # it falls back in silence
        raise ProviderError(
            f"{provider.value} was asked for, but ONNX Runtime fell back to {session.get_providers()[0]}: "
            f"{why_not(name)}"
        )
    return session


@cache
def _register_arena() -> None:
    """One arena for all sessions on the CPU: a pipeline's models run in turn, and need not each keep working memory."""
    memory = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    as_requested = ort.OrtArenaCfg({"arena_extend_strategy": 1})  # and not the next power of two
    ort.create_and_register_allocator(memory, as_requested)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without what ONNX Runtime prints and logs of a provider that does not load: an error tells it."""
    ort.set_default_logger_severity(4)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        ort.set_default_logger_severity(2)  # as it is unless somebody sets it


def _providers(model: ModelFile, provider: Provider, extra: Mapping[str, str]) -> list[Any]:
    if provider is Provider.CPU:
        return [NAMES[provider]]
    cuda = (NAMES[Provider.CUDA], CUDA_OPTIONS | dict(extra))
    if provider is Provider.CUDA:
        return [cuda]
    return [(NAMES[Provider.ORT_TENSORRT], _tensorrt_options(model)), cuda]


def _tensorrt_options(model: ModelFile) -> dict[str, str]:
    """Engines are cached, and built once for all shapes; smaller numbers only for files that are in them."""
    spec = model.spec
    precision = precision_of(spec, origin=model.origin)
    timings = cache_folder() / "onnxruntime"
    engines = timings / model.sha256[:16]  # ONNX Runtime names an engine by the graph, not by its weights
    try:
        engines.mkdir(parents=True, exist_ok=True)  # ONNX Runtime makes no parents
    except OSError as error:
        raise ProviderError(
            f"{engines} cannot be made ({error.strerror}); MIEN_CACHE=DIR chooses another place"
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
    """Nodes of a model by the execution provider that runs them; None where ONNX Runtime is too old to tell.

    Raises:
        ModelError: missing or no ONNX file.
        ProviderError: `provider` is not what would really run.
    """
    session = open_session(source, provider=provider, threads=1, cuda_graph=False, record_placement=True).session
    if not hasattr(session, "get_provider_graph_assignment_info"):
        return None
    found: dict[str, list[str]] = {}
    for part in session.get_provider_graph_assignment_info():
        found.setdefault(part.ep_name, []).extend(f"{node.op_type} {node.name}" for node in part.get_nodes())
    return found


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
