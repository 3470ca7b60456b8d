"""An engine that does not compute in the numbers of its file is told from one that does."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from mien.runtime.backends.trt.layer_precision import check_types, engine_types, network_types
from mien.runtime.errors import ProviderError
from mien.runtime.models.spec import Precision
from mien.tests.fakes.fake_accelerator import fake_accelerator
from mien.tests.fakes.fake_tensorrt import INetworkDefinition, _convolutions

TRT = fake_accelerator().tensorrt


def engine_of(*layers: dict[str, Any]) -> Any:
    text = json.dumps({"Layers": list(layers)})
    return SimpleNamespace(
        create_engine_inspector=lambda: SimpleNamespace(get_engine_information=lambda _: text),
    )


def layer(taken: str, given: str, *, kind: str = "CaskConvolution", name: str = "conv1") -> dict[str, Any]:
    return {
        "Name": name,
        "LayerType": kind,
        "Inputs": [{"Format/Datatype": taken}],
        "Outputs": [{"Format/Datatype": given}],
    }


def test_a_layer_that_takes_bytes_computes_in_bytes() -> None:
    engine = engine_of(layer("Int8", "Half"), layer("Int8", "Int8"), layer("Float", "Half"))
    assert engine_types(TRT, engine) == {"INT8": 2, "HALF": 1}


def test_a_layer_whose_input_was_dequantised_is_int8_in_a_network() -> None:
    network = INetworkDefinition()
    network._layers = [*_convolutions("INT8")[:2], *_convolutions("HALF")[1:3]]
    assert network_types(TRT, network) == {"INT8": 1, "HALF": 2}


@pytest.mark.parametrize("kind", ["Reformat", "Quantize", "cast", "Constant"])
def test_what_only_moves_a_layer_s_input_is_no_layer(kind: str) -> None:
    moved = layer("Int8", "Int8", kind=kind, name="Reformatting CopyNode for Input Tensor 0 to conv1")
    assert engine_types(TRT, engine_of(moved, layer("Float", "Float"))) == {"FLOAT": 1}


def test_words_of_other_versions_are_known() -> None:
    half = "Channel major FP16 format where channel % 8 == 0"
    assert engine_types(TRT, engine_of(layer(half, half, kind="kgen", name="__myl_Conv_1"))) == {"HALF": 1}
    assert engine_types(TRT, engine_of({"Name": "conv"})) == {}


@pytest.mark.parametrize("types", [{"FLOAT": 55, "INT8": 1}, {"FLOAT": 56}, {"INT8": 28, "FLOAT": 28}, {}])
def test_an_int8_file_whose_engine_is_float_is_an_error(types: dict[str, int]) -> None:
    with pytest.raises(ProviderError, match="face is int8 in 56 layers, but TensorRT's engine has layers"):
        check_types(types, Precision.INT8, quantized=56, name="face")


@pytest.mark.parametrize(("types", "quantized"), [({"INT8": 50, "FLOAT": 6}, 56), ({"INT8": 14, "FLOAT": 31}, 14)])
def test_an_int8_engine_has_most_of_what_its_file_quantised(types: dict[str, int], quantized: int) -> None:
    check_types(types, Precision.INT8, quantized=quantized, name="face")


def test_an_int8_file_that_quantised_nothing_is_an_error() -> None:
    with pytest.raises(ProviderError, match="none that it reports"):
        check_types({}, Precision.INT8, quantized=0, name="face")
