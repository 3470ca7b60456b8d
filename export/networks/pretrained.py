"""Reads pretrained backbone weights from the common file formats."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...runtime.errors import InputError
from ...runtime.file_kinds import check_file
from ...runtime.wording import counted
from .checkpoint import FORMAT

_NESTED = ("state_dict", "model_state_dict", "model", "net", "module")
"""Keys under which training programs store the network's state dict."""
_HEADER = b"{"
"""First byte of a safetensors header, which follows its length in eight bytes."""
_SAVED = (b"PK", b"\x80")
"""First bytes of a PyTorch file: a zip archive, or a pickle before version 1.6."""
_COUNTS = "num_batches_tracked"
"""Buffer of BatchNorm that inference does not use and files from before PyTorch 0.4.1 lack."""


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read a state dict in any supported format, with floating-point tensors as float32.

    Args:
        path: A safetensors file, a state dict saved by PyTorch, or a training program's checkpoint that contains one.

    Raises:
        InputError: The file is missing or holds no state dict.
    """
    content = _content(path)
    if isinstance(content, Mapping) and content.get("format") == FORMAT:
        raise InputError(f"{path} is a mien checkpoint, not a backbone's weights; use --init-from {path}")
    state = _unnested(content)
    tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    if not tensors:
        raise InputError(f"{path} holds no weights; save them with torch.save(model.state_dict(), FILE)")
    return {name: t.float() if t.is_floating_point() else t for name, t in tensors.items()}


def fitting(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Select a network's tensors from a state dict whose names may have a wrapper's prefix.

    Args:
        state: Tensors by name; additional ones, such as a classifier's, are ignored.
        wanted: Tensors of the network by name.

    Returns:
        Tensors under the names in `wanted`.

    Raises:
        ValueError: A tensor is missing or has another shape.
    """
    needed = {name: value.shape for name, value in wanted.items() if not name.endswith(_COUNTS)}
    prefix = _prefix(state, needed)
    for name, shape in needed.items():
        found = state.get(prefix + name)
        if found is None:
            raise ValueError(
                f"expected a tensor {name}, found {', '.join(list(state)[:2])} … ({counted(len(state), 'tensor')})"
            )
        if found.shape != shape:
            raise ValueError(f"expected {name} of shape {tuple(shape)}, found {tuple(found.shape)}")
    return {name: state[prefix + name] for name in wanted if prefix + name in state}


def _prefix(state: Iterable[str], names: Mapping[str, Any]) -> str:
    """Return the prefix of the network's names, such as ``module.`` of DataParallel; empty if there is none."""
    first = next(iter(names))
    return min((name.removesuffix(first) for name in state if name == first or name.endswith(f".{first}")), default="")


def check_weights(path: Path) -> None:
    """Raise InputError unless a file of weights exists and can be read."""
    try:
        check_file(path, "weights file")
    except InputError as error:
        raise InputError(f"{error}; --weights takes default, none or a .safetensors/.pt file") from error


def _content(path: Path) -> Any:
    check_weights(path)
    with path.open("rb") as file:
        begin = file.read(256)
    _check_kind(path, begin)
    try:
        if begin[8:9] == _HEADER:
            from safetensors.torch import load_file

            return load_file(path)
        with warnings.catch_warnings():  # torch warns about a foreign pickle before rejecting it
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{path} contains more than tensors and plain values, which might run code; save the weights alone with "
            "torch.save(model.state_dict(), FILE)"
        ) from error
    except Exception as error:  # two libraries with unrelated exceptions
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:120]
        raise InputError(f"{path} is damaged ({reason}); copy or download it again") from error


def _check_kind(path: Path, begin: bytes) -> None:
    """Raise InputError for other kinds of files, including those often downloaded by mistake."""
    if begin.startswith(b"version https://git-lfs"):
        raise InputError(f"{path} is a Git LFS pointer, not the weights; run git lfs pull in its repository")
    if begin.lstrip(b"\xef\xbb\xbf \r\n\t")[:5].lower() in (b"<!doc", b"<html"):
        raise InputError(f"{path} is a web page, not the weights; download the file itself")
    if begin[8:9] != _HEADER and not begin.startswith(_SAVED):
        raise InputError(f"{path} is not a weights file; expected safetensors or a state dict written by torch.save")


def _unnested(content: Any) -> Mapping[str, Any]:
    """Return the state dict inside a checkpoint."""
    if not isinstance(content, Mapping):
        return {}
    nested = next((content[key] for key in _NESTED if isinstance(content.get(key), Mapping)), None)
    return content if nested is None else _unnested(nested)
