"""Models that ship with the package."""

from __future__ import annotations

from pathlib import Path

from ..errors import ModelError

WEIGHTS = Path(__file__).parents[1] / "weights"


def shipped_model(name: str) -> Path:
    """Return the path of ``landmarks``, ``detector`` or ``age_gender``.

    Raises:
        ModelError: The package does not contain it.
    """
    path = WEIGHTS / f"{name}.onnx"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in WEIGHTS.glob("*.onnx"))) or "none"
        raise ModelError(f"mien ships no model {name!r} (it ships {known})")
    return path


def shipped_models() -> list[Path]:
    """Return the paths of all shipped models."""
    return sorted(WEIGHTS.glob("*.onnx"))
