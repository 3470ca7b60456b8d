"""`ModelSpec`: what a model file says of itself.

It travels in the checkpoint, in the ONNX metadata (key ``mien``) and beside a TensorRT engine,
so that nothing about pre-processing is ever typed twice.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import Enum

from mien.runtime.errors import ModelError

SPEC_VERSION = 1
METADATA_KEY = "mien"


class Task(str, Enum):
    """What a model is for."""

    LANDMARKS = "landmarks"
    DETECTOR = "detector"
    AGE_GENDER = "age-gender"
    CLASSIFY = "classify"


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A model's own description.

    The input is always one tensor ``image``: uint8, (batch, height, width, 3), BGR, not normalised.
    """

    task: Task
    input_size: tuple[int, int]
    """Height and width in px. A detector takes any multiple of 32; this is the size it was trained at."""
    outputs: tuple[str, ...]
    crop_scale: float = 1.0
    """Side of the square crop over the longer side of the landmarks' bounds (landmark models)."""
    points: str | None = None
    """The point scheme, ``ibug68`` for landmark models."""
    dims: int = 2
    """3 where the z of the landmarks was trained, 2 where it is all zero (landmark models)."""
    classes: tuple[str, ...] = ()
    weights_sha256: str = ""
    provenance: Mapping[str, str] = field(default_factory=dict)
    """How it was trained: data, backbone, epochs, metrics."""
    version: int = SPEC_VERSION

    def to_json(self) -> str:
        """Serialise for a checkpoint or for ONNX metadata."""
        return json.dumps(asdict(self) | {"task": self.task.value}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str, *, origin: str) -> ModelSpec:
        """Parse what `to_json` wrote; `origin` names the file in an error.

        Raises:
            ModelError: not JSON, a missing or malformed field, or a spec version of the future.
        """
        try:
            raw = json.loads(text)
            version = raw["version"]
            if type(version) is not int or version < 1:
                raise ValueError(f"version {version!r}")
            if version > SPEC_VERSION:
                raise ModelError(
                    f"{origin}: model spec version {version}, this mien reads up to {SPEC_VERSION}; upgrade mien"
                )
            known = {f.name for f in fields(cls)}
            values = {name: value for name, value in raw.items() if name in known}
            height, width = values["input_size"]
            values["task"] = Task(values["task"])
            values["input_size"] = (int(height), int(width))
            values["outputs"] = tuple(values["outputs"])
            values["classes"] = tuple(values.get("classes", ()))
            return cls(**values)
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise ModelError(f"{origin}: its model spec cannot be read ({error}); export it again") from error


class Precision(str, Enum):
    """In what numbers a model computes."""

    FP32 = "fp32"
    FP16 = "fp16"
    INT8 = "int8"


def precision_of(spec: ModelSpec, *, origin: str) -> Precision:
    """In what numbers a model file computes, by its spec.

    Raises:
        ModelError: it names a precision that there is not.
    """
    try:
        return Precision(spec.provenance.get("precision", "fp32"))
    except (AttributeError, ValueError) as error:
        raise ModelError(f"{origin}: its precision cannot be read ({error}); export it again") from error
