"""Int8 model files: static quantisation (QDQ, weights per channel), calibrated on real pictures.

Nagel et al., "A white paper on neural network quantization", 2021, describes the method; ONNX Runtime does the work.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.qdq_loss_debug import (
    collect_activations,
    compute_activation_error,
    create_activation_matching,
    modify_model_output_intermediate_tensors,
)

from mien.runtime.errors import InputError
from mien.runtime.models.input_shapes import INPUT
from mien.runtime.values import Image

CALIBRATION_IMAGES = 128
SENSITIVITY_IMAGES = 8


class Preset(str, Enum):
    """For which runtime the numbers are chosen."""

    CPU = "cpu"
    """Unsigned activations and signed weights: what VNNI multiplies."""
    TENSORRT = "tensorrt"
    """Symmetric and signed, weights as float with Q/DQ pairs: the only kind that TensorRT takes."""


_OPTIONS: dict[Preset, dict[str, Any]] = {
    Preset.CPU: {
        "activation_type": QuantType.QUInt8,
        "op_types_to_quantize": ["Conv", "Gemm", "Add", "Relu", "Clip"],
    },
    Preset.TENSORRT: {
        "activation_type": QuantType.QInt8,
        "op_types_to_quantize": ["Conv", "Gemm"],
        "extra_options": {
            "ActivationSymmetric": True,
            "WeightSymmetric": True,
            "QuantizeBias": False,
            "AddQDQPairToWeight": True,
        },
    },
}


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, images: Image) -> None:
        self._next = iter({INPUT: image[None]} for image in images)

    def get_next(self) -> Any:
        return next(self._next, None)


def quantize(source: Path, target: Path, images: Image, *, preset: Preset, in_float: frozenset[str]) -> None:
    """Write an int8 copy of a float32 model file, without its spec; the nodes named in `in_float` stay as they are.

    images: (n, h, w, 3) uint8, what activations are calibrated on.

    Raises:
        InputError: the activations of these pictures cannot be calibrated.
    """
    with tempfile.TemporaryDirectory() as folder:
        named = Path(folder) / "named.onnx"
        onnx.save(named_nodes(onnx.load(source)), str(named))
        try:
            with _quietly():
                quantize_static(
                    str(named),
                    str(target),
                    _Reader(images),
                    quant_format=QuantFormat.QDQ,
                    per_channel=True,
                    weight_type=QuantType.QInt8,
                    nodes_to_exclude=sorted(in_float),
                    **_OPTIONS[preset],
                )
        except ValueError as error:  # a nearly constant tensor has no histogram
            raise InputError(f"the pictures cannot calibrate {source.name} ({error}); take more, and others") from error


def named_nodes(model: onnx.ModelProto) -> onnx.ModelProto:
    """Give every node a name, for some can only be told apart by it."""
    for number, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}_{number}"
    return model


def by_sensitivity(source: Path, quantised: Path, images: Image) -> list[str]:
    """Names of the quantised layers, the one whose output lost most first (by signal over noise in dB)."""
    whole = named_nodes(onnx.load(source))
    with tempfile.TemporaryDirectory() as folder:
        named, watched = Path(folder) / "named.onnx", Path(folder) / "watched.onnx"
        onnx.save(whole, str(named))
        activations = []
        for path in (named, quantised):
            with _quietly():
                modify_model_output_intermediate_tensors(str(path), str(watched))
                activations.append(collect_activations(str(watched), _Reader(images[:SENSITIVITY_IMAGES])))
        with _quietly():
            errors = compute_activation_error(create_activation_matching(activations[1], activations[0]))
    layers = [node for node in whole.graph.node if node.op_type in ("Conv", "Gemm")]
    producer = {output: node.name for node in layers for output in node.output}
    noise = {producer[t]: float(np.mean(e["qdq_err"])) for t, e in errors.items() if t in producer}
    return sorted(noise, key=lambda name: noise[name])


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Without the quantiser's advice, which it prints and logs at the root."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        root.setLevel(level)
