"""Anybody's ONNX file in half precision: the converter of ours, and a gate that need not know what outputs mean."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from onnx.external_data_helper import ExternalDataInfo, uses_external_data
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, InvalidGraph, NotImplemented
from onnxruntime.capi.onnxruntime_pybind11_state import RuntimeException as OrtRuntimeException

from mien.bench.parity.any_model import ForeignParity, compare_values
from mien.bench.suite.inputs import foreign_material
from mien.bench.worker.foreign import GIVEN, Feed, answers, feeds_for
from mien.bench.worker.targets import Material
from mien.export.convert.float16 import HEAVY, casts_to, float16_model
from mien.export.convert.parity_gate import GATE_BATCHES, check_target, kept_if_passed, session_storing_halves
from mien.runtime.backends.ort.onnx_session import open_session
from mien.runtime.errors import CheckFailed, InputError, ModelError
from mien.runtime.models.runner import Provider
from mien.runtime.models.spec import METADATA_KEY, Precision

SMALLEST_OPSET = 7
"""The oldest that ONNX Runtime vouches for."""
LARGEST_BYTES = 2**31 - 1
"""What a protobuf can hold."""
GATE_PICTURES = 3
"""Different inputs for each batch size of the gate, where they are made."""
_ORT_ERRORS = (Fail, InvalidArgument, InvalidGraph, NotImplemented, OrtRuntimeException)
_HALVES = frozenset({onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16})
_QUANTISED = frozenset({"QuantizeLinear", "DequantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger"})


@dataclass(frozen=True, slots=True)
class ConvertedForeign:
    """A foreign file in fp16 that has passed its gate. compared_on: what it was given there, in words."""

    path: Path
    size_bytes: int
    source_bytes: int
    parity: ForeignParity
    compared_on: str


def is_foreign(path: Path) -> bool:
    """Whether a model file is without mien's metadata.

    Raises:
        ModelError: missing or no ONNX file.
    """
    opened = open_session(path, provider=Provider.CPU, threads=1)
    return METADATA_KEY not in opened.session.get_modelmeta().custom_metadata_map


def convert_foreign(
    source: Path, target: Path, *, precision: Precision, data: Path | None = None, feed: Path | None = None
) -> ConvertedForeign:
    """Convert a foreign float32 file to fp16, and compare every output on the same inputs.

    data: a folder of pictures for inputs that look like images; without it the demo camera serves. feed: a file of
    arrays by input name (.npz) instead. The file's own metadata, inputs and outputs stay as they are.

    Raises:
        InputError: another precision than fp16, or inputs that the file does not take.
        ModelError: nothing in the file can be converted, or it is of a kind that cannot.
        CheckFailed: an output differs too much; nothing is left behind.
        OutputError: `target` cannot be written.
    """
    _check_precision(source, precision)
    check_target(source, target)
    material = foreign_material(GATE_PICTURES, feed=feed, data=data)
    whole = open_session(source, provider=Provider.CPU, threads=1).session
    model, source_bytes = _loaded(source)
    half = _converted(model, source)
    with kept_if_passed(target) as partial:
        onnx.save(half, str(partial))
        parity, compared_on = _gate(whole, source, partial, material)
    return ConvertedForeign(target, target.stat().st_size, source_bytes, parity, compared_on)


def _check_precision(source: Path, precision: Precision) -> None:
    if precision is Precision.INT8:
        raise InputError(
            f"{source} carries no mien metadata: int8 is calibrated on pictures as the model takes them, and nothing "
            "says how that is (size, colours, scale); take --precision fp16, or "
            "onnxruntime.quantization.quantize_static with a reader of your own"
        )
    if precision is Precision.FP32:
        raise InputError(
            f"{source} carries no mien metadata: it is an ONNX file already, and all that can be made of it is fp16; "
            "add --precision fp16"
        )


def _loaded(source: Path) -> tuple[onnx.ModelProto, int]:
    """The model with its weights, and the bytes of all its files."""
    model = onnx.load(str(source), load_external_data=False)
    outside = {ExternalDataInfo(t).location for t in model.graph.initializer if uses_external_data(t)}
    size = sum(path.stat().st_size for path in [source, *(source.parent / name for name in outside)])
    if size > LARGEST_BYTES:
        raise ModelError(
            f"{source} has {size / 2**30:.1f} GiB with its weights, wanted less than 2, all that one file can "
            "hold; convert it in parts"
        )
    onnx.load_external_data_for_model(model, str(source.parent))
    return model, size


def _converted(model: onnx.ModelProto, source: Path) -> onnx.ModelProto:
    """Raise ModelError where there is nothing to convert, or where it cannot be done."""
    opset = max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0)
    if opset < SMALLEST_OPSET:
        raise ModelError(
            f"{source} is of opset {opset}, wanted {SMALLEST_OPSET} or later; "
            "onnx.version_converter.convert_version lifts it"
        )
    if quantised := sorted(_QUANTISED.intersection(node.op_type for node in model.graph.node)):
        raise ModelError(f"{source} is quantised already (it has {quantised[0]}); convert from the float32 file")
    if _has_halves(model.graph):
        raise ModelError(f"{source} computes in 16 bits already, in part at least; convert from the float32 file")
    try:
        half = float16_model(model)
    except (onnx.shape_inference.InferenceError, ValueError) as error:
        raise ModelError(f"{source} cannot be converted ({_first_line(error)})") from error
    if not _has_halves(half.graph):
        raise ModelError(
            f"{source} has nothing to convert: no {' or '.join(sorted(HEAVY))} in float32 "
            "(those within If, Loop and Scan stay as they are)"
        )
    return half


def _has_halves(graph: onnx.GraphProto) -> bool:
    values = [*graph.input, *graph.output]
    kinds = [*(t.data_type for t in graph.initializer), *(v.type.tensor_type.elem_type for v in values)]
    return not _HALVES.isdisjoint(kinds) or any(casts_to(node, *_HALVES) for node in graph.node)


def _gate(whole: Any, source: Path, half: Path, material: Material) -> tuple[ForeignParity, str]:
    """Parity of the half file, as ONNX Runtime's CPU computes it and as a GPU would; and on what it was compared."""
    feeds, compared_on = _gate_feeds(whole, material)
    wanted = [answers(whole, feed, origin=source) for feed in feeds]
    names = [output.name for output in whole.get_outputs()]
    hint = f"Compared on {compared_on}; if the model knows others, give them with --inputs FILE.npz"
    judged = [compare_values(names, wanted, found) for found in _half_answers(source, half, feeds)]
    for parity in judged:
        if parity.failed:
            raise CheckFailed(f"fp16 differs: {parity}; the file was not written. {hint}")
        if not parity:
            raise CheckFailed(f"fp16 cannot be judged: {parity}; the file was not written. {hint}")
    return judged[-1], compared_on


