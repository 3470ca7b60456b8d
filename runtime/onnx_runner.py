"""A `Runner` over ONNX Runtime: the provider that was asked for, or an error."""

from __future__ import annotations

import logging
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import onnxruntime as ort
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument

from .errors import InputError, ModelError, ProviderError
from .runner import DEFAULT_THREADS, Precision, Provider
from .spec import METADATA_KEY, ModelSpec
from .values import FloatArray, Image

log = logging.getLogger("mien")

INPUT = "image"
_NAMES = {Provider.CPU: "CPUExecutionProvider", Provider.CUDA: "CUDAExecutionProvider"}


class OnnxRunner:
    """A model file in an ONNX Runtime session.

    threads: for one operator, 0 for all cores. Safe to call from several threads at once.
    """

    def __init__(self, path: Path, *, provider: Provider = Provider.AUTO, threads: int = DEFAULT_THREADS) -> None:
        """Load a model.

        Raises:
            ModelError: missing, no ONNX file, or without mien's metadata.
            ProviderError: `provider` is not what would really run.
        """
        session, really = open_session(path, provider=provider, threads=threads)
        self._adopt(session, really, str(path))

    @classmethod
    def from_session(cls, session: Any, provider: Provider, *, origin: str) -> OnnxRunner:
        """Wrap a session that `open_session` has opened."""
        runner = cls.__new__(cls)
        runner._adopt(session, provider, origin)
        return runner

    def _adopt(self, session: Any, provider: Provider, origin: str) -> None:
        self._session = session
        self._provider = provider
        self._spec = read_spec(session, origin=origin)
        names = tuple(output.name for output in session.get_outputs())
        if names != self._spec.outputs:
            raise ModelError(f"{origin}: its outputs are {names}, its spec says {self._spec.outputs}; export it again")
        try:
            self._precision = Precision(self._spec.provenance.get("precision", "fp32"))
        except (AttributeError, ValueError) as error:
            raise ModelError(f"{origin}: its precision cannot be read ({error}); export it again") from error

    @property
    def spec(self) -> ModelSpec:
        """What the model says of itself."""
        return self._spec

    @property
    def session(self) -> Any:
        """ONNX Runtime's session, for those who measure what this class adds to it; None once closed."""
        return self._session

    @property
    def provider(self) -> str:
        """What really runs it."""
        return self._provider.value

    @property
    def precision(self) -> Precision:
        """In what numbers it computes."""
        return self._precision

    def __call__(self, batch: Image) -> dict[str, FloatArray]:
        """Run a batch (b, h, w, 3) uint8 BGR; see `Runner`."""
        if self._session is None:
            raise InputError("the runner is closed")
        if batch.dtype != np.uint8 or batch.ndim != 4 or batch.shape[3] != 3:
            raise InputError(f"wanted a uint8 batch (b, h, w, 3), found {batch.dtype} {batch.shape}")
        try:
            values = self._session.run(None, {INPUT: batch})
        except InvalidArgument as error:
            height, width = self._spec.input_size
            raise InputError(f"wanted crops of {height} × {width}, found a batch {batch.shape}") from error
        return dict(zip(self._spec.outputs, values, strict=True))

    def close(self) -> None:
        """Release the session."""
        self._session = None

    def __enter__(self) -> OnnxRunner:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_session(path: Path, *, provider: Provider, threads: int) -> tuple[Any, Provider]:
    """Open an ONNX Runtime session and make sure of what runs it.

    Raises:
        ModelError: missing or no ONNX file.
        ProviderError: `provider` is not what would really run.
    """
    if not path.is_file():
        raise ModelError(f"no model {path}")
    if provider is not Provider.AUTO:
        return _session(path, provider, threads), provider
    if _NAMES[Provider.CUDA] in ort.get_available_providers():  # compiled in, which does not say that it works
        try:
            return _session(path, Provider.CUDA, threads), Provider.CUDA
        except ProviderError as error:
            log.warning("auto: %s", error)
    log.info("auto: %s runs on the CPU", path.name)
    return _session(path, Provider.CPU, threads), Provider.CPU


def _session(path: Path, provider: Provider, threads: int) -> Any:
    name = _NAMES[provider]
    if name not in ort.get_available_providers():
        raise ProviderError(
            f"this onnxruntime has no {name} (it has {', '.join(ort.get_available_providers())}); "
            "install mien[cuda] in a fresh environment"
        )
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # Memory is planned anew for each shape else, and kept: 30 MB for the detector's two sizes, and no faster.
    options.enable_mem_pattern = False
    # Worker threads spin within a call only: the two models of a pipeline, and the capture, share the cores.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    try:
        session = ort.InferenceSession(str(path), options, providers=[name])
    except Exception as error:  # ONNX Runtime has a class an error code, with no common base
        raise ModelError(f"{path} is not a model that ONNX Runtime can load ({_first_line(error)})") from error
    if session.get_providers()[0] != name:  # it falls back in silence
        raise ProviderError(
            f"{provider.value} was asked for, but ONNX Runtime fell back to {session.get_providers()[0]}: "
            "its CUDA libraries or the driver are missing"
        )
    return session


def read_spec(session: Any, *, origin: str) -> ModelSpec:
    """Read the spec from a session's metadata.

    Raises:
        ModelError: there is none, or it cannot be read.
    """
    text = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    if text is None:
        raise ModelError(f"{origin} carries no mien metadata; make model files with mien export")
    return ModelSpec.from_json(text, origin=origin)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
