"""A `Runner` over ONNX Runtime: the provider that was asked for, or an error."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument

from mien.runtime.backends.ort.io_binding import BoundCalls
from mien.runtime.backends.ort.onnx_session import gpu_failures_told, open_session
from mien.runtime.errors import InputError, ModelError
from mien.runtime.models.input_shapes import INPUT
from mien.runtime.models.model_file import ModelFile, ModelSource
from mien.runtime.models.runner import DEFAULT_THREADS, Provider, as_choice, check_batch
from mien.runtime.models.spec import ModelSpec, Precision, precision_of
from mien.runtime.values import FloatArray, Image


class OnnxRunner:
    """A model file in an ONNX Runtime session.

    threads: for one operator, 0 for all cores. Safe to call from several threads at once; on a GPU they take turns.
    """

    def __init__(
        self,
        source: ModelSource,
        *,
        provider: Provider | str = Provider.CPU,
        threads: int = DEFAULT_THREADS,
    ) -> None:
        """Load a model. On CUDA, buffers stay on the GPU, and calls are replayed from captured graphs where possible.

        Raises:
            ModelError: missing, no ONNX file, or without mien's metadata.
            ProviderError: `provider` is not what would really run.
            InputError: no such provider.
        """
        model, provider = ModelFile.of(source), as_choice(Provider, provider)
        opened = open_session(model, provider=provider, threads=threads)
        self._session: Any = opened.session
        self._provider = opened.provider
        self._spec = model.spec
        names = tuple(output.name for output in opened.session.get_outputs())
        if names != self._spec.outputs:
            raise ModelError(f"{model}: its outputs are {names}, its spec says {self._spec.outputs}; export it again")
        self._precision = precision_of(self._spec, origin=model.origin)
        bound = opened.provider is Provider.CUDA
        self._bound = BoundCalls(opened.session, device="cuda", cuda_graph=opened.cuda_graph) if bound else None

    @property
    def spec(self) -> ModelSpec:
        """What the model says of itself."""
        return self._spec

    @property
    def session(self) -> Any:
        """ONNX Runtime's session, for those who measure what this class adds to its plain call.

        None once closed, and where calls go through buffers on the GPU, which a plain call does not.
        """
        return None if self._bound is not None else self._session

    @property
    def provider(self) -> str:
        """What really runs it."""
        return self._provider.value

    @property
    def precision(self) -> Precision:
        """In what numbers it computes."""
        return self._precision

    def __call__(self, batch: Image) -> dict[str, FloatArray]:
        """Run a batch (b, h, w, 3) uint8 BGR; see `Runner`.

        Raises:
            InputError: a batch of another shape or dtype, or the runner is closed.
            ProviderError: the GPU fails.
        """
        session, bound = self._session, self._bound  # another thread may close the runner meanwhile
        if session is None:
            raise InputError("the runner is closed")
        check_batch(batch)
        try:
            with gpu_failures_told(self._provider, doing=f"while {self._spec.task.value} ran"):
                values = session.run(None, {INPUT: batch}) if bound is None else bound(INPUT, batch)
        except InvalidArgument as error:
            height, width = self._spec.input_size
            raise InputError(f"wanted crops of {height} × {width}, found a batch {batch.shape}") from error
        return dict(zip(self._spec.outputs, values, strict=True))

    def close(self) -> None:
        """Release the session."""
        self._session = None
        self._bound = None

    def __enter__(self) -> OnnxRunner:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
