"""Converts ONNX files from other programs to half precision, checking outputs of unknown meaning."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument, InvalidGraph, NotImplemented
from onnxruntime.capi.onnxruntime_pybind11_state import RuntimeException as OrtRuntimeException

from ...bench.parity.any_model import ForeignParity, compare_values
from ...bench.suite.inputs import foreign_arrays
from ...bench.worker.foreign import GIVEN, MADE, answers, feeds_for, wanted_by
from ...bench.worker.foreign_inputs import Feed, is_open
from ...bench.worker.targets import InputArrays
from ...runtime.atomic_file import atomic_path
from ...runtime.backends.ort.onnx_session import open_session, reason_of
from ...runtime.errors import CheckFailed, InputError, ModelError
from ...runtime.isolated import call_isolated
from ...runtime.models.model_file import ModelFile
from ...runtime.models.runner import Provider
from ...runtime.models.spec import Precision
from ...runtime.wording import counted
from .float16 import HEAVY, float16_model
from .gates import GATE_BATCHES, check_output
from .half_storage import session_storing_halves
from .onnx_graph import casts_to, read_onnx

MIN_OPSET = 7
"""Oldest opset that ONNX Runtime guarantees to support."""
MAX_BYTES = 2**31 - 1
"""Size limit of a protobuf."""
GATE_PICTURES = 3
"""Number of different inputs per batch size in the parity check."""
_ORT_ERRORS = (Fail, InvalidArgument, InvalidGraph, NotImplemented, OrtRuntimeException)
_HALVES = frozenset({onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16})
_QUANTIZED = frozenset({"QuantizeLinear", "DequantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger"})


@dataclass(frozen=True, slots=True)
class ConvertedForeign:
    """A foreign model in fp16 that has passed its parity check.

    Attributes:
        path: File written.
        size_bytes: Its size.
        source_bytes: Size of the float32 file, with its external weights.
        parity: Parity of its outputs.
        compared_on: Description of the inputs used for the comparison.
    """

    path: Path
    size_bytes: int
    source_bytes: int
    parity: ForeignParity
    compared_on: str


def is_foreign(path: Path) -> bool:
    """Return whether a model file lacks mien's metadata.

    Raises:
        ModelError: The file is missing or not an ONNX file.
    """
    return ModelFile.of(path).metadata is None


def convert_foreign(
    source: Path, output: Path, *, precision: Precision, data: Path | None = None, inputs: Path | None = None
) -> ConvertedForeign:
    """Convert a foreign float32 model to fp16, and compare all outputs on the same inputs.

    The file's own metadata, inputs and outputs stay as they are.

    Args:
        source: Float32 ONNX file.
        output: File to write.
        precision: Must be fp16.
        data: Folder of pictures for inputs that look like images; None for the demo camera.
        inputs: File of arrays keyed by input name (.npz) to compare on instead.

    Raises:
        InputError: The precision is not fp16, or the model does not accept the inputs.
        ModelError: The file cannot be converted, or nothing in it can.
        CheckFailed: An output differs too much; nothing is left behind.
        OutputError: `output` cannot be written.
    """
    _check_precision(source, precision)
    check_output(source, output)
    hint = "use another model, or another version of onnxruntime; nothing was written"
    with atomic_path(output) as partial:
        source_bytes, parity, compared_on = call_isolated(
            _write_half, source, partial, data, inputs, doing=f"converting {source.name}", hint=hint
        )
    return ConvertedForeign(output, output.stat().st_size, source_bytes, parity, compared_on)


def _write_half(source: Path, output: Path, data: Path | None, inputs: Path | None) -> tuple[int, ForeignParity, str]:
    """Convert and compare, in a separate process because ONNX Runtime may crash."""
    arrays = foreign_arrays(GATE_PICTURES, feed=inputs, data=data)
    float32 = open_session(source, provider=Provider.CPU, threads=1).session
    model, source_bytes = _load(source)
    onnx.save(_convert(model, source), str(output))
    return source_bytes, *_check_parity(float32, source, output, arrays)


def _check_precision(source: Path, precision: Precision) -> None:
    if precision is Precision.INT8:
        raise InputError(
            f"{source} has no mien metadata, so it is unknown how to prepare pictures for calibration (size, colour "
            "order, scale); use --precision fp16, or onnxruntime.quantization.quantize_static with your own reader"
        )
    if precision is Precision.FP32:
        raise InputError(
            f"{source} has no mien metadata: it is already an ONNX file and can only be converted to fp16; add "
            "--precision fp16"
        )


def _load(source: Path) -> tuple[onnx.ModelProto, int]:
    """Load a model with its weights; also return the total size of its files."""
    file = ModelFile.of(source)
    assert isinstance(file.content, Path)
    size = file.size_bytes
    if size > MAX_BYTES:
        raise ModelError(
            f"{source} has {size / 2**30:.1f} GiB with its weights, expected less than 2, the limit of a single file; "
            "convert it in parts"
        )
    return read_onnx(file), size


def _convert(model: onnx.ModelProto, source: Path) -> onnx.ModelProto:
    """Convert a model; raise ModelError if that is impossible or would change nothing."""
    opset = max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=0)
    if opset < MIN_OPSET:
        raise ModelError(
            f"{source} has opset {opset}, expected {MIN_OPSET} or later; upgrade it with "
            "onnx.version_converter.convert_version"
        )
    if quantized := sorted(_QUANTIZED.intersection(node.op_type for node in model.graph.node)):
        raise ModelError(f"{source} is already quantized (it has {quantized[0]}); convert from the float32 file")
    if _has_halves(model.graph):
        raise ModelError(f"{source} already computes in 16 bits, at least in part; convert from the float32 file")
    try:
        half = float16_model(model)
    except (onnx.shape_inference.InferenceError, ValueError) as error:
        raise ModelError(f"{source} cannot be converted ({_first_line(error)})") from error
    if not _has_halves(half.graph):
        raise ModelError(
            f"{source} has nothing to convert: no {' or '.join(sorted(HEAVY))} in float32 "
            "(those inside If, Loop and Scan stay as they are)"
        )
    return half


def _has_halves(graph: onnx.GraphProto) -> bool:
    values = [*graph.input, *graph.output]
    kinds = [*(t.data_type for t in graph.initializer), *(v.type.tensor_type.elem_type for v in values)]
    return not _HALVES.isdisjoint(kinds) or any(casts_to(node, *_HALVES) for node in graph.node)


def _check_parity(float32: Any, source: Path, half: Path, arrays: InputArrays) -> tuple[ForeignParity, str]:
    """Check the fp16 file as computed by the CPU and as a GPU would; also describe the inputs."""
    names = [output.name for output in float32.get_outputs()]
    feeds, wanted, compared_on = _answered(float32, arrays, origin=source)
    _check_repeats(float32, feeds[0], wanted[0], source)
    hint = f"Compared on {compared_on}; if the model expects other inputs, pass them with --inputs FILE.npz"
    parities = [compare_values(names, wanted, found) for found in _half_answers(source, half, feeds)]
    for parity in parities:
        if parity.failed:
            raise CheckFailed(f"fp16 differs: {parity}; the file was not written. {hint}")
        if not parity:
            raise CheckFailed(f"fp16 cannot be judged: {parity}; the file was not written. {hint}")
    return parities[-1], compared_on


def _check_repeats(session: Any, feed: Feed, first: list[Any], source: Path) -> None:
    """Raise CheckFailed unless a second call yields the same outputs."""
    names = [output.name for output in session.get_outputs()]
    try:
        again = compare_values(names, [first], [answers(session, feed, origin=source)])
        random = str(again) if again.failed else ""
    except CheckFailed as error:
        random = str(error)
    if random:
        raise CheckFailed(
            f"{source}: its outputs are random, so fp16 cannot be judged: two calls on the same inputs differ "
            f"({random}); the file was not written"
        )


def _half_answers(source: Path, half: Path, feeds: Sequence[Feed]) -> Iterator[list[list[Any]]]:
    """Run the fp16 file, first as it is, then with all values stored in half precision."""
    model = ModelFile("it", half)  # the file still has its temporary name
    try:
        for session in (open_session(model, provider=Provider.CPU, threads=1).session, session_storing_halves(half)):
            found = [answers(session, feed, origin="it") for feed in feeds]
            _check_repeats(session, feeds[0], found[0], source)  # ONNX Runtime's optimizer drops a Dropout
            yield found
    except (ModelError, InputError, onnx.shape_inference.InferenceError, *_ORT_ERRORS) as error:
        raise CheckFailed(f"{source} does not run in fp16 ({reason_of(error)}); nothing was written") from error


def _answered(session: Any, arrays: InputArrays, *, origin: Path) -> tuple[list[Feed], list[list[Any]], str]:
    """Make inputs, in several sizes if dimensions are open; return them, the outputs and a note.

    Sizes that the float32 file itself rejects, such as odd ones, are replaced by the first.
    """
    given = any(name.startswith(GIVEN) for name in arrays)
    several = not given and is_open(wanted_by(session))
    feeds: list[Feed] = []
    wanted: list[list[Any]] = []
    notes: list[str] = []
    for variant, batch in enumerate(GATE_BATCHES if several else (1,)):
        for attempt in dict.fromkeys((variant, 0)):
            some, note = feeds_for(session, arrays, batch=batch, variant=attempt)
            try:
                found = [answers(session, feed, origin=origin) for feed in some]
            except InputError:
                if variant == 0:
                    raise
            else:
                feeds += some
                wanted += found
                notes.append(note.removeprefix(MADE) if notes else note)
                break
    return feeds, wanted, f"{counted(len(feeds), 'call')}, {'; '.join(notes)}"


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:300]
