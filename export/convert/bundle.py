"""`mien bundle`: models in two precisions, golden samples, papers and a baseline, verified before it is written."""

from __future__ import annotations

import io
import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mien.bench.data.sample_inputs import sample_batch
from mien.bench.verify import Verdict, VerifyOptions, measurement_row, verify
from mien.export.convert.to_onnx import export_onnx
from mien.export.networks.checkpoint import CHECKPOINTS
from mien.runtime.backends.ort.onnx_runner import OnnxRunner
from mien.runtime.capture.demo_camera import find_photo
from mien.runtime.errors import CheckFailed, InputError, ModelError, OutputError
from mien.runtime.faces.detector import DEFAULT_MAX_SIDE, reduced
from mien.runtime.faces.pipeline import Pipeline
from mien.runtime.files import check_writable, write_atomic
from mien.runtime.images import pictures_in, read_image
from mien.runtime.models.bundle import (
    BENCH,
    FACES,
    MAX_BYTES,
    PICTURE,
    TASKS,
    Bundle,
    BundledModel,
    golden_file,
    pack_bundle,
    read_bundle,
)
from mien.runtime.models.model_file import model_spec
from mien.runtime.models.runner import Provider
from mien.runtime.models.shipped import shipped_model
from mien.runtime.models.spec import ModelSpec, Precision, precision_of
from mien.runtime.values import Progress

PRECISIONS = (Precision.FP32, Precision.FP16)
GOLDEN_INPUTS = 4
SURE = 0.7
"""A face of the golden picture has at least this score: no other arithmetic makes it one that is not found."""
PICTURES_TRIED = 20
CARDS = Path(__file__).parents[2] / "docs" / "models.md"


@dataclass(frozen=True, slots=True)
class Bundled:
    """A bundle that was written. verdict: of the verification before."""

    path: Path
    sha256: str
    size_bytes: int
    verdict: Verdict


def make_bundle(
    target: Path,
    *,
    models: Mapping[str, Path | None] | None = None,
    precisions: Sequence[Precision] = PRECISIONS,
    data: Path | None = None,
    options: VerifyOptions | None = None,
    progress: Progress | None = None,
) -> Bundled:
    """Make a bundle of checkpoints or float32 model files, verify it here, and write it if it holds.

    models: by name (``landmarks``, ``detector``, ``age_gender``); None for the shipped one, no entry for none.
    data: a folder of pictures the golden inputs come from; without it the demo photograph serves.
    The same models, data and versions make the same bytes, but for the measurements (`options` with 0 rounds: none).

    Raises:
        InputError: a model that bundles have no name for, or no precision.
        ModelError: no checkpoint or model file, or of another task.
        CheckFailed: a model does not compute what its float32 file computes; nothing is written.
        OutputError: `target` cannot be written, or the models are too large.
    """
    chosen = dict.fromkeys(TASKS) if models is None else dict(models)
    if not {"landmarks", "detector"} <= chosen.keys() <= TASKS.keys() or not precisions:
        raise InputError(f"a bundle has landmarks, a detector and perhaps age_gender; found {', '.join(chosen)}")
    check_writable(target)
    files: dict[str, bytes] = {}
    bundled: list[BundledModel] = []
    with tempfile.TemporaryDirectory() as folder:
        whole = {}
        for name, given in sorted(chosen.items()):
            whole[name] = _as_float32(name, given or shipped_model(name), Path(folder), data)
            # A checkpoint loses less on the way to fp16 than a model file: boxes move by 0.07 px instead of 0.21.
            reduce_from = CHECKPOINTS / f"{name}.pt" if given is None else given
            bundled += _add_model(name, whole[name], reduce_from, precisions, data, Path(folder), files)
        files |= _golden_picture(whole, data)
        files["licences.md"] = _licences(bundled).encode()
        verdict = _verified(bundled, files, Path(folder), options, progress)
        if any(check.measurement is not None for check in verdict.checks):
            files[BENCH] = _baseline(verdict)
        packed = pack_bundle(bundled, files, made_by=version("mien"))
        if len(packed) > MAX_BYTES:
            raise OutputError(f"{len(packed)} bytes; a bundle has at most {MAX_BYTES}")
        done = _read_back(packed, Path(folder))
    try:
        write_atomic(target, packed)
    except OSError as error:
        raise OutputError(f"cannot write {target} ({error.strerror})") from error
    return Bundled(target, done.sha256, len(packed), replace(verdict, sha256=done.sha256))


def _add_model(
    name: str,
    whole: Path,
    reduce_from: Path,
    precisions: Sequence[Precision],
    data: Path | None,
    folder: Path,
    files: dict[str, bytes],
) -> list[BundledModel]:
    """Add a model's files, golden samples and card to `files`. whole: float32. reduce_from: what fp16 is made of."""
    with OnnxRunner(whole, provider=Provider.CPU, threads=1) as runner:
        spec = runner.spec
        image = sample_batch(spec, GOLDEN_INPUTS, data=data, seed=0)
        outputs = runner(image)
    for array, values in {"image": image, **outputs}.items():
        files[golden_file(name, array)] = _npy(values)
    files[f"cards/{name}.md"] = model_card(name, spec).encode()
    made = []
    for precision in precisions:
        path = whole
        if precision is not Precision.FP32:
            path = folder / f"{name}.{precision.value}.onnx"
            export_onnx(reduce_from, path, precision=precision, data=data)
        spec = model_spec(path)
        model = f"models/{name}.{precision.value}.onnx"
        spec_file = f"specs/{name}.{precision.value}.json"
        files[model], files[spec_file] = path.read_bytes(), spec.to_json().encode()
        made.append(BundledModel(name, precision, model, spec_file, spec))
    return made


