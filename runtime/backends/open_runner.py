"""Opens a model file as a `Runner` on the requested provider."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from ..errors import ProcessFailed, ProviderError
from ..models.model_file import ModelFile, ModelSource
from ..models.runner import DEFAULT_THREADS, Provider, Runner
from .ort.onnx_runner import OnnxRunner
from .ort.onnx_session import compiled_in
from .trt.device import find_accelerator
from .trt.engine_runner import EngineRunner

log = logging.getLogger("mien")


def open_model(source: ModelSource, *, provider: Provider = Provider.AUTO, threads: int = DEFAULT_THREADS) -> Runner:
    """Open a model file.

    `Provider.AUTO` selects the first that works of an existing TensorRT engine, CUDA and the CPU, and logs its choice.
    `Provider.TENSORRT` builds the engine if needed.

    Args:
        source: Path of the model, or the file already read.
        provider: Execution provider.
        threads: Intra-op threads on the CPU, 0 for all cores.

    Raises:
        ModelError: The file is missing, not an ONNX file, or has no mien metadata.
        ProviderError: The model would not actually run on `provider`.
    """
    model = ModelFile.of(source)
    if provider is Provider.TENSORRT:
        return EngineRunner(model)
    if provider is Provider.AUTO:
        return _fastest(model, threads=threads)
    return OnnxRunner(model, provider=provider, threads=threads)


def _fastest(model: ModelFile, *, threads: int) -> Runner:
    """Open the fastest runner that works, and log the available ones that do not."""
    for open_it in _on_gpu(model, threads=threads):
        try:
            return _warmed_up(open_it())
        except (ProviderError, ProcessFailed) as error:
            log.warning("auto: %s", error)
    log.info("auto: %s runs on the CPU", model.name)
    return OnnxRunner(model, provider=Provider.CPU, threads=threads)


def _on_gpu(model: ModelFile, *, threads: int) -> Iterator[Callable[[], Runner]]:
    """Yield openers for the installed GPU providers, fastest first; none of them builds an engine."""
    try:
        accelerator = find_accelerator()
    except ProviderError as error:
        log.info("auto: no TensorRT (%s)", error)
    else:
        yield partial(EngineRunner, model, accelerator=accelerator, build=False)
    if compiled_in(Provider.CUDA):  # it may still not work
        yield partial(OnnxRunner, model, provider=Provider.CUDA, threads=threads)


def _warmed_up(runner: Runner) -> Runner:
    """Run a model before returning it, as a GPU that lacks kernels or memory may open it and fail in calls only."""
    height, width = runner.spec.input_size
    try:
        for _ in range(2):  # a captured CUDA graph is replayed from the second call on
            runner(np.zeros((1, height, width, 3), np.uint8))
    except ProviderError:
        runner.close()
        raise
    return runner
