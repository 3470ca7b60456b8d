"""`Bundle`: models, golden samples and papers of a pipeline in one file, believed only after every sum has held.

A bundle is a zip archive whose members are stored as they are: nothing is inflated, so a small file cannot become a
large one, and the same members make the same bytes. The sums protect against damage; against somebody who makes a
bundle of his own, only the digest of the whole file helps, told by whoever made it.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import stat
import struct
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mien.runtime.errors import InputError, ModelError
from mien.runtime.models.model_file import ModelFile
from mien.runtime.models.spec import ModelSpec, Precision, Task
from mien.runtime.values import POINTS, FloatArray, Image

FORMAT = "mien bundle"
BUNDLE_VERSION = 1
MANIFEST = "manifest.json"
BENCH = "bench.json"
PICTURE = "golden/picture.npy"
FACES = "golden/faces.npy"
MAX_MEMBERS = 256
MAX_BYTES = 512 << 20
"""No archive is larger; its members together are never larger than it."""
MAX_DIRECTORY_BYTES = 256 * MAX_MEMBERS
MAX_MANIFEST_BYTES = 1 << 20
TASKS = {"landmarks": Task.LANDMARKS, "detector": Task.DETECTOR, "age_gender": Task.AGE_GENDER}
"""The models that a bundle may hold, by name; all but the last must be there."""

_PART = r"[a-z0-9_-][a-z0-9_.-]*"  # no part begins with a dot, so none is ..
_NAME = re.compile(rf"(?:{_PART}/)*{_PART}")
_ARRAY = re.compile(
    rb"\x93NUMPY\x01\x00..\{'descr': '(?P<dtype>[<|][fu][1248])', 'fortran_order': False, "
    rb"'shape': \((?P<shape>\d{1,9}(?:,|(?:, \d{1,9})+))\), \} *\n",
    re.DOTALL,
)
"""What NumPy writes before the numbers of an array. Its own parser evaluates whatever stands there."""
_BROKEN = (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, RuntimeError, EOFError, struct.error)


@dataclass(frozen=True, slots=True)
class BundledModel:
    """One model file. name: a key of `TASKS`. file, spec_file: members' names."""

    name: str
    precision: Precision
    file: str
    spec_file: str
    spec: ModelSpec


@dataclass(frozen=True, slots=True)
class Bundle:
    """What an archive holds, in memory.

    sha256: of the whole archive. made_by: version of mien. files: every member but the manifest.
    """

    sha256: str
    made_by: str
    models: tuple[BundledModel, ...]
    files: Mapping[str, bytes]

    def golden(self, name: str) -> tuple[Image, dict[str, FloatArray]]:
        """Inputs (n, h, w, 3) uint8 of the model `name`, and what its float32 file computed of them where it was made.

        Raises:
            ModelError: not such arrays.
        """
        (spec, *_) = [model.spec for model in self.models if model.name == name]
        image = self._array(golden_file(name, "image"))
        if image.dtype != np.uint8 or image.ndim != 4 or image.shape[3] != 3 or not len(image):
            raise ModelError(f"{golden_file(name, 'image')}: wanted uint8 (n, h, w, 3), found {image.dtype}")
        outputs = {output: self._array(golden_file(name, output)) for output in spec.outputs}
        for output, values in outputs.items():
            if values.dtype.kind != "f" or len(values) != len(image):
                raise ModelError(f"{golden_file(name, output)}: wanted floats, a row an input, found {values.dtype}")
        return image, outputs

    def picture(self) -> tuple[Image, FloatArray]:
        """A picture (h, w, 3) uint8 BGR, and the landmarks (n, 68, 3) px that the float32 pipeline found in it.

        Raises:
            ModelError: not such arrays.
        """
        image, faces = self._array(PICTURE), self._array(FACES)
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
            raise ModelError(f"{PICTURE}: wanted uint8 (h, w, 3), found {image.dtype} {image.shape}")
        if faces.dtype.kind != "f" or faces.shape[1:] != (POINTS, 3) or not len(faces):
            raise ModelError(f"{FACES}: wanted floats (n, {POINTS}, 3), found {faces.dtype} {faces.shape}")
        return image, faces

    def _array(self, name: str) -> Any:
        data = self.files[name]
        start = 10 + int.from_bytes(data[8:10], "little")
        try:
            if (header := _ARRAY.fullmatch(data, 0, start)) is None:
                raise ValueError("wanted a file of numpy.save, version 1.0")
            shape = [int(side) for side in header["shape"].split(b",") if side]
            return np.frombuffer(data, header["dtype"].decode(), offset=start).reshape(shape).copy()
        except (ValueError, TypeError) as error:  # TypeError: no such dtype
            raise ModelError(f"{name} of the bundle is no array ({error})") from error

    def model_file(self, model: BundledModel) -> ModelFile:
        """Return one of `models`, ready to be opened from memory."""
        return ModelFile(model.file, self.files[model.file])

    def models_in(self, precision: Precision) -> dict[str, ModelFile]:
        """Return the models of a precision by name.

        Raises:
            InputError: The bundle has none of that precision.
        """
        found = {model.name: self.model_file(model) for model in self.models if model.precision is precision}
        if not found:
            known = ", ".join(sorted({model.precision.value for model in self.models}))
            raise InputError(f"the bundle has no {precision.value} models (it has {known})")
        return found

    def find(self, name: str, precision: Precision) -> BundledModel | None:
        """The model of that name and precision, if there is one."""
        return next((m for m in self.models if (m.name, m.precision) == (name, precision)), None)


