"""Models that ship with the package."""

from __future__ import annotations

from pathlib import Path

from ..errors import InputError, ModelError
from .spec import Precision

WEIGHTS = Path(__file__).parents[1] / "weights"


def shipped_model(name: str, precision: Precision = Precision.FP32) -> Path:
    """Return the path of ``landmarks``, ``detector`` or ``age_gender``.

    Args:
        name: Name of the model.
        precision: Float32, or int8 for CPUs.

    Raises:
        ModelError: The package does not contain it.
        InputError: `precision` is fp16.
    """
    if precision is Precision.FP16:
        raise InputError(
            "mien ships fp32 and int8 models; for fp16, make a bundle with mien bundle --precision fp16, or model "
            "files with mien export --precision fp16"
        )
    path = WEIGHTS / (f"{name}.onnx" if precision is Precision.FP32 else f"{name}.{precision.value}.onnx")
    if not path.is_file():
        known = ", ".join(sorted(p.name for p in WEIGHTS.glob("*.onnx"))) or "none"
        raise ModelError(
            f"mien ships no {path.name}, only {known}; make a model of your own with mien train and mien export"
        )
    return path


def shipped_models() -> list[Path]:
    """Return the paths of all shipped models in float32."""
    return sorted(path for path in WEIGHTS.glob("*.onnx") if "." not in path.stem)
