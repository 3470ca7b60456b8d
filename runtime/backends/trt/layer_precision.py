"""Data types of the heavy layers (convolutions and matrix products) of a network and of its engine."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from ...errors import ProviderError
from ...models.spec import Precision
from ...wording import counted

_MOST = 0.5
"""Fraction of a file's fp16 or int8 layers that must also be fp16 or int8 in its engine, at least."""
_HEAVY = re.compile("conv|gemm|matmul|matrix|linear", re.IGNORECASE)
_MOVES = re.compile("reformat|quantize|cast|copy|constant|noop", re.IGNORECASE)
"""Kinds of layers that carry the name of the layer they feed."""
_TYPES = {"HALF": "HALF|FP16", "INT8": "INT8", "BF16": "BF16", "FLOAT": "FLOAT|FP32"}


def network_types(trt: Any, network: Any) -> dict[str, int]:
    """Count the heavy layers of a parsed network by data type, under TensorRT's names such as ``HALF``.

    The type of a layer is that of its output; a layer with a quantized and dequantized input counts as ``INT8``.
    """
    kinds = trt.LayerType
    layers = [network.get_layer(i) for i in range(network.num_layers)]
    dequantized = {layer.get_output(0).name for layer in layers if layer.type == kinds.DEQUANTIZE}
    heavy = [x for x in layers if x.type in (kinds.CONVOLUTION, kinds.DECONVOLUTION, kinds.MATRIX_MULTIPLY)]
    return dict(
        Counter("INT8" if x.get_input(0).name in dequantized else str(x.get_output(0).dtype.name) for x in heavy)
    )


def engine_types(trt: Any, engine: Any) -> dict[str, int]:
    """Count the heavy layers of an engine by data type, as reported by its inspector.

    An engine fuses layers; a layer is heavy if its kind or name mentions a convolution or a matrix product. A layer
    with int8 input computes in int8 whatever its output type; otherwise the output type counts.
    """
    text = engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
    found: Counter[str] = Counter()
    for layer in json.loads(text).get("Layers", []):
        if not isinstance(layer, dict) or not layer.get("Outputs"):
            continue  # a bare name: the engine was built without details
        kind = str(layer.get("LayerType", ""))
        if _HEAVY.search(f"{kind} {layer.get('Name', '')}") and not _MOVES.search(kind):
            taken = {_type_name(value) for value in layer.get("Inputs", [])}
            found["INT8" if "INT8" in taken else _type_name(layer["Outputs"][0])] += 1
    return dict(found)


def _type_name(value: Mapping[str, Any]) -> str:
    """Normalize a type, which versions call ``Half`` or ``Channel major FP16 format where channel % 8 == 0``."""
    upper = str(value.get("Format/Datatype", "")).upper()
    return next((name for name, words in _TYPES.items() if re.search(rf"\b(?:{words})\b", upper)), "OTHER")


def check_types(types: Mapping[str, int], precision: Precision, *, quantized: int, name: str) -> None:
    """Check that an engine's heavy layers compute in the precision of the model file.

    Args:
        types: Number of layers by data type; see `engine_types`.
        precision: Precision of the model file.
        quantized: Number of int8 layers in the file; see `network_types`.
        name: Name of the model, for errors.

    Raises:
        ProviderError: They do not.
    """
    floats, halves, bytes8 = (types.get(key, 0) for key in ("FLOAT", "HALF", "INT8"))
    holds = {
        Precision.FP32: not halves and not bytes8 and floats > 0,
        Precision.FP16: halves > _MOST * (halves + floats),
        Precision.INT8: bytes8 > _MOST * quantized,
    }[precision]
    if not holds:
        wanted = f" in {counted(quantized, 'layer')}" if precision is Precision.INT8 else ""
        found = ", ".join(f"{count} in {kind}" for kind, count in sorted(types.items())) or "none that it reports"
        raise ProviderError(f"{name} is {precision.value}{wanted}, but TensorRT's engine has layers: {found}")
