"""Options of an int8 export; importing them needs neither torch nor onnx."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path


class TargetRuntime(str, Enum):
    """Runtime that an int8 file is quantized for."""

    CPU = "cpu"
    """ONNX Runtime: unsigned activations and signed weights, the pair that VNNI multiplies."""
    TENSORRT = "tensorrt"
    """Symmetric and signed, float weights with Q/DQ pairs: the only kind that TensorRT accepts."""


@dataclass(frozen=True, slots=True)
class Int8Options:
    """Options of an int8 export.

    Attributes:
        calibrate: Folder of pictures; one in four is left out of the calibration and used for the parity gate.
        runtime: Runtime to quantize for.
        allow_slow: Keep the file even if it is hardly faster than float32.
    """

    calibrate: Path
    runtime: TargetRuntime = TargetRuntime.CPU
    allow_slow: bool = False
