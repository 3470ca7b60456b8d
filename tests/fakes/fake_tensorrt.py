"""The part of ``tensorrt`` that builds engines, over ONNX Runtime: see `fake_accelerator`."""

from __future__ import annotations

import enum
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import onnxruntime as ort

from mien.tests.fakes.fake_cuda import Machine
from mien.tests.fakes.fake_engine import MAGIC, DataType, ILogger, LayerInformationFormat, Runtime


class IProgressMonitor:
    """Base of progress monitors."""

    def __init__(self) -> None:
        pass


class NetworkDefinitionCreationFlag(enum.IntEnum):
    """Flags of a network."""

    STRONGLY_TYPED = 1


class MemoryPoolType(enum.Enum):
    """Purpose of a memory pool."""

    WORKSPACE = 0


class BuilderFlag(enum.Enum):
    """Flags of a build."""

    TF32 = 7


class ProfilingVerbosity(enum.Enum):
    """Detail of layer information."""

    DETAILED = 2


class IOptimizationProfile:
    """Shapes of inputs."""

    def __init__(self) -> None:
        self._shapes: dict[str, Sequence[Any]] = {}

    def set_shape(self, name: str, min: Any, opt: Any, max: Any) -> None:
        """Shapes of one input."""
        self._shapes[name] = (min, opt, max)


class ITimingCache:
    """Timings of kernels."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def serialize(self) -> bytes:
        """To bytes."""
        return self._content


class IBuilderConfig:
    """Configuration of a build."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._pool = 0
        self._profile = IOptimizationProfile()
        self._timings = ITimingCache(b"")
        self._flags = {BuilderFlag.TF32}  # as TensorRT has it
        self.profiling_verbosity: ProfilingVerbosity | None = None
        self.progress_monitor: Any = None

    def set_memory_pool_limit(self, pool: MemoryPoolType, size: int) -> None:
        """Bytes of workspace."""
        self._pool = size

    def clear_flag(self, flag: BuilderFlag) -> None:
        """Forbid something."""
        self._flags.discard(flag)

    def add_optimization_profile(self, profile: IOptimizationProfile) -> int:
        """Its number."""
        self._profile = profile
        return 0

    def create_timing_cache(self, content: bytes) -> ITimingCache:
        """From bytes."""
        return ITimingCache(content or f"timings of {self._machine.version}".encode())

    def set_timing_cache(self, cache: ITimingCache, ignore_mismatch: bool) -> bool:
        """Return whether the cache belongs to this machine."""
        self._timings = cache
        return cache.serialize().endswith(self._machine.version.encode())

    def get_timing_cache(self) -> ITimingCache:
        """The one that was set."""
        return self._timings


class LayerType(enum.Enum):
    """Kind of a layer."""

    CONVOLUTION = 0
    DECONVOLUTION = 7
    MATRIX_MULTIPLY = 13
    DEQUANTIZE = 40


class ITensor:
    """Tensor between layers."""

    def __init__(self, name: str, dtype: DataType) -> None:
        self.name, self.dtype = name, dtype


class ILayer:
    """A layer of one input, of which only the types are known."""

    def __init__(self, kind: LayerType, taken: ITensor, given: ITensor) -> None:
        self.type = kind
        self._taken, self._given = taken, given

    def get_input(self, index: int) -> ITensor:
        """Its input."""
        return self._taken

    def get_output(self, index: int) -> ITensor:
        """Its output."""
        return self._given


def _convolutions(kind: str) -> list[ILayer]:
    """Four convolutions that compute in a type; those of int8 follow layers that dequantize."""
    dtype = DataType.FLOAT if kind == "INT8" else DataType[kind]
    layers = []
    for i in range(4):
        taken = ITensor(f"input{i}", dtype)
        if kind == "INT8":
            layers.append(ILayer(LayerType.DEQUANTIZE, ITensor(f"bytes{i}", DataType.INT8), taken))
        layers.append(ILayer(LayerType.CONVOLUTION, taken, ITensor(f"output{i}", dtype)))
    return layers


class INetworkDefinition:
    """Parsed model, represented by four convolutions of its precision."""

    def __init__(self) -> None:
        self._model = b""
        self._kind = "FLOAT"
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
            "types": [network._kind] * 4,
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
        """Return whether the file could be read."""
        return self.parse(Path(path).read_bytes())

    def parse(self, content: bytes) -> bool:
        """Return whether the model could be read."""
        try:
            session = ort.InferenceSession(content, providers=["CPUExecutionProvider"])
        except Exception as error:  # noqa: BLE001 - ONNX Runtime's errors have no common base
            text = str(error)
            self._errors.append(SimpleNamespace(code=lambda: 1, node_name=lambda: "", desc=lambda: text))
            return False
        spec = json.loads(session.get_modelmeta().custom_metadata_map.get("mien", "{}"))
        self._network._model = content
        precision = spec.get("provenance", {}).get("precision")
        self._network._kind = {"fp16": "HALF", "int8": "INT8"}.get(precision, "FLOAT")
        self._network._layers = _convolutions(self._network._kind)
        return True


def nptype(dtype: DataType) -> Any:
    """NumPy's type."""
    return dtype.value


def fake_tensorrt(machine: Machine) -> Any:
    """Fake module, bound to a machine."""
    return SimpleNamespace(
        __version__=machine.version,
        ILogger=ILogger,
        IProgressMonitor=IProgressMonitor,
        NetworkDefinitionCreationFlag=NetworkDefinitionCreationFlag,
        MemoryPoolType=MemoryPoolType,
        BuilderFlag=BuilderFlag,
        ProfilingVerbosity=ProfilingVerbosity,
        LayerInformationFormat=LayerInformationFormat,
        LayerType=LayerType,
        OnnxParser=OnnxParser,
        Builder=lambda logger: Builder(machine, logger),
        Runtime=lambda logger: Runtime(machine, logger),
        nptype=nptype,
    )