def _as_float32(name: str, source: Path, folder: Path, data: Path | None) -> Path:
    """A float32 model file of `source`: a model file is taken as it is, to the byte."""
    path = source if source.suffix.lower() == ".onnx" else export_onnx(source, folder / f"{name}.onnx", data=data).path
    spec = model_spec(path)
    precision = precision_of(spec, origin=str(path))
    if precision is not Precision.FP32:
        raise ModelError(f"{source} is {precision.value}; bundle the float32 file or the checkpoint")
    if spec.task is not TASKS[name]:
        raise ModelError(f"{source} is a model for {spec.task.value}, wanted {TASKS[name].value}")
    return path


def _golden_picture(models: Mapping[str, Path], data: Path | None) -> dict[str, bytes]:
    """A picture, and the landmarks that the float32 pipeline finds in it, of faces beyond doubt."""
    paths = [find_photo()[0]] if data is None else pictures_in(data)[:PICTURES_TRIED]
    with Pipeline.load(
        model=models["landmarks"], detector=models["detector"], attributes=False, provider=Provider.CPU, threads=1
    ) as pipeline:
        for path in paths:
            picture, _ = reduced(read_image(path), DEFAULT_MAX_SIDE)
            faces = pipeline(picture)
            if (sure := faces.scores >= SURE).any():
                return {PICTURE: _npy(picture), FACES: _npy(faces.landmarks[sure])}
    raise InputError(f"no face in {paths[0]} and {len(paths) - 1} more; a bundle wants one to check the pipeline with")


def _npy(values: npt.NDArray[Any]) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.ascontiguousarray(values), version=(1, 0), allow_pickle=False)
    return stream.getvalue()


def _read_back(packed: bytes, folder: Path) -> Bundle:
    path = folder / "made.mien"
    path.write_bytes(packed)
    return read_bundle(path)


def _verified(
    bundled: Sequence[BundledModel],
    files: Mapping[str, bytes],
    folder: Path,
    options: VerifyOptions | None,
    progress: Progress | None,
) -> Verdict:
    """The verdict on what is about to be written, which went through an archive as on the device."""
    bundle = _read_back(pack_bundle(bundled, files, made_by=version("mien")), folder)
    verdict = verify(bundle, options, progress=progress)
    if not verdict:
        failed = "; ".join(f"{c.name}: {c.failure or c.parity}" for c in verdict.checks if not c)
        raise CheckFailed(f"the bundle {verdict} ({failed}); it was not written")
    return verdict


def _baseline(verdict: Verdict) -> bytes:
    rows = [measurement_row(check.measurement) for check in verdict.checks if check.measurement is not None]
    environment = asdict(verdict.environment) if verdict.environment is not None else None
    return (json.dumps({"environment": environment, "measurements": rows}) + "\n").encode()


def model_card(name: str, spec: ModelSpec) -> str:
    """The card of a shipped model out of docs/models.md; of another, what its spec knows."""
    if _is_shipped(name, spec):
        text = CARDS.read_text(encoding="utf-8")
        for heading in (name, "Limits"):
            if section(text, heading) is None:
                raise ModelError(f"{CARDS} has no section {heading!r}")
        return f"{section(text, name)}\n{section(text, 'Limits')}"
    trained = "\n".join(f"| {key} | {value} |" for key, value in sorted(spec.provenance.items()))
    return (
        f"## {name}\n\n| | |\n|---|---|\n| task | {spec.task.value} |\n"
        f"| input | uint8 BGR, {spec.input_size[0]} × {spec.input_size[1]} |\n"
        f"| outputs | {', '.join(spec.outputs)} |\n"
        f"| classes | {', '.join(spec.classes) or '–'} |\n"
        f"| sha256 of the weights | {spec.weights_sha256 or 'not told'} |\n{trained}\n"
    )


def section(text: str, heading: str) -> str | None:
    """A section of a Markdown text, its heading included; None without one of that name."""
    found = re.search(rf"^## {re.escape(heading)}$.*?(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    return None if found is None else found.group(0).rstrip() + "\n"


def _licences(models: Sequence[BundledModel]) -> str:
    """Who may use what: the terms of the data that the weights were trained on."""
    text = "# Licences\n\nmien, whose code made the graphs of these models, is under the MIT licence.\n\n"
    names = sorted({m.name for m in models})
    specs = {m.name: m.spec for m in models}
    if shipped := [name for name in names if _is_shipped(name, specs[name])]:
        terms = section(CARDS.read_text(encoding="utf-8"), "Terms of the data") or ""
        text += f"Weights of {', '.join(shipped)}: research use only.\n\n{terms}\n"
    if others := [name for name in names if name not in shipped]:
        text += (
            f"Weights of {', '.join(others)}: not mien's own. They inherit the terms of the data that they were "
            "trained on, which whoever trained them knows.\n"
        )
    return text


def _is_shipped(name: str, spec: ModelSpec) -> bool:
    return bool(spec.weights_sha256) and spec.weights_sha256 == model_spec(shipped_model(name)).weights_sha256
