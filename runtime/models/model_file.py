"""`ModelFile`: an ONNX model and its metadata, read without an ONNX Runtime session."""

from __future__ import annotations

import hashlib
import io
import os
import shlex
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
from .onnx_header import external_files, read_header
from .spec import METADATA_KEY, ModelSpec


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
        with self._parsed() as file:
            metadata, outputs = read_header(file)
        text = metadata.get(METADATA_KEY)
        return None if text is None else ModelSpec.from_json(text, origin=self.origin), outputs

    @contextmanager
    def _parsed(self) -> Iterator[BinaryIO]:
        """Open the model to be parsed, and raise ModelError if it cannot be."""
        with _readable(self.origin), self._open() as file:
            try:
                yield file
            except ValueError as error:
                file.seek(0)
                kind = kind_of(file.read(HEAD_BYTES))
                damaged = kind in (FileKind.ONNX, FileKind.UNKNOWN)
                found = f"is truncated, damaged or not an ONNX file ({error})" if damaged else f"holds {kind.value}"
                raise ModelError(
                    f"{self} is not a model that ONNX Runtime can load: it {found}; make model files with mien export"
                ) from error

    def _open(self) -> BinaryIO:
        return io.BytesIO(self.content) if isinstance(self.content, bytes) else self.content.open("rb")

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
        with self._parsed() as file:
            return [self.content.parent / name for name in sorted(external_files(file))]

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

    def path_or_bytes(self) -> str | bytes:
        """Return what a native library can open: the path, or the bytes if there is none or it is not UTF-8.

        Raises:
            ModelError: See `read_bytes`.
        """
        path = "" if isinstance(self.content, bytes) else str(self.content)
        return path if path and path.encode(errors="replace").decode() == path else self.read_bytes()

    @contextmanager
    def as_path(self) -> Iterator[str]:
        """Yield a path for a native library that can only read files; bytes are written to a temporary file.

        Raises:
            ModelError: See `read_bytes`.
        """
        content = self.path_or_bytes()
        if isinstance(content, str):
            yield content
            return
        with tempfile.TemporaryDirectory(prefix="mien-") as folder:
            path = Path(folder) / "model.onnx"
            path.write_bytes(content)
            yield str(path)

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


def _beside_its_weights(link: Path) -> Path:
    """Return a link's target if the external weights lie next to the target only, else the link."""
    target = link.resolve()
    try:
        with link.open("rb") as file:
            beside = external_files(file)
    except (ValueError, OSError):  # reported when the model is read
        return link
    moved = any(not (link.parent / name).exists() and (target.parent / name).exists() for name in beside)
    return target if moved else link


def _is_checkpoint(head: bytes) -> bool:
    """Recognize the output of `torch.save` by its first bytes: a zip archive with a pickle, or a bare pickle."""
    return head.startswith(b"\x80\x02") or (head.startswith(b"PK\x03\x04") and b"data.pkl" in head)


@contextmanager
def _readable(path: Path | str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ModelError(f"{path} cannot be read ({error.strerror})") from error


def _checkpoint_error(origin: str) -> ModelError:
    path = PurePath(origin)
    named = path if path.suffix.lower() == ".pt" else path.with_suffix(".pt")
    rename = "" if named == path else f"rename it to {named.name}, then "
    command = shlex.join(["mien", "export", str(named), "-o", f"{path.stem}.onnx"])
    return ModelError(f"{origin} is a checkpoint; {rename}run: {command}")
