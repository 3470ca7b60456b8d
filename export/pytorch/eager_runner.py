"""Runs networks in eager PyTorch, the baseline of speed-ups and the reference of parity checks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from ...bench.suite.options import Baseline
from ...runtime.errors import InputError
from ...runtime.models.spec import ModelSpec, Precision
from ...runtime.values import FloatArray, Image
from ..networks.build_network import build_network
from ..networks.checkpoint import load_checkpoint
from ..networks.half_precision import to_half_precision


class NetworkRunner:
    """`Runner` for a network in PyTorch, in inference mode.

    Args:
        net: The network.
        spec: Spec of the network.
        device: Device name of PyTorch.
        threads: Threads of PyTorch as a whole, as there is no finer setting; 0: leave as is.
        how: Options and precision to run the network with.
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
        """Baseline and device, for example ``eager-cpu``."""
        return f"{self._how.value}-{self._device.type}"

    def __call__(self, batch: Image) -> dict[str, FloatArray]:
        """Run a batch (b, h, w, 3) uint8 BGR; see `Runner`."""
        if batch.ndim != 4 or batch.shape[3] != 3:
            raise InputError(f"expected a uint8 batch (b, h, w, 3), found {batch.dtype} {batch.shape}")
        with torch.inference_mode():
            values = self._net(torch.from_numpy(batch).to(self._device))
        return {name: value.cpu().numpy() for name, value in zip(self._spec.outputs, values, strict=True)}

    def close(self) -> None:
        """Do nothing; there are no resources to release."""

    def __enter__(self) -> NetworkRunner:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_checkpoint(path: Path, *, threads: int = 0) -> NetworkRunner:
    """Open a checkpoint on the CPU.

    Args:
        path: File of the checkpoint.
        threads: See `NetworkRunner`.

    Raises:
        ModelError: It is not a checkpoint, or is damaged.
    """
    checkpoint = load_checkpoint(path)
    return NetworkRunner(build_network(checkpoint), checkpoint.spec, threads=threads)
