"""Bundles: models, golden samples, model cards and a baseline in one file, verified before it is written."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ... import __version__
from ...bench.data.sample_inputs import sample_batch
from ...bench.verdict import Verdict, measurement_row
from ...bench.verify import VerifyOptions, verify
from ...runtime.atomic_file import temporary_folder, write_file
from ...runtime.backends.ort.onnx_runner import OnnxRunner
from ...runtime.capture.demo_camera import find_photo
from ...runtime.errors import CheckFailed, InputError, ModelError, OutputError
from ...runtime.faces.detector import DEFAULT_MAX_SIDE
from ...runtime.faces.landmarks import SURE
from ...runtime.models.bundle import (
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
from ...runtime.models.model_file import ModelFile, model_spec
from ...runtime.models.runner import Provider
from ...runtime.models.shipped import shipped_model
from ...runtime.models.spec import Precision, precision_of
from ...runtime.output_paths import check_writable
from ...runtime.pictures.folders import pictures_in
from ...runtime.pictures.images import read_image
from ...runtime.pipeline.pipeline import Pipeline
from ...runtime.values import Progress
from ...runtime.vision.resize import reduced
from ...runtime.wording import counted
from ..networks.checkpoint import CHECKPOINTS
from .model_cards import licences, model_card
from .to_onnx import export_onnx

PRECISIONS = (Precision.FP32, Precision.FP16)
GOLDEN_INPUTS = 4
MIN_GOLDEN_SCORE = 0.7
"""Minimum score of a face in the golden picture, high enough for rounding on another device not to lose the face."""
PICTURES_TRIED = 20


@dataclass(frozen=True, slots=True)
class Bundled:
    """A bundle that was written.

    Attributes:
        path: The file.
        sha256: Its digest.
        size_bytes: Its size.
        verdict: Result of the verification before it was written.
    """

    path: Path
    sha256: str
    size_bytes: int
    verdict: Verdict


def make_bundle(
    output: Path,
    *,
    models: Mapping[str, Path | None] | None = None,
    precisions: Sequence[Precision] = PRECISIONS,
    data: Path | None = None,
    options: VerifyOptions | None = None,
    progress: Progress | None = None,
) -> Bundled:
    """Bundle checkpoints or float32 model files, verify the bundle on this machine, and write it if it passes.

    The same models, data and versions yield the same bytes, except for the measurements (none with 0 rounds).

    Args:
        output: File to write.
        models: Checkpoints or model files, keyed by ``landmarks``, ``detector`` and, optionally, ``age_gender``; None
            as a value stands for the shipped model, None instead of a mapping for all three shipped ones.
        precisions: Precisions to include of each model.
        data: Folder of pictures for the golden inputs; None for the demo photograph.
        options: Options of the verification.
        progress: Called with the number of rounds done and their total.

    Raises:
        InputError: A model's name is unknown or a required one is missing, there is no precision, or no face is found.
        ModelError: A file is neither a checkpoint nor a float32 model file, or of another task.
        CheckFailed: A model's outputs differ from those of its float32 file; nothing is written.
        OutputError: `output` cannot be written, or the models are too large.
    """
    sources = dict.fromkeys(TASKS) if models is None else dict(models)
    if not {"landmarks", "detector"} <= sources.keys() <= TASKS.keys() or not precisions:
        raise InputError(f"a bundle has landmarks, a detector and perhaps age_gender; found {', '.join(sources)}")
    check_writable(output)
    with temporary_folder() as folder:
        draft = _Draft(folder, data)
        for name, source in sorted(sources.items()):
            draft.add_model(name, source, precisions)
        draft.add_golden_picture()
        draft.files["licences.md"] = licences(draft.models).encode()
        verdict = _verified(draft.pack()[1], options, progress)
        if any(check.measurement is not None for check in verdict.checks):
            draft.files[BENCH] = _baseline(verdict)
        packed, bundle = draft.pack()
    write_file(output, packed)
    return Bundled(output, bundle.sha256, len(packed), replace(verdict, sha256=bundle.sha256))


class _Draft:
    """Contents of a bundle in the making, with a folder for the model files."""

    def __init__(self, folder: Path, data: Path | None) -> None:
        self.models: list[BundledModel] = []
        self.files: dict[str, bytes] = {}
        self._float32: dict[str, Path] = {}
        self._folder = folder
        self._data = data

    def add_model(self, name: str, given: Path | None, precisions: Sequence[Precision]) -> None:
        """Add a model's files, golden samples and card; `given` is None for the shipped model."""
        float32 = self._float32[name] = self._as_float32(name, given or shipped_model(name))
        # fp16 from a checkpoint is closer to float32 than fp16 from a model file: boxes move by 0.07 px, not 0.21.
        fp16_source = CHECKPOINTS / f"{name}.pt" if given is None else given
        with OnnxRunner(float32, provider=Provider.CPU, threads=1) as runner:
            spec = runner.spec
            image = sample_batch(spec, GOLDEN_INPUTS, data=self._data, seed=0)
            outputs = runner(image)
        for array, values in {"image": image, **outputs}.items():
            self.files[golden_file(name, array)] = _npy(values)
        self.files[f"cards/{name}.md"] = model_card(name, spec).encode()
        for precision in precisions:
            path = float32
            if precision is not Precision.FP32:
                path = self._folder / f"{name}.{precision.value}.onnx"
                export_onnx(fp16_source, path, precision=precision, data=self._data)
            self._add_file(name, precision, path)

    def _add_file(self, name: str, precision: Precision, path: Path) -> None:
        spec = model_spec(path)
        model, spec_file = f"models/{name}.{precision.value}.onnx", f"specs/{name}.{precision.value}.json"
        self.files[model], self.files[spec_file] = path.read_bytes(), spec.to_json().encode()
        self.models.append(BundledModel(name, precision, model, spec_file, spec))

    def _as_float32(self, name: str, source: Path) -> Path:
        """Export a checkpoint, or a model file with external weights; any other file is used unchanged."""
        path = source
        if source.suffix.lower() != ".onnx" or ModelFile.of(source).external_weights:
            path = export_onnx(source, self._folder / f"{name}.onnx", data=self._data).path
        spec = model_spec(path)
        precision = precision_of(spec, origin=str(path))
        if precision is not Precision.FP32:
            raise ModelError(f"{source} is {precision.value}; bundle the float32 file or the checkpoint")
        if spec.task is not TASKS[name]:
            raise ModelError(f"{source} is a model for {spec.task.value}, expected {TASKS[name].value}")
        return path

    def add_golden_picture(self) -> None:
        """Add a picture with the landmarks that the float32 pipeline finds on its clearest faces."""
        paths = [find_photo()[0]] if self._data is None else pictures_in(self._data)[:PICTURES_TRIED]
        with Pipeline.load(
            model=self._float32["landmarks"],
            detector=self._float32["detector"],
            attributes=False,
            provider=Provider.CPU,
            threads=1,
        ) as pipeline:
            for path in paths:
                picture, _ = reduced(read_image(path), DEFAULT_MAX_SIDE)
                faces = pipeline(picture)
                clear = (faces.scores >= MIN_GOLDEN_SCORE) & (faces.presence >= SURE)
                if clear.any():
                    self.files |= {PICTURE: _npy(picture), FACES: _npy(faces.landmarks[clear])}
                    return
        raise InputError(
            f"{self._data or paths[0]}: no clear face in {counted(len(paths), 'picture')}; a bundle needs one to check "
            "the pipeline with, pass --data DIR with faces"
        )

    def pack(self) -> tuple[bytes, Bundle]:
        """Pack the bundle, and read it back as a device would."""
        packed = pack_bundle(self.models, self.files, made_by=__version__)
        if len(packed) > MAX_BYTES:
            raise OutputError(f"the models make a bundle of {len(packed)} bytes; it may have at most {MAX_BYTES}")
        path = self._folder / "made.mien"
        path.write_bytes(packed)
        return packed, read_bundle(path)


def _npy(values: npt.NDArray[Any]) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.ascontiguousarray(values), version=(1, 0), allow_pickle=False)
    return stream.getvalue()


def _verified(bundle: Bundle, options: VerifyOptions | None, progress: Progress | None) -> Verdict:
    """Verify a bundle, and raise CheckFailed if a check fails."""
    verdict = verify(bundle, options, progress=progress)
    if not verdict:
        failed = "; ".join(f"{c.name}: {c.failure or c.parity}" for c in verdict.checks if not c)
        raise CheckFailed(f"the bundle was not written; {verdict} ({failed})")
    return verdict


def _baseline(verdict: Verdict) -> bytes:
    rows = [measurement_row(check.measurement) for check in verdict.checks if check.measurement is not None]
    environment = asdict(verdict.environment) if verdict.environment is not None else None
    return (json.dumps({"environment": environment, "measurements": rows}) + "\n").encode()
