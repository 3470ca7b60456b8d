"""Options of an int8 export; importing them needs neither torch nor onnx."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path


class TargetRuntime(str, Enum):
    """Runtime to quantize for."""

    CPU = "cpu"
    """ONNX Runtime: unsigned activations and signed weights, as VNNI multiplies them."""
    TENSORRT = "tensorrt"
    """Symmetric and signed, with float weights and Q/DQ pairs: the only scheme that TensorRT accepts."""


@dataclass(frozen=True, slots=True)
class Int8Options:
    """Options of an int8 export.

    Attributes:
        calibrate: Folder of pictures; one in four is kept for the parity check instead.
        runtime: Runtime to quantize for.
        allow_slow: Keep the file even if it is hardly faster than float32.
    """

    calibrate: Path
    runtime: TargetRuntime = TargetRuntime.CPU
    allow_slow: bool = False
