"""Int8 model files: static quantization (QDQ, weights per channel), calibrated on real pictures.

Uses ONNX Runtime; for the method, see Nagel et al., "A white paper on neural network quantization", 2021.
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Iterator
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

from ...bench.data.non_faces import without_faces
from ...bench.data.sample_inputs import Subset, pictures_of, sample_batch
from ...bench.timing.interleave import LocalCandidate, measure_interleaved
from ...bench.timing.measurement import Description
from ...bench.timing.speedup import Ratio, paired_ratio
from ...runtime.backends.ort.onnx_runner import OnnxRunner
from ...runtime.errors import CheckFailed, InputError
from ...runtime.models.input_shapes import INPUT
from ...runtime.models.runner import Provider, Runner
from ...runtime.models.spec import METADATA_KEY, ModelSpec
from ...runtime.values import Image
from .gates import Exported, Gates, measure_reference
from .int8_layers import first_layers, last_nodes, layer_outputs
from .int8_options import Int8Options, TargetRuntime
from .onnx_graph import named_nodes

CALIBRATION_IMAGES = 400
"""With 128, one scene in 150 got a detector score 0.1 off; with 400, at most 0.06."""
SENSITIVITY_IMAGES = 8
MIN_CALIBRATION_PICTURES = 32
"""With fewer, the activations of other pictures would be clipped."""
MIN_SPEED_UP = 1.3
"""Minimum speed-up of an int8 file over float32 on this machine."""

_OPTIONS: dict[TargetRuntime, dict[str, Any]] = {
    TargetRuntime.CPU: {
        "activation_type": QuantType.QUInt8,
        "op_types_to_quantize": ["Conv", "Gemm", "Add", "Relu", "Clip"],
    },
    TargetRuntime.TENSORRT: {
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


def check_calibration(folder: Path) -> None:
    """Raise InputError unless a folder holds enough pictures to calibrate on."""
    if (count := pictures_of(folder)) < MIN_CALIBRATION_PICTURES:
        raise InputError(
            f"expected at least {MIN_CALIBRATION_PICTURES} different pictures to calibrate on, found {count} in "
            f"{folder}"
        )


def write_int8(
    source: Path, output: Path, spec: ModelSpec, reference: Runner, options: Int8Options, data: Path | None
) -> Exported:
    """Quantize a float32 model file, and check parity, accuracy and speed.

    Each time a check fails, twice as many of the most sensitive layers are left in float, up to half of all layers.

    Args:
        source: Float32 model file in a temporary folder; unnamed nodes get names.
        output: Int8 file to write, in that folder too.
        spec: Spec of the int8 file.
        reference: Model that the file must match.
        options: Pictures to calibrate on, target runtime, and whether a slow file is accepted.
        data: Folder of pictures for the checks; None for the pictures not used for calibration.

    Raises:
        InputError: The pictures cannot calibrate the model.
        CheckFailed: A check still fails with half of the layers in float, or the file is hardly faster.
    """
    onnx.save(named_nodes(onnx.load(source)), str(source))
    images = sample_batch(spec, CALIBRATION_IMAGES, data=options.calibrate, seed=0, subset=Subset.CALIBRATION)
    inputs = images
    if "presence" in spec.outputs:  # whose activations are the largest where there is no face
        inputs = np.concatenate([images, without_faces(images[::2], np.random.default_rng(0))])
    gates = _gates_of(reference, options.calibrate, data)
    sensitive: list[str] = []
    in_float = 0
    while True:
        quantize(source, output, inputs, runtime=options.runtime, float_layers=frozenset(sensitive[:in_float]))
        _set_spec(output, spec)
        try:
            parities, accuracy = gates.check(output)
            break
        except CheckFailed as error:
            sensitive = sensitive or layers_by_sensitivity(source, output, images)
            most = len(sensitive) // 2
            if in_float >= most:
                raise CheckFailed(f"{error} (with {in_float} of {len(sensitive)} layers left in float)") from error
            in_float = min(max(1, 2 * in_float), most)
    speed_up = _check_speed(source, output, images[:8], options)
    return Exported(output, parities, accuracy, tuple(sensitive[:in_float]), len(sensitive), speed_up)


def _gates_of(reference: Runner, calibrate: Path, data: Path | None) -> Gates:
    """Return the checks, with parity on pictures that were not used for calibration."""
    accuracy = measure_reference(reference, [folder for folder in (data, calibrate) if folder is not None])
    if data is None or data.resolve() == calibrate.resolve():
        return Gates(reference, calibrate, Subset.GATE, accuracy)
    return Gates(reference, data, accuracy=accuracy)


def _check_speed(source: Path, output: Path, images: Image, options: Int8Options) -> Ratio | None:
    """Return the speed-up of a file for the CPU, and raise CheckFailed if it is too small; None for other targets."""
    if options.runtime is not TargetRuntime.CPU:
        return None
    speed_up = _speed_up(source, output, images)
    if speed_up.value < MIN_SPEED_UP and not options.allow_slow:
        raise CheckFailed(
            f"int8 is {speed_up} as fast as float32 on this machine, less than the required {MIN_SPEED_UP:g}×; the "
            "file was not written (--allow-slow keeps it)"
        )
    return speed_up


def _speed_up(source: Path, output: Path, images: Image) -> Ratio:
    """Time the float32 and the int8 file in turns: one thread, one image per call."""
    with (
        OnnxRunner(source, provider=Provider.CPU, threads=1) as float32,
        OnnxRunner(output, provider=Provider.CPU, threads=1) as int8,
    ):
        candidates = [
            LocalCandidate(
                Description(
                    name=runner.precision.value,
                    model=runner.spec.task.value,
                    precision=runner.precision,
                    provider=runner.provider,
                    batch=1,
                    threads=1,
                ),
                [image[None] for image in images],
                runner,
            )
            for runner in (float32, int8)
        ]
        return paired_ratio(*measure_interleaved(candidates, rounds=20, calls_per_round=10))


def _set_spec(path: Path, spec: ModelSpec) -> None:
    model = onnx.load(path)
    onnx.helper.set_model_props(model, {METADATA_KEY: spec.to_json()})
    onnx.save(model, str(path))


class _CalibrationReader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, images: Image) -> None:
        self._next = iter({INPUT: image[None]} for image in images)

    def get_next(self) -> Any:
        return next(self._next, None)


def quantize(
    source: Path, output: Path, images: Image, *, runtime: TargetRuntime, float_layers: frozenset[str]
) -> None:
    """Write an int8 copy of a float32 model file, without its spec.

    Args:
        source: Float32 model file whose nodes have names.
        output: File to write.
        images: Pictures (n, h, w, 3) uint8 BGR to calibrate the activations on.
        runtime: Runtime to quantize for.
        float_layers: Names of the nodes to leave in float.

    Raises:
        InputError: The activations of these pictures cannot be calibrated.
    """
    graph = onnx.load(source).graph
    excluded = float_layers | last_nodes(graph)
    if runtime is TargetRuntime.CPU:
        excluded |= first_layers(graph)
    try:
        with _quietly():
            quantize_static(
                str(source),
                str(output),
                _CalibrationReader(images),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                weight_type=QuantType.QInt8,
                nodes_to_exclude=sorted(excluded),
                **_OPTIONS[runtime],
            )
    except ValueError as error:  # a nearly constant tensor has no histogram
        raise InputError(
            f"the pictures cannot calibrate the model ({error}); use more, and more varied ones"
        ) from error


def layers_by_sensitivity(source: Path, quantized: Path, images: Image) -> list[str]:
    """Rank the quantized layers by the signal-to-noise ratio of their outputs, noisiest first.

    Args:
        source: Float32 model file whose nodes have names.
        quantized: Int8 copy of it, in a temporary folder.
        images: Pictures (n, h, w, 3) uint8 BGR; the first few are used.

    Returns:
        Names of all layers; those without a measurement come last.
    """
    augmented, activations = quantized.with_name("augmented.onnx"), []
    with _quietly():
        for path in (source, quantized):
            modify_model_output_intermediate_tensors(str(path), str(augmented))
            reader = _CalibrationReader(images[:SENSITIVITY_IMAGES])
            activations.append(collect_activations(str(augmented), reader))
        errors = compute_activation_error(create_activation_matching(activations[1], activations[0]))
    noise = {tensor: float(np.mean(error["qdq_err"])) for tensor, error in errors.items()}
    decibels = {
        name: min((noise[t] for t in tensors if t in noise), default=np.inf)
        for name, tensors in layer_outputs(onnx.load(source).graph).items()
    }
    return sorted(decibels, key=lambda name: decibels[name])


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Silence the quantizer, which prints advice and logs it to the root logger."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        root.setLevel(level)
