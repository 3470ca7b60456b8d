"""Converts frozen dataclasses to JSON values and strictly back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from math import isfinite, nan
from types import UnionType
from typing import Any, cast, get_args, get_origin, get_type_hints


def encode(value: Any) -> Any:
    """Convert a value to JSON types; NaN and infinity, which JSON lacks, become None."""
    if isinstance(value, Enum):
        return value.value
    if is_dataclass(value):
        return {f.name: encode(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, tuple):
        return [encode(item) for item in value]
    if isinstance(value, Mapping):
        return {key: encode(item) for key, item in value.items()}
    return None if isinstance(value, float) and not isfinite(value) else value


def decode(kind: Any, raw: Any) -> Any:
    """Invert `encode`, strictly: no number is parsed from a string or truncated to an integer.

    Args:
        kind: Annotated type to build.
        raw: JSON value.

    Raises:
        KeyError: A field is missing.
        TypeError: A value has the wrong type.
        ValueError: An enumeration has no such value, or a dataclass rejects its fields.
    """
    origin, inner = get_origin(kind), get_args(kind)
    if origin is UnionType:  # always "… | None" here
        return None if raw is None else decode(inner[0], raw)
    if origin is tuple and isinstance(raw, list):
        kinds = inner[:1] * len(raw) if inner[-1] is Ellipsis else inner
        return tuple(decode(k, item) for k, item in zip(kinds, raw, strict=True))
    if origin is Mapping and isinstance(raw, dict):
        return {key: decode(inner[1], item) for key, item in raw.items()}
    if is_dataclass(kind) and isinstance(raw, dict):
        kinds_by_name = get_type_hints(kind)
        values = {f.name: decode(kinds_by_name[f.name], raw[f.name]) for f in fields(kind)}
        return cast(type, kind)(**values)
    if origin is None and isinstance(kind, type):
        if issubclass(kind, Enum):
            return kind(raw)
        if kind is float and (raw is None or type(raw) is int):
            return nan if raw is None else float(raw)  # a deviation of NaN is never within its tolerance
        if type(raw) is kind:
            return raw
    raise TypeError(f"expected {getattr(kind, '__name__', kind)}, found {str(raw)[:60]!r}")