def _half_answers(source: Path, half: Path, feeds: Sequence[Feed]) -> Iterator[list[list[Any]]]:
    """What the half file answers, first as it is, then with every half stored."""
    try:
        for session in (open_session(half, provider=Provider.CPU, threads=1).session, session_storing_halves(half)):
            yield [answers(session, feed, origin=half) for feed in feeds]
    except (ModelError, InputError, onnx.shape_inference.InferenceError, *_ORT_ERRORS) as error:
        raise CheckFailed(f"{source} does not run in fp16 ({_first_line(error)}); nothing was written") from error


def _gate_feeds(session: Any, material: Material) -> tuple[list[Feed], str]:
    """What the user gave; else feeds at the batch sizes of the gate where an input leaves its first axis open."""
    given = any(name.startswith(GIVEN) for name in material)
    free = any(i.shape and not isinstance(i.shape[0], int) for i in session.get_inputs())
    if given or not free:
        feeds, note = feeds_for(session, material, batch=1)
        return feeds, f"{len(feeds)} calls, {note}"
    made = [feeds_for(session, material, batch=size) for size in GATE_BATCHES]
    feeds = [feed for some, _ in made for feed in some]
    return feeds, f"{len(feeds)} calls at batch {', '.join(map(str, GATE_BATCHES))}, {made[-1][1]}"


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200]
