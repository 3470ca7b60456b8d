"""The part of ``tensorrt`` that engines use, over ONNX Runtime: see `fake_accelerator`."""

from __future__ import annotations

import ctypes
import enum
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime as ort

from .fake_cuda import Machine

MAGIC = b"fake TensorRT plan\n"


class DataType(enum.Enum):
    """Types of tensors."""

    FLOAT = np.float32
    HALF = np.float16
    UINT8 = np.uint8


class ILogger:
    """Base of loggers."""

    class Severity(enum.Enum):
        """How bad it is."""

        INTERNAL_ERROR = 0
        ERROR = 1
        WARNING = 2

    def __init__(self) -> None:
        pass

    def log(self, severity: ILogger.Severity, text: str) -> None:
        """Take a message."""


class IProgressMonitor:
    """Base of progress monitors."""

    def __init__(self) -> None:
        pass


class NetworkDefinitionCreationFlag(enum.IntEnum):
    """How a network is made."""

    STRONGLY_TYPED = 1


class MemoryPoolType(enum.Enum):
    """What memory is for."""

    WORKSPACE = 0


class ProfilingVerbosity(enum.Enum):
    """What an engine can tell."""

    DETAILED = 2


class LayerInformationFormat(enum.Enum):
    """How it tells it."""

    JSON = 1


class IOptimizationProfile:
    """Shapes of inputs."""

    def __init__(self) -> None:
        self._shapes: dict[str, Sequence[Any]] = {}

    def set_shape(self, name: str, smallest: Any, usual: Any, largest: Any) -> None:
        """Shapes of one input."""
        self._shapes[name] = (smallest, usual, largest)


class ITimingCache:
    """Timings of kernels."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def serialize(self) -> bytes:
        """To bytes."""
        return self._content


class IBuilderConfig:
    """How to build."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._pool = 0
        self._profile = IOptimizationProfile()
        self._timings = ITimingCache(b"")
        self.profiling_verbosity: ProfilingVerbosity | None = None
        self.progress_monitor: Any = None

    def set_memory_pool_limit(self, pool: MemoryPoolType, size: int) -> None:
        """Bytes of workspace."""
        self._pool = size

    def add_optimization_profile(self, profile: IOptimizationProfile) -> int:
        """Its number."""
        self._profile = profile
        return 0

    def create_timing_cache(self, content: bytes) -> ITimingCache:
        """From bytes."""
        return ITimingCache(content or f"timings of {self._machine.version}".encode())

    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool:
        """Whether it is of this machine."""
        self._timings = cache
        return cache.serialize().endswith(self._machine.version.encode())

    def get_timing_cache(self) -> ITimingCache:
        """The one that was set."""
        return self._timings


class LayerType(enum.Enum):
    """What layers do."""

    CONVOLUTION = 0
    DECONVOLUTION = 7
    MATRIX_MULTIPLY = 13


class ITensor:
    """An output of a layer."""

    def __init__(self, dtype: DataType) -> None:
        self.dtype = dtype


class ILayer:
    """A convolution, of which only the type is known."""

    type = LayerType.CONVOLUTION

    def __init__(self, dtype: DataType) -> None:
        self._output = ITensor(dtype)

    def get_output(self, index: int) -> ITensor:
        """Its output."""
        return self._output


class INetworkDefinition:
    """A parsed model, which is taken for four convolutions of its precision."""

    def __init__(self) -> None:
        self._model = b""
        self._layers: list[ILayer] = []

    @property
    def num_layers(self) -> int:
        """How many."""
        return len(self._layers)

    def get_layer(self, index: int) -> ILayer:
        """One of them."""
        return self._layers[index]


class Builder:
    """Builds engines."""

    def __init__(self, machine: Machine, logger: ILogger) -> None:
        if not machine.present:
            logger.log(ILogger.Severity.ERROR, "CUDA initialization failure with error: 35")
            raise TypeError("pybind11::init(): factory function returned nullptr")
        self._machine, self._logger = machine, logger

    def create_network(self, flags: int) -> INetworkDefinition:
        """An empty one."""
        if flags != 1 << NetworkDefinitionCreationFlag.STRONGLY_TYPED:
            raise ValueError("only strongly typed networks")
        return INetworkDefinition()

    def create_builder_config(self) -> IBuilderConfig:
        """Fresh options."""
        return IBuilderConfig(self._machine)

    def create_optimization_profile(self) -> IOptimizationProfile:
        """A fresh one."""
        return IOptimizationProfile()

    def build_serialized_network(self, network: INetworkDefinition, config: IBuilderConfig) -> bytes | None:
        """The plan, or None."""
        monitor = config.progress_monitor
        monitor.phase_start("Building engine", None, 4)
        try:
            for step in range(4):
                if not monitor.step_complete("Building engine", step):
                    return None
        finally:
            monitor.phase_finish("Building engine")
        if config._pool > self._machine.free:
            self._logger.log(ILogger.Severity.ERROR, "Error Code 2: OutOfMemory (Requested size was not available)")
            return None
        about = {
            "version": self._machine.version,
            "gpu": self._machine.gpu.name,
            "profile": config._profile._shapes,
            "types": [layer.get_output(0).dtype.name for layer in network._layers],
            "sha256": hashlib.sha256(network._model).hexdigest(),
        }
        return MAGIC + json.dumps(about).encode() + b"\n" + network._model


