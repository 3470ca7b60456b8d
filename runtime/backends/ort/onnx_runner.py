"""`Runner` over an ONNX Runtime session."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidArgument
from onnxruntime.capi.onnxruntime_pybind11_state import RuntimeException as OrtRuntimeException

from ...errors import InputError, ModelError
from ...models.input_shapes import DETECTOR_STEP, INPUT
from ...models.model_file import ModelFile, ModelSource
from ...models.runner import DEFAULT_THREADS, Provider, as_choice, check_batch
from ...models.spec import Task, precision_of
from ...values import FloatArray, Image
from .io_binding import GPU_LOCK, BoundSession, CallMode
from .onnx_session import gpu_errors, open_session, reason_of


class OnnxRunner:
    """Model in an ONNX Runtime session. Safe to call from several threads at once; on a GPU they take turns.

    Attributes:
        spec: Metadata of the model.
        provider: Provider that actually runs it.
        precision: Number format in which it computes.
        mode: How calls actually reach the device.
    """

    def __init__(
        self,
        source: ModelSource,
        *,
        provider: Provider | str = Provider.CPU,
        threads: int = DEFAULT_THREADS,
        mode: CallMode | None = None,
    ) -> None:
        """Load a model.

        Args:
            source: Path of the model, or the file already read.
            provider: Execution provider.
            threads: Intra-op threads, 0 for all cores.
            mode: How calls reach the device; None for a captured graph on CUDA, which becomes bound buffers where a
                node does not run there, and for plain calls elsewhere.

        Raises:
            ModelError: The file is missing, not an ONNX file, or has no mien metadata.
            ProviderError: The model would not actually run on `provider`.
            InputError: There is no such provider.
        """
        model, provider = ModelFile.of(source), as_choice(Provider, provider)
        if mode is None:
            mode = CallMode.GRAPH if provider is Provider.CUDA else CallMode.PLAIN
        opened = open_session(model, provider=provider, threads=threads, cuda_graph=mode is CallMode.GRAPH)
        self._session: Any = opened.session
        self._provider = provider
        self.provider = provider.value
        self.spec = model.spec
        names = tuple(output.name for output in opened.session.get_outputs())
        if names != self.spec.outputs:
            raise ModelError(f"{model}: its outputs are {names}, its spec says {self.spec.outputs}; export it again")
        self.precision = precision_of(self.spec, origin=model.origin)
        self.mode = CallMode.BOUND if mode is CallMode.GRAPH and not opened.cuda_graph else mode
        self._bound: BoundSession | None = None
        if mode is not CallMode.PLAIN:
            device = "cpu" if provider is Provider.CPU else "cuda"
            self._bound = BoundSession(opened.session, device=device, cuda_graph=opened.cuda_graph)

    @property
    def session(self) -> Any:
        """The ONNX Runtime session, for measuring the overhead of this class.

        None once closed, and with I/O binding, which a plain `run` would bypass.
        """
        return None if self._bound is not None else self._session

    def __call__(self, batch: Image) -> dict[str, FloatArray]:
        """Run a batch (b, h, w, 3) uint8 BGR; see `Runner`.

        Raises:
            InputError: The batch has another shape or dtype, or the runner is closed.
            ProviderError: The GPU failed.
        """
        session, bound = self._session, self._bound  # another thread may close the runner
        if session is None:
            raise InputError("the runner is closed")
        check_batch(batch)
        try:
            with gpu_errors(self._provider, doing=f"while {self.spec.task.value} ran"):
                values = session.run(None, {INPUT: batch}) if bound is None else bound(INPUT, batch)
        except (InvalidArgument, Fail, OrtRuntimeException) as error:  # which one depends on its version
            found = f"found a batch {batch.shape} ({reason_of(error)})"
            raise InputError(f"expected {self._accepted()}, {found}") from error
        return dict(zip(self.spec.outputs, values, strict=True))

    def _accepted(self) -> str:
        height, width = self.spec.input_size
        if self.spec.task is Task.DETECTOR:
            return f"pictures whose sides are multiples of {DETECTOR_STEP} px"
        return f"crops of {height} × {width}, in a batch of a size that the file accepts"

    def close(self) -> None:
        """Release the session."""
        with GPU_LOCK if self._bound is not None else nullcontext():
            self._session = self._bound = None

    def __enter__(self) -> OnnxRunner:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
