"""`ModelSpec`: the metadata of a model.

It is stored in the checkpoint, in the ONNX metadata (key ``mien``) and next to a TensorRT engine, so that preprocessing
parameters are never entered twice.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from enum import Enum

from ..errors import ModelError

SPEC_VERSION = 1
METADATA_KEY = "mien"


class Task(str, Enum):
    """Task of a model."""

    LANDMARKS = "landmarks"
    DETECTOR = "detector"
    AGE_GENDER = "age-gender"
    CLASSIFY = "classify"


MODEL_FOR = {
    Task.LANDMARKS: "a landmark model",
    Task.DETECTOR: "a detector",
    Task.AGE_GENDER: "an age and gender model",
    Task.CLASSIFY: "a classifier",
}
"""Description of a model for each task, for messages."""


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """Metadata of a model.

    The input is always one tensor ``image``: uint8 (b, h, w, 3), BGR, not normalized.

    Attributes:
        task: Task of the model.
        input_size: Height and width in px. A detector accepts any multiple of 32; this is its training size.
        outputs: Names of the output tensors, in the order of the graph.
        crop_scale: Side of the square crop divided by the longer side of the landmarks' bounds (landmark models).
        points: Point scheme, ``ibug68`` for landmark models.
        dims: 3 if z was trained, 2 if z is always zero (landmark models).
        classes: Class names (classifiers).
        weights_sha256: Digest of the weights that were exported; empty if unknown.
        provenance: Training data, backbone, epochs, metrics and precision.
        version: Version of this format.
    """

    task: Task
    input_size: tuple[int, int]
    outputs: tuple[str, ...]
    crop_scale: float = 1.0
    points: str | None = None
    dims: int = 2
    classes: tuple[str, ...] = ()
    weights_sha256: str = ""
    provenance: Mapping[str, str] = field(default_factory=dict)
    version: int = SPEC_VERSION

    def to_json(self) -> str:
        """Serialize for a checkpoint or for ONNX metadata."""
        return json.dumps(asdict(self) | {"task": self.task.value}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str, *, origin: str) -> ModelSpec:
        """Parse the output of `to_json`.

        Args:
            text: The JSON text.
            origin: Name of the file, for errors.

        Raises:
            ModelError: The text is not JSON, a field is missing or malformed, or the version is newer than this mien.
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
            height, width = map(int, values["input_size"])
            scale = float(values.get("crop_scale", 1.0))
            if min(height, width) < 1 or not 0 < scale < math.inf:
                raise ValueError(f"input size {height} × {width}, crop scale {scale}")
            return cls(
                **values
                | {
                    "task": Task(values["task"]),
                    "input_size": (height, width),
                    "outputs": tuple(values["outputs"]),
                    "crop_scale": scale,
                    "classes": tuple(values.get("classes", ())),
                    "provenance": dict(values.get("provenance", {})),
                }
            )
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise ModelError(f"{origin}: its model spec cannot be read ({error}); export it again") from error


class Precision(str, Enum):
    """Number format of a model's computation."""

    FP32 = "fp32"
    FP16 = "fp16"
    INT8 = "int8"


def precision_of(spec: ModelSpec, *, origin: str) -> Precision:
    """Return the precision recorded in a spec, float32 if none is.

    Args:
        spec: The model's spec.
        origin: Name of the file, for errors.

    Raises:
        ModelError: The recorded precision is unknown.
    """
    try:
        return Precision(spec.provenance.get("precision", "fp32"))
    except (AttributeError, ValueError) as error:
        raise ModelError(f"{origin}: its precision cannot be read ({error}); export it again") from error