class OnnxParser:
    """Reads ONNX files."""

    def __init__(self, network: INetworkDefinition, logger: ILogger) -> None:
        self._network = network
        self._errors: list[Any] = []

    @property
    def num_errors(self) -> int:
        """How many."""
        return len(self._errors)

    def get_error(self, index: int) -> Any:
        """One of them."""
        return self._errors[index]

    def parse_from_file(self, path: str) -> bool:
        """Whether it could be read."""
        content = Path(path).read_bytes()
        try:
            session = ort.InferenceSession(content, providers=["CPUExecutionProvider"])
        except Exception as error:  # noqa: BLE001 - ONNX Runtime's errors have no common base
            text = str(error)
            self._errors.append(SimpleNamespace(code=lambda: 1, node_name=lambda: "", desc=lambda: text))
            return False
        spec = json.loads(session.get_modelmeta().custom_metadata_map.get("mien", "{}"))
        half = spec.get("provenance", {}).get("precision") == "fp16"
        self._network._model = content
        self._network._layers = [ILayer(DataType.HALF if half else DataType.FLOAT) for _ in range(4)]
        return True


class Runtime:
    """Loads engines."""

    def __init__(self, machine: Machine, logger: ILogger) -> None:
        if not machine.present:
            raise TypeError("pybind11::init(): factory function returned nullptr")
        self._machine, self._logger = machine, logger

    def deserialize_cuda_engine(self, plan: bytes) -> ICudaEngine | None:
        """The engine, or None."""
        head, _, model = bytes(plan).removeprefix(MAGIC).partition(b"\n")
        try:
            about = json.loads(head)
        except ValueError:
            about = {}
        digest = hashlib.sha256(model).hexdigest()
        wanted = {"version": self._machine.version, "gpu": self._machine.gpu.name, "sha256": digest}
        if not plan.startswith(MAGIC) or any(about.get(name) != value for name, value in wanted.items()):
            self._logger.log(ILogger.Severity.ERROR, "the plan is of another TensorRT or GPU, or damaged")
            return None
        return ICudaEngine(self._machine, about, model)


class EngineInspector:
    """Tells of an engine's layers."""

    def __init__(self, types: Sequence[str]) -> None:
        self._types = types

    def get_engine_information(self, form: LayerInformationFormat) -> str:
        """As JSON."""
        layers = [
            {"Name": f"conv{i}", "Outputs": [{"Format/Datatype": t.capitalize()}]} for i, t in enumerate(self._types)
        ]
        return json.dumps({"Layers": layers})


class ICudaEngine:
    """A loaded engine."""

    def __init__(self, machine: Machine, about: dict[str, Any], model: bytes) -> None:
        self._machine, self._about = machine, about
        self._session: Any = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
        self._inputs = [value.name for value in self._session.get_inputs()]
        self._outputs = [value.name for value in self._session.get_outputs()]

    @property
    def num_io_tensors(self) -> int:
        """Inputs and outputs."""
        return len(self._inputs) + len(self._outputs)

    def get_tensor_name(self, index: int) -> str:
        """One of them."""
        return [*self._inputs, *self._outputs][index]

    def get_tensor_dtype(self, name: str) -> DataType:
        """Its type."""
        return DataType.UINT8 if name in self._inputs else DataType.FLOAT

    def create_engine_inspector(self) -> EngineInspector:
        """What tells of its layers."""
        return EngineInspector(self._about["types"])

    def create_execution_context(self) -> IExecutionContext:
        """A place to run."""
        return IExecutionContext(self)


class IExecutionContext:
    """Runs an engine with buffers of one shape."""

    def __init__(self, engine: ICudaEngine) -> None:
        self._engine = engine
        self._shape: tuple[int, ...] = ()
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        """Whether the profile has it."""
        smallest, _, largest = self._engine._about["profile"][name]
        if not all(a <= n <= b for a, n, b in zip(smallest, shape, largest, strict=True)):
            return False
        self._shape = shape
        noise = np.random.default_rng(0).integers(0, 255, shape, dtype=np.uint8)
        outputs = self._engine._session.run(None, {name: noise})
        self._shapes = {name: shape} | {n: value.shape for n, value in zip(self._engine._outputs, outputs, strict=True)}
        return True

    def infer_shapes(self) -> list[str]:
        """Inputs that have no shape yet."""
        return [] if self._shape else list(self._engine._inputs)

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        """Of an input or output."""
        return self._shapes[name]

    def set_tensor_address(self, name: str, address: int) -> bool:
        """Where it lies."""
        self._addresses[name] = address
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        """Queue a run."""
        if set(self._addresses) != set(self._shapes):
            return False
        self._engine._machine.streams[stream_handle]._queue(self._run)
        return True

    def _run(self) -> None:
        (name,) = self._engine._inputs
        image = np.empty(self._shape, np.uint8)
        ctypes.memmove(image.ctypes.data, self._addresses[name], image.nbytes)
        for output, value in zip(self._engine._outputs, self._engine._session.run(None, {name: image}), strict=True):
            ctypes.memmove(self._addresses[output], np.ascontiguousarray(value).ctypes.data, value.nbytes)


def nptype(dtype: DataType) -> Any:
    """NumPy's type."""
    return dtype.value


def fake_tensorrt(machine: Machine) -> Any:
    """A stand-in for the module, bound to a machine."""
    return SimpleNamespace(
        __version__=machine.version,
        ILogger=ILogger,
        IProgressMonitor=IProgressMonitor,
        NetworkDefinitionCreationFlag=NetworkDefinitionCreationFlag,
        MemoryPoolType=MemoryPoolType,
        ProfilingVerbosity=ProfilingVerbosity,
        LayerInformationFormat=LayerInformationFormat,
        LayerType=LayerType,
        OnnxParser=OnnxParser,
        Builder=lambda logger: Builder(machine, logger),
        Runtime=lambda logger: Runtime(machine, logger),
        nptype=nptype,
    )
