"""Finds the input scale that pretrained weights expect."""

from __future__ import annotations

from pathlib import Path

from ...runtime.errors import InputError
from .checkpoint import load_checkpoint
from .normalization import Normalization
from .pretrained import check_weights

KEY = "normalization"
"""Key of the scale in a checkpoint's configuration, and in the metadata of a safetensors file."""


def input_scale(weights: str, init_from: Path | None, given: Normalization | None) -> Normalization:
    """Return the input scale of the weights that training starts from.

    Args:
        weights: ``default``, ``none`` or a file.
        init_from: Checkpoint to use instead of `weights`, or None.
        given: Scale given by the user; None to read it from the weights.

    Raises:
        InputError: The weights state a scale other than `given`, or neither states one.
        ModelError: `init_from` is not a checkpoint.
    """
    if init_from is None and weights == "none":
        return given or Normalization.IMAGENET
    origin = str(init_from or ("--weights default" if weights == "default" else weights))
    recorded = _recorded_scale(weights, init_from)
    if recorded is None and given is None:
        raise InputError(
            f"{origin} does not state which input scale its weights expect; add --normalization imagenet (as in "
            "torchvision) or --normalization symmetric (x / 127.5 − 1, as in TensorFlow)"
        )
    if recorded is not None and given is not None and recorded is not given:
        raise InputError(
            f"{origin} expects the input scale {recorded.value}, found --normalization {given.value}; omit the option"
        )
    return recorded or given or Normalization.IMAGENET


def _recorded_scale(weights: str, init_from: Path | None) -> Normalization | None:
    """Return the scale stated by the weights themselves, or None."""
    if init_from is None and weights == "default":
        return Normalization.IMAGENET
    text = _metadata(Path(weights)).get(KEY) if init_from is None else load_checkpoint(init_from).config.get(KEY)
    try:
        return None if text is None else Normalization(text)
    except ValueError:
        known = " or ".join(scale.value for scale in Normalization)
        raise InputError(f"{init_from or weights}: expected {KEY} {known} in its metadata, found {text!r}") from None


def _metadata(path: Path) -> dict[str, str]:
    """Return the metadata of a safetensors file; empty for any other file.

    Raises:
        InputError: The file is missing or damaged.
    """
    check_weights(path)
    if path.suffix != ".safetensors":
        return {}
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except SafetensorError as error:
        raise InputError(f"{path} is not a state dict ({type(error).__name__})") from error