def golden_file(name: str, array: str) -> str:
    """Member with a golden input (``image``) or output of a model."""
    return f"golden/{name}/{array}.npy"


def read_bundle(path: Path) -> Bundle:
    """Read and check an archive; nothing is written.

    Raises:
        InputError: no such file.
        ModelError: damaged, changed, of a later version, or not to the byte what `pack_bundle` makes.
    """
    try:
        with path.open("rb") as file:
            packed = file.read(MAX_BYTES + 1)  # a device or a pipe has no size that could be asked for first
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); mien bundle -o {path.name} makes one") from error
    origin = str(path)
    if len(packed) > MAX_BYTES:
        raise ModelError(f"{origin} is larger than {MAX_BYTES} bytes, the most that a bundle has")
    files = _members(packed, origin)
    manifest = _manifest(files, origin)
    _check_sums(files, manifest["files"], origin)
    models = _models(files, manifest["models"], origin)
    if missing := [name for name in (PICTURE, FACES) if name not in files]:
        raise ModelError(f"{origin}: {', '.join(missing)} is missing")
    made_by = str(manifest["mien"])
    # The sums cover the members; what stands between, before and around them is only ever what packing again gives.
    if pack_bundle(models, files, made_by=made_by) != packed:
        raise ModelError(f"{origin} is not to the byte what mien bundle wrote; copy it again")
    return Bundle(hashlib.sha256(packed).hexdigest(), made_by, models, files)


def pack_bundle(models: Sequence[BundledModel], files: Mapping[str, bytes], *, made_by: str) -> bytes:
    """Make an archive; the same members make the same bytes."""
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
            info = zipfile.ZipInfo(name)  # its time is 1980, whenever it is made
            info.create_system = 3  # Unix, also where it is made on another system
            info.external_attr = (stat.S_IFREG | 0o644) << 16
            archive.writestr(info, data)
    return target.getvalue()


def _members(packed: bytes, origin: str) -> dict[str, bytes]:
    """The archive's members, refused before one is read if the archive is not of the plain kind."""
    _check_directory(packed, origin)
    try:
        with zipfile.ZipFile(io.BytesIO(packed)) as archive:
            infos = archive.infolist()
            _check_members(infos, len(packed), origin)
            return {info.filename: archive.read(info) for info in infos}
    except (*_BROKEN, ValueError, OSError) as error:
        raise ModelError(f"{origin} is not a whole bundle ({error}); copy it again") from error


