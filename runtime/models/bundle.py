"""`Bundle`: a pipeline's models, golden samples and documents in one file, used only if all checksums match.

A bundle is a zip archive with uncompressed members, so a small file cannot expand into a large one, and the same
members yield the same bytes. The checksums detect damage, but not forgery; to detect that, compare the digest of the
whole file with one from a source you trust.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import stat
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InputError, ModelError
from ..file_kinds import check_file
from ..values import POINTS, FloatArray, Image
from .bundle_archive import check_sums, read_members
from .model_file import ModelFile
from .spec import ModelSpec, Precision, Task

FORMAT = "mien bundle"
BUNDLE_VERSION = 1
MANIFEST = "manifest.json"
BENCH = "bench.json"
PICTURE = "golden/picture.npy"
FACES = "golden/faces.npy"
MAX_BYTES = 512 << 20
"""Maximum size of the archive, and thus of all members together."""
MAX_MANIFEST_BYTES = 1 << 20
TASKS = {"landmarks": Task.LANDMARKS, "detector": Task.DETECTOR, "age_gender": Task.AGE_GENDER}
"""Tasks of the models in a bundle, by name; all but the last are required."""

_ARRAY = re.compile(
    rb"\x93NUMPY\x01\x00..\{'descr': '(?P<dtype>[<|][fu][1248])', 'fortran_order': False, "
    rb"'shape': \((?P<shape>\d{1,9}(?:,|(?:, \d{1,9})+))\), \} *\n",
    re.DOTALL,
)
"""Header of an array file. NumPy's own parser evaluates it as a Python literal."""


@dataclass(frozen=True, slots=True)
class BundledModel:
    """One model of a bundle.

    Attributes:
        name: Key of `TASKS`.
        precision: Number format of the computation.
        file: Name of the member with the model.
        spec_file: Name of the member with its spec.
        spec: The parsed spec.
    """

    name: str
    precision: Precision
    file: str
    spec_file: str
    spec: ModelSpec


@dataclass(frozen=True, slots=True)
class Bundle:
    """Contents of an archive, in memory.

    Attributes:
        sha256: Digest of the whole archive.
        made_by: Version of mien that made the bundle.
        models: The models.
        files: Every member except the manifest.
    """

    sha256: str
    made_by: str
    models: tuple[BundledModel, ...]
    files: Mapping[str, bytes]

    def golden(self, name: str) -> tuple[Image, dict[str, FloatArray]]:
        """Return the golden sample of a model.

        Args:
            name: Key of `TASKS`.

        Returns:
            Inputs (n, h, w, 3) uint8, and the outputs of the float32 model by name.

        Raises:
            ModelError: The arrays have other shapes or dtypes.
        """
        (spec, *_) = [model.spec for model in self.models if model.name == name]
        image = self._array(golden_file(name, "image"))
        if image.dtype != np.uint8 or image.ndim != 4 or image.shape[3] != 3 or not len(image):
            raise ModelError(f"{golden_file(name, 'image')}: expected uint8 (n, h, w, 3), found {image.dtype}")
        outputs = {output: self._array(golden_file(name, output)) for output in spec.outputs}
        for output, values in outputs.items():
            if values.dtype.kind != "f" or len(values) != len(image):
                found = f"{values.dtype} {values.shape}"
                raise ModelError(f"{golden_file(name, output)}: expected floats, one row per input, found {found}")
        return image, outputs

    def picture(self) -> tuple[Image, FloatArray]:
        """Return the golden picture.

        Returns:
            The picture (h, w, 3) uint8 BGR, and the landmarks (n, 68, 3) in px found by the float32 pipeline.

        Raises:
            ModelError: The arrays have other shapes or dtypes.
        """
        image, faces = self._array(PICTURE), self._array(FACES)
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise ModelError(f"{PICTURE}: expected uint8 (h, w, 3), found {image.dtype} {image.shape}")
        if faces.dtype.kind != "f" or faces.shape[1:] != (POINTS, 3) or not len(faces):
            raise ModelError(f"{FACES}: expected floats (n, {POINTS}, 3), found {faces.dtype} {faces.shape}")
        return image, faces

    def _array(self, name: str) -> Any:
        data = self.files[name]
        start = 10 + int.from_bytes(data[8:10], "little")
        try:
            if (header := _ARRAY.fullmatch(data, 0, start)) is None:
                raise ValueError("expected a file of numpy.save, version 1.0")
            shape = [int(side) for side in header["shape"].split(b",") if side]
            return np.frombuffer(data, header["dtype"].decode(), offset=start).reshape(shape).copy()
        except (ValueError, TypeError) as error:  # TypeError: no such dtype
            raise ModelError(f"{name} of the bundle is not an array ({error})") from error

    def model_file(self, model: BundledModel) -> ModelFile:
        """Return one of `models`, ready to be opened from memory."""
        return ModelFile(model.file, self.files[model.file])

    def models_in(self, precision: Precision) -> dict[str, ModelFile]:
        """Return the models of a precision by name.

        Raises:
            InputError: The bundle has no models of that precision.
        """
        found = {model.name: self.model_file(model) for model in self.models if model.precision is precision}
        if not found:
            known = ", ".join(sorted({model.precision.value for model in self.models}))
            raise InputError(f"the bundle has no {precision.value} models (it has {known})")
        return found

    def find(self, name: str, precision: Precision) -> BundledModel | None:
        """Return the model with a name and precision, or None."""
        return next((m for m in self.models if (m.name, m.precision) == (name, precision)), None)


