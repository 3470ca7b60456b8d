"""`ModelFile`: an ONNX model and its metadata, read without an ONNX Runtime session."""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePath
from typing import BinaryIO

from ..errors import InputError, ModelError
from ..file_kinds import HEAD_BYTES, FileKind, check_file, kind_of
from ..files import sha256_of
from .spec import METADATA_KEY, ModelSpec

# Field numbers of ONNX's messages, and the wire types of protobuf's encoding.
GRAPH, METADATA_PROPS = 7, 14  # of ModelProto
OUTPUT = 12  # of GraphProto
NAME = 1  # of ValueInfoProto
KEY, VALUE = 1, 2  # of StringStringEntryProto
MODEL, ENTRY = "model", "entry"
PARTS = {
    MODEL: {GRAPH: "graph", 25: "function"},
    "graph": {1: "node", 5: "tensor"},
    "function": {7: "node"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph"},
    "tensor": {13: ENTRY},
}
"""Fields of ONNX messages that may contain references to external weights."""
VARINT, FIXED64, LENGTH_DELIMITED, FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True)
class ModelFile:
    """An ONNX model as a path or as bytes; its metadata are read once, on first use.

    Attributes:
        origin: The path, or the name of a bundle's member, for error messages.
        content: The path if there is one, since external weights may lie next to it; else the bytes.
    """

    origin: str
    content: Path | bytes

    @classmethod
    def of(cls, source: ModelSource) -> ModelFile:
        """Return a `ModelFile` for a path; a `ModelFile` is returned as is.

        Raises:
            ModelError: The file is missing or a checkpoint.
        """
        if isinstance(source, ModelFile):
            return source
        path = Path(source)
        if path.suffix.lower() == ".pt":
            raise _checkpoint_error(str(path))
        try:
            check_file(path, "model")
        except InputError as error:
            raise ModelError(str(error)) from error
        with _readable(path), path.open("rb") as file:
            if _is_checkpoint(file.read(256)):
                raise _checkpoint_error(str(path))
        return cls(str(path), _beside_its_weights(path) if path.is_symlink() else path)

    @property
    def metadata(self) -> ModelSpec | None:
        """The model's spec; None for a file that mien did not export.

        Raises:
            ModelError: The model is not an ONNX file, or its spec cannot be read.
        """
        return self._header[0]

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the graph's outputs.

        Raises:
            ModelError: See `metadata`.
        """
        return self._header[1]

    @cached_property
    def _header(self) -> tuple[ModelSpec | None, tuple[str, ...]]:
        if isinstance(self.content, bytes):
            return _read_header(io.BytesIO(self.content), origin=self.origin)
        with _readable(self.content), self.content.open("rb") as file:
            return _read_header(file, origin=self.origin)

    @property
    def spec(self) -> ModelSpec:
        """The model's spec.

        Raises:
            ModelError: The file has no mien metadata; see also `metadata`.
        """
        if self.metadata is None:
            raise ModelError(f"{self} carries no mien metadata; make model files with mien export")
        return self.metadata

    @property
    def name(self) -> str:
        """File name without folders."""
        return PurePath(self.origin).name

    @property
    def stem(self) -> str:
        """File name without folders and suffix."""
        return PurePath(self.origin).stem

    @property
    def sha256(self) -> str:
        """Digest of the model and its external weights, in hexadecimal; recomputed on each access.

        Raises:
            ModelError: A file is missing.
        """
        if isinstance(self.content, bytes):
            return hashlib.sha256(self.content).hexdigest()
        paths = [self.content]
        with suppress(ModelError):  # reported when the model is opened
            paths += self.external_weights
        digests = []
        for path in paths:
            with _readable(path):
                digests.append(sha256_of(path))
        return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()

    @property
    def size_bytes(self) -> int:
        """Size of the model in bytes, including external weights.

        Raises:
            ModelError: A file is missing, or the model is not an ONNX file.
        """
        if isinstance(self.content, bytes):
            return len(self.content)
        size = 0
        for path in (self.content, *self.external_weights):
            with _readable(path):
                size += path.stat().st_size
        return size

    @property
    def external_weights(self) -> list[Path]:
        """Files next to the model that hold its weights, sorted by name; none for most models.

        Raises:
            ModelError: The model cannot be read, or is not an ONNX file.
        """
        if isinstance(self.content, bytes):
            return []
        with _readable(self.content), self.content.open("rb") as file:
            try:
                return [self.content.parent / name for name in sorted(_files_beside(file))]
            except ValueError as error:
                file.seek(0)
                raise _not_onnx(self.origin, file.read(HEAD_BYTES), error) from error

    def read_bytes(self) -> bytes:
        """Return the whole model.

        Raises:
            ModelError: It cannot be read, or its weights are in other files.
        """
        if isinstance(self.content, bytes):
            return self.content
        if beside := self.external_weights:
            raise ModelError(f"{self}: expected a model in one file, found its weights in {beside[0].name}")
        with _readable(self.content):
            return self.content.read_bytes()

    @contextmanager
    def as_path(self) -> Iterator[Path]:
        """Yield a path for libraries that can only read files; bytes are written to a temporary file."""
        if isinstance(self.content, Path):
            yield self.content
            return
        with tempfile.TemporaryDirectory(prefix="mien-") as folder:
            path = Path(folder) / self.name
            path.write_bytes(self.content)
            yield path

    def __str__(self) -> str:
        return self.origin


ModelSource = str | os.PathLike[str] | ModelFile
"""A model file's path, or the file already read."""


