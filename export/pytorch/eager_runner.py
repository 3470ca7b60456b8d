"""Runs networks in eager PyTorch: the baseline of every speed-up, and the reference of every parity."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import nn

from ...bench.suite.options import Baseline
from ...runtime.errors import InputError
from ...runtime.models.spec import ModelSpec, Precision
from ...runtime.values import FloatArray, Image
from ..networks.build_network import build_network
from ..networks.checkpoint import Checkpoint, load_checkpoint
from ..networks.half_precision import to_half_precision


class NetworkRunner:
    """A `Runner` over a network in eval and inference mode, with its layers as trained.

    Args:
        net: The network.
        spec: Its spec.
        device: PyTorch's name of the device.
        threads: Threads of PyTorch as a whole, which has no finer setting; 0 leaves it as it is.
        how: Options and precision to run it with.
    """

    def __init__(
        self, net: nn.Module, spec: ModelSpec, *, device: str = "cpu", threads: int = 0, how: Baseline = Baseline.EAGER
    ) -> None:
        self._spec = spec
        self._device = torch.device(device)
        self._how = how
        self.precision = how.precision
        net = (to_half_precision(net) if self.precision is Precision.FP16 else net).eval().to(self._device)
        if how is Baseline.CHANNELS_LAST:
            net = net.to(memory_format=torch.channels_last)
        self._net: Any = torch.compile(net, dynamic=False) if how is Baseline.COMPILE else net
        if threads:
            torch.set_num_threads(threads)

    @property
    def spec(self) -> ModelSpec:
        """Spec of the model."""
        return self._spec

    @property
    def provider(self) -> str:
        """Way and device that PyTorch runs it on, such as ``eager-cpu``."""
        return f"{self._how.value}-{self._device.type}"

    def __call__(self, batch: Image) -> dict[str, FloatArray]:
        """Run a batch (b, h, w, 3) uint8 BGR; see `Runner`."""
        if batch.ndim != 4 or batch.shape[3] != 3:
            raise InputError(f"expected a uint8 batch (b, h, w, 3), found {batch.dtype} {batch.shape}")
        with torch.inference_mode():
            values = self._net(torch.from_numpy(batch).to(self._device))
        return {name: value.cpu().numpy() for name, value in zip(self._spec.outputs, values, strict=True)}

    def close(self) -> None:
        """Do nothing: Python frees all that it holds."""

    def __enter__(self) -> NetworkRunner:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class EagerRunner(NetworkRunner):
    """A checkpoint's network."""

    def __init__(self, source: Path | Checkpoint, *, device: str = "cpu", threads: int = 0) -> None:
        checkpoint = source if isinstance(source, Checkpoint) else load_checkpoint(source)
        super().__init__(build_network(checkpoint), checkpoint.spec, device=device, threads=threads)
