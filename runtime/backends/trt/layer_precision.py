"""In what numbers the heavy layers of a network and of its engine compute: convolutions and matrix products."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from mien.runtime.errors import ProviderError
from mien.runtime.models.spec import Precision

_MOST = 0.5
"""More than this share of the layers that are half or int8 in a file are that in its engine."""
_HEAVY = re.compile("conv|gemm|matmul|matrix|linear", re.IGNORECASE)
_MOVES = re.compile("reformat|quantize|cast|copy|constant|noop", re.IGNORECASE)
"""Kinds of layers that bear the name of the layer that they stand before."""
_TYPES = {"HALF": "HALF|FP16", "INT8": "INT8", "BF16": "BF16", "FLOAT": "FLOAT|FP32"}


def network_types(trt: Any, network: Any) -> dict[str, int]:
    """How many heavy layers of a parsed network compute in what, by TensorRT's names such as ``HALF``.

    The type of a layer is that of its output; one whose input was quantised and dequantised is ``INT8``.
    """
    kinds = trt.LayerType
    layers = [network.get_layer(i) for i in range(network.num_layers)]
    dequantised = {layer.get_output(0).name for layer in layers if layer.type == kinds.DEQUANTIZE}
    heavy = [x for x in layers if x.type in (kinds.CONVOLUTION, kinds.DECONVOLUTION, kinds.MATRIX_MULTIPLY)]
    return dict(
        Counter("INT8" if x.get_input(0).name in dequantised else str(x.get_output(0).dtype.name) for x in heavy)
    )


def engine_types(trt: Any, engine: Any) -> dict[str, int]:
    """How many heavy layers of an engine compute in what type, as its inspector tells.

    Layers are fused in an engine; those count whose kind or name speaks of a convolution or a matrix product. One that
    takes int8 computes in it, whatever it gives; of the others the output tells.
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
    """TensorRT's name of a type: versions say ``Half`` or ``Channel major FP16 format where channel % 8 == 0``."""
    upper = str(value.get("Format/Datatype", "")).upper()
    return next((name for name, words in _TYPES.items() if re.search(rf"\b(?:{words})\b", upper)), "OTHER")


def check_types(types: Mapping[str, int], precision: Precision, *, quantised: int, name: str) -> None:
    """Whether the heavy layers of an engine compute in what the model file asks for.

    quantised: how many of the file's are int8, see `network_types`.

    Raises:
        ProviderError: they do not.
    """
    floats, halves, bytes8 = (types.get(key, 0) for key in ("FLOAT", "HALF", "INT8"))
    holds = {
        Precision.FP32: not halves and not bytes8 and floats > 0,
        Precision.FP16: halves > _MOST * (halves + floats),
        Precision.INT8: bytes8 > _MOST * quantised,
    }[precision]
    if not holds:
        asked = f", of which {quantised} are int8" if precision is Precision.INT8 else ""
        told = ", ".join(f"{count} in {kind}" for kind, count in sorted(types.items())) or "none that it tells of"
        raise ProviderError(f"{name} is {precision.value}{asked}, but TensorRT's engine has layers: {told}")
