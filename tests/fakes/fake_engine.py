"""The part of ``tensorrt`` that loads and runs engines, over ONNX Runtime: see `fake_accelerator`."""

from __future__ import annotations

import ctypes
import enum
import hashlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime as ort

from mien.tests.fakes.fake_cuda import Machine

MAGIC = b"fake TensorRT plan\n"


class DataType(enum.Enum):
    """Types of tensors."""

    FLOAT = np.float32
    HALF = np.float16
    INT8 = np.int8
    UINT8 = np.uint8


class ILogger:
    """Base of loggers."""

    class Severity(enum.Enum):
        """Severity of a message."""

        INTERNAL_ERROR = 0
        ERROR = 1
        WARNING = 2

    def __init__(self) -> None:
        pass

    def log(self, severity: ILogger.Severity, text: str) -> None:
        """Take a message."""


class LayerInformationFormat(enum.Enum):
    """Format of layer information."""

    JSON = 1


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
    """Inspector of the layers of an engine."""

    def __init__(self, types: Sequence[str]) -> None:
        self._types = types

    def get_engine_information(self, form: LayerInformationFormat) -> str:
        """As JSON."""
        layers = [
            {"Name": f"conv{i}", "Inputs": [{"Format/Datatype": t}], "Outputs": [{"Format/Datatype": t}]}
            for i, t in enumerate(t.capitalize() for t in self._types)
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
        """Make an inspector."""
        return EngineInspector(self._about["types"])

    def create_execution_context(self) -> IExecutionContext:
        """Make an execution context."""
        return IExecutionContext(self)


class IExecutionContext:
    """Runs an engine with buffers of one shape."""

    def __init__(self, engine: ICudaEngine) -> None:
        self._engine = engine
        self._shape: tuple[int, ...] = ()
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        """Return whether the profile accepts the shape."""
        low, _, high = self._engine._about["profile"][name]
        if not all(a <= n <= b for a, n, b in zip(low, shape, high, strict=True)):
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
        """Return the shape of an input or output."""
        return self._shapes[name]

    def set_tensor_address(self, name: str, address: int) -> bool:
        """Set the address of a tensor."""
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