def _check_directory(packed: bytes, origin: str) -> None:
    """Look at the record that ends an archive, before a directory of any size is read into objects."""
    if packed[-22:-18] != b"PK\5\6" or packed[-42:-38] == b"PK\6\7":  # the latter: a zip64 archive, for 4 GB and more
        raise ModelError(f"{origin} is not a whole bundle (it does not end as one); copy it again")
    (directory_bytes,) = struct.unpack("<I", packed[-10:-6])
    if directory_bytes > MAX_DIRECTORY_BYTES:
        raise ModelError(
            f"{origin} has a directory of {directory_bytes} bytes; a bundle has at most {MAX_MEMBERS} members"
        )


def _check_members(infos: Sequence[zipfile.ZipInfo], packed_bytes: int, origin: str) -> None:
    if len(infos) > MAX_MEMBERS:
        raise ModelError(f"{origin} has {len(infos)} members; a bundle has at most {MAX_MEMBERS}")
    names = [info.orig_filename for info in infos]  # `filename` ends at a zero byte
    if len(set(names)) < len(names):
        raise ModelError(f"{origin} holds {max(names, key=names.count)!r} more than once")
    for name, info in zip(names, infos, strict=True):
        kind = stat.S_IFMT(info.external_attr >> 16)
        if not _NAME.fullmatch(name):
            raise ModelError(f"{origin} holds {name!r}, which is no name of a bundle's member")
        if kind not in (0, stat.S_IFREG):
            raise ModelError(f"{origin}: {name} is a link or a device, wanted a file")
        if info.flag_bits & 1 or info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
            raise ModelError(f"{origin}: {name} is compressed or encrypted; a bundle stores its members as they are")
    # Members that lie over one another could each be read as the whole archive.
    if sum(info.file_size for info in infos) > packed_bytes:
        raise ModelError(f"{origin}: its members claim to be larger than the file")


def _manifest(files: dict[str, bytes], origin: str) -> dict[str, Any]:
    """Take the manifest out of `files`."""
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
        raise ModelError(f"{origin}: no {MANIFEST} of a bundle ({error!r}); make one with mien bundle") from error
    if version > BUNDLE_VERSION:
        raise ModelError(f"{origin}: bundle version {version}, this mien reads up to {BUNDLE_VERSION}; upgrade mien")
    return {"files": listed, "models": models, "mien": made_by}


def _check_sums(files: Mapping[str, bytes], listed: Mapping[str, tuple[object, object]], origin: str) -> None:
    if missing := sorted(listed.keys() - files.keys()):
        raise ModelError(f"{origin}: {', '.join(missing)} is missing")
    if unlisted := sorted(files.keys() - listed.keys()):
        raise ModelError(f"{origin}: {', '.join(unlisted)} is not in its manifest")
    for name, (size, digest) in listed.items():
        if len(files[name]) != size or hashlib.sha256(files[name]).hexdigest() != digest:
            raise ModelError(f"{origin}: {name} was changed: its sha256 is not the manifest's")


def _models(files: Mapping[str, bytes], rows: Sequence[Mapping[str, Any]], origin: str) -> tuple[BundledModel, ...]:
    models: list[BundledModel] = []
    for row in rows:
        try:
            name, file, spec_file = str(row["name"]), str(row["file"]), str(row["spec"])
            task, precision = TASKS[name], Precision(row["precision"])
            text = files[spec_file].decode()
        except (KeyError, ValueError) as error:
            raise ModelError(f"{origin}: a model of its manifest cannot be used ({error!r})") from error
        spec = ModelSpec.from_json(text, origin=f"{origin}: {spec_file}")
        if spec.task is not task:
            raise ModelError(f"{origin}: {spec_file} is of a model for {spec.task.value}, wanted {task.value}")
        wanted = (file, *(golden_file(name, array) for array in ("image", *spec.outputs)))
        if missing := [member for member in wanted if member not in files]:
            raise ModelError(f"{origin}: {', '.join(missing)} is missing")
        models.append(BundledModel(name, precision, file, spec_file, spec))
    if len({(model.name, model.precision) for model in models}) < len(models):
        raise ModelError(f"{origin}: its manifest names a model twice")
    for precision in {model.precision for model in models} or {Precision.FP32}:
        if missing := sorted({"detector", "landmarks"} - {m.name for m in models if m.precision is precision}):
            raise ModelError(f"{origin}: it has no {' and no '.join(missing)} in {precision.value}")
    return tuple(models)
