"""From a model file to a `Runner` on whatever provider was asked for."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from mien.runtime.backends.ort.onnx_runner import OnnxRunner
from mien.runtime.backends.ort.onnx_session import compiled_in
from mien.runtime.backends.trt.device import find_accelerator
from mien.runtime.backends.trt.engine_runner import EngineRunner
from mien.runtime.errors import ProviderError
from mien.runtime.models.model_file import ModelFile, ModelSource
from mien.runtime.models.runner import DEFAULT_THREADS, Provider, Runner

log = logging.getLogger("mien")


def open_model(source: ModelSource, *, provider: Provider = Provider.AUTO, threads: int = DEFAULT_THREADS) -> Runner:
    """Open a model file.

    `Provider.AUTO` takes an engine that is built already, else CUDA, else the CPU: the first that works, and logs why.
    `Provider.TENSORRT` builds the engine if it must. threads: of one operator on the CPU, 0 for all cores.

    Raises:
        ModelError: missing, no ONNX file, or without mien's metadata.
        ProviderError: `provider` is not what would really run.
    """
    model = ModelFile.of(source)
    if provider is Provider.TENSORRT:
        return EngineRunner(model)
    if provider is Provider.AUTO:
        return _fastest(model, threads=threads)
    return OnnxRunner(model, provider=provider, threads=threads)


def _fastest(model: ModelFile, *, threads: int) -> Runner:
    """The fastest runner that works; each one that is here and does not is named."""
    for open_it in _on_gpu(model, threads=threads):
        try:
            return _tried(open_it())
        except ProviderError as error:
            log.warning("auto: %s", error)
    log.info("auto: %s runs on the CPU", model.name)
    return OnnxRunner(model, provider=Provider.CPU, threads=threads)


def _on_gpu(model: ModelFile, *, threads: int) -> Iterator[Callable[[], Runner]]:
    """Openers for what is installed, the fastest first. None of them builds an engine: that is never a surprise."""
    try:
        accelerator = find_accelerator()
    except ProviderError as error:
        log.info("auto: no TensorRT (%s)", error)
    else:
        yield partial(EngineRunner, model, accelerator=accelerator, build=False)
    if compiled_in(Provider.CUDA):  # which does not say that it works
        yield partial(OnnxRunner, model, provider=Provider.CUDA, threads=threads)


def _tried(runner: Runner) -> Runner:
    """The same runner once it has run: a GPU that lacks kernels or memory opens a model, and fails in the calls.

    Raises:
        ProviderError: it fails.
    """
    height, width = runner.spec.input_size
    try:
        for _ in range(2):  # what CUDA captures, it runs from the second call on
            runner(np.zeros((1, height, width, 3), np.uint8))
    except ProviderError:
        runner.close()
        raise
    return runner
