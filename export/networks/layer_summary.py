"""What a network is made of: layers, parameters, and the work of one input."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from mien.runtime.models.spec import ModelSpec


@dataclass(frozen=True, slots=True)
class Layer:
    """A layer without children. output: its shape, without the batch."""

    name: str
    kind: str
    output: tuple[int, ...]
    parameters: int
    trainable: int


@dataclass(frozen=True, slots=True)
class Summary:
    """A network's layers in the order in which they run, and its totals. multiply_adds: of one input."""

    layers: tuple[Layer, ...]
    parameters: int
    trainable: int
    multiply_adds: int


def summarise(net: nn.Module, spec: ModelSpec) -> Summary:
    """Run one input of the spec's size through a network and note what it meets."""
    layers: list[Layer] = []

    def note(name: str, module: nn.Module) -> None:
        def hook(_: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> None:
            layers.append(Layer(name, type(module).__name__, tuple(output.shape[1:]), *count(module)))

        handles.append(module.register_forward_hook(hook))

    handles: list[torch.utils.hooks.RemovableHandle] = []
    for name, module in net.named_modules():
        if not list(module.children()):
            note(name, module)
    training = net.training
    net.eval()
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as flops:
            net(torch.zeros(1, *spec.input_size, 3, dtype=torch.uint8))
    finally:
        for handle in handles:
            handle.remove()
        net.train(training)
    return Summary(tuple(layers), *count(net), multiply_adds=flops.get_total_flops() // 2)


def count(module: nn.Module) -> tuple[int, int]:
    """Parameters of a module, and how many of them are trained."""
    parameters = list(module.parameters())
    return sum(p.numel() for p in parameters), sum(p.numel() for p in parameters if p.requires_grad)