def golden_file(name: str, array: str) -> str:
    """Return the name of the member with a golden input (``image``) or output of a model."""
    return f"golden/{name}/{array}.npy"


def read_bundle(path: Path) -> Bundle:
    """Read and check an archive; nothing is written to disk.

    Raises:
        InputError: The file cannot be read.
        ModelError: The archive is damaged, was changed, has a newer version, or differs from what `pack_bundle` writes.
    """
    try:
        check_file(path, "bundle")
        with path.open("rb") as file:
            packed = file.read(MAX_BYTES + 1)
    except InputError as error:
        raise InputError(f"{error}; mien bundle -o face.mien makes one") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror})") from error
    origin = str(path)
    if len(packed) > MAX_BYTES:
        raise ModelError(f"{origin} is larger than {MAX_BYTES} bytes, the limit for a bundle")
    files = read_members(packed, origin)
    manifest = _manifest(files, origin)
    check_sums(files, manifest["files"], origin)
    models = _models(files, manifest["models"], origin)
    if missing := [name for name in (PICTURE, FACES) if name not in files]:
        raise ModelError(f"{origin} lacks {', '.join(missing)}")
    made_by = str(manifest["mien"])
    # The checksums cover the members. Packing them again checks every byte between and around them.
    if pack_bundle(models, files, made_by=made_by) != packed:
        raise ModelError(f"{origin} differs from what mien bundle wrote; copy it again")
    return Bundle(hashlib.sha256(packed).hexdigest(), made_by, models, files)


def pack_bundle(models: Sequence[BundledModel], files: Mapping[str, bytes], *, made_by: str) -> bytes:
    """Create an archive; the same members yield the same bytes.

    Args:
        models: Models listed in the manifest.
        files: Contents of all members except the manifest, by name.
        made_by: Version of mien.

    Returns:
        The archive.
    """
    sums = {n: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()} for n, data in sorted(files.items())}
    manifest = {
        "format": FORMAT,
        "version": BUNDLE_VERSION,
        "mien": made_by,
        "models": [
            {"name": m.name, "precision": m.precision.value, "file": m.file, "spec": m.spec_file} for m in models
        ],
        "files": sums,
    }
    text = json.dumps(manifest, indent=1) + "\n"
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name, data in [(MANIFEST, text.encode()), *sorted(files.items())]:
            info = zipfile.ZipInfo(name)  # the default time is 1980, independent of the clock
            info.create_system = 3  # Unix, whatever the system
            info.external_attr = (stat.S_IFREG | 0o644) << 16
            archive.writestr(info, data)
    return target.getvalue()


def _manifest(files: dict[str, bytes], origin: str) -> dict[str, Any]:
    """Remove the manifest from `files` and parse it."""
    try:
        text = files.pop(MANIFEST)
        if len(text) > MAX_MANIFEST_BYTES:
            raise ValueError(f"{len(text)} bytes")
        manifest = json.loads(text)
        if manifest["format"] != FORMAT:
            raise ValueError(f"format {manifest['format']!r}")
        version = manifest["version"]
        if type(version) is not int or version < 1:
            raise ValueError(f"version {version!r}")
        listed = {name: (row["bytes"], row["sha256"]) for name, row in manifest["files"].items()}
        models = [dict(row) for row in manifest["models"]]
        made_by = manifest["mien"]
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise ModelError(
            f"{origin}: {MANIFEST} is missing or invalid ({error!r}); make one with mien bundle"
        ) from error
    if version > BUNDLE_VERSION:
        raise ModelError(f"{origin}: bundle version {version}, this mien reads up to {BUNDLE_VERSION}; upgrade mien")
    return {"files": listed, "models": models, "mien": made_by}


def _models(files: Mapping[str, bytes], rows: Sequence[Mapping[str, Any]], origin: str) -> tuple[BundledModel, ...]:
    models: list[BundledModel] = []
    for row in rows:
        try:
            name, file, spec_file = str(row["name"]), str(row["file"]), str(row["spec"])
            task, precision = TASKS[name], Precision(row["precision"])
            text = files[spec_file].decode()
        except (KeyError, ValueError) as error:
            raise ModelError(f"{origin}: a model listed in its manifest cannot be used ({error!r})") from error
        spec = ModelSpec.from_json(text, origin=f"{origin}: {spec_file}")
        if spec.task is not task:
            raise ModelError(f"{origin}: {spec_file} describes a model for {spec.task.value}, expected {task.value}")
        wanted = (file, *(golden_file(name, array) for array in ("image", *spec.outputs)))
        if missing := [member for member in wanted if member not in files]:
            raise ModelError(f"{origin} lacks {', '.join(missing)}")
        models.append(BundledModel(name, precision, file, spec_file, spec))
    if len({(model.name, model.precision) for model in models}) < len(models):
        raise ModelError(f"{origin}: its manifest lists a model twice")
    for precision in {model.precision for model in models} or {Precision.FP32}:
        if missing := sorted({"detector", "landmarks"} - {m.name for m in models if m.precision is precision}):
            raise ModelError(f"{origin} has no {' and no '.join(missing)} in {precision.value}")
    return tuple(models)