def model_spec(source: ModelSource) -> ModelSpec:
    """Read the spec of a model file.

    Raises:
        ModelError: The file is missing, not an ONNX file, or has no mien metadata.
    """
    return ModelFile.of(source).spec


def _read_header(file: BinaryIO, *, origin: str) -> tuple[ModelSpec | None, tuple[str, ...]]:
    """Read a model's spec, if any, and the names of its outputs, skipping the weights."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    metadata: dict[str, str] = {}
    outputs: list[str] | None = None
    try:
        for number, end in _fields(file, size):
            if number == GRAPH:
                outputs = [_texts(file, stop, NAME)[0] for part, stop in _fields(file, end) if part == OUTPUT]
            elif number == METADATA_PROPS:
                key, value = _texts(file, end, KEY, VALUE)
                metadata[key] = value
        if outputs is None:
            raise ValueError("it has no graph")
    except ValueError as error:
        file.seek(0)
        raise _not_onnx(origin, file.read(HEAD_BYTES), error) from error
    text = metadata.get(METADATA_KEY)
    return None if text is None else ModelSpec.from_json(text, origin=origin), tuple(outputs)


def _not_onnx(origin: str, head: bytes, error: ValueError) -> ModelError:
    kind = kind_of(head)
    damaged = kind in (FileKind.ONNX, FileKind.UNKNOWN)
    found = f"it is truncated, damaged or not an ONNX file ({error})" if damaged else f"it holds {kind.value}"
    return ModelError(f"{origin} is not a model that ONNX Runtime can load: {found}; make model files with mien export")


def _beside_its_weights(link: Path) -> Path:
    """Return a link's target if the external weights lie next to the target only, else the link."""
    target = link.resolve()
    try:
        with link.open("rb") as file:
            beside = _files_beside(file)
    except (ValueError, OSError):  # reported when the model is read
        return link
    moved = any(not (link.parent / name).exists() and (target.parent / name).exists() for name in beside)
    return target if moved else link


def _files_beside(model: BinaryIO) -> set[str]:
    end = model.seek(0, os.SEEK_END)
    model.seek(0)
    return set(_external_files(model, end, MODEL))


def _external_files(file: BinaryIO, end: int, message: str) -> Iterator[str]:
    """Yield the names of the external weight files of an ONNX message, including nested graphs."""
    for number, stop in _fields(file, end):
        part = PARTS[message].get(number)
        if part == ENTRY:
            key, value = _texts(file, stop, KEY, VALUE)
            if key == "location":
                yield value
        elif part is not None:
            yield from _external_files(file, stop, part)


def _texts(file: BinaryIO, end: int, *numbers: int) -> list[str]:
    """Return the text fields of a message with the given numbers; missing ones are empty."""
    found = {number: file.read(stop - file.tell()) for number, stop in _fields(file, end) if number in numbers}
    return [found.get(number, b"").decode() for number in numbers]


def _fields(file: BinaryIO, end: int) -> Iterator[tuple[int, int]]:
    """Yield the number and the end of each field of a protobuf message, with `file` at the field's content."""
    while file.tell() < end:
        number, wire_type = divmod(_varint(file), 8)
        if wire_type == VARINT:
            _varint(file)
            length = 0
        elif wire_type == LENGTH_DELIMITED:
            length = _varint(file)
        elif wire_type in (FIXED64, FIXED32):
            length = 8 if wire_type == FIXED64 else 4
        else:
            raise ValueError(f"wire type {wire_type} at byte {file.tell() - 1}")
        stop = file.tell() + length
        if number == 0 or stop > end:
            raise ValueError(f"field {number} ends at byte {stop} of {end}")
        yield number, stop
        file.seek(stop)


def _varint(file: BinaryIO) -> int:
    """Read a base-128 integer, least significant group first."""
    value = 0
    for shift in range(0, 70, 7):
        byte = file.read(1)
        if not byte:
            raise ValueError("it is cut off")
        value |= (byte[0] & 0x7F) << shift
        if byte[0] < 0x80:
            return value
    raise ValueError(f"a number without end at byte {file.tell()}")


def _is_checkpoint(head: bytes) -> bool:
    """Recognize the output of `torch.save` by its first bytes: a zip archive with a pickle, or a bare pickle."""
    return head.startswith(b"\x80\x02") or (head.startswith(b"PK\x03\x04") and b"data.pkl" in head)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror})") from error


def _checkpoint_error(origin: str) -> ModelError:
    path = PurePath(origin)
    named = path if path.suffix.lower() == ".pt" else path.with_suffix(".pt")
    rename = "" if named == path else f"rename it to {named.name}, then "
    return ModelError(f"{origin} is a checkpoint; {rename}run: mien export {named} -o {path.stem}.onnx")
