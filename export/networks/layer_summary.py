"""Summary of a network: its layers, parameters and multiply-adds."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from ...runtime.models.spec import ModelSpec


@dataclass(frozen=True, slots=True)
class Layer:
    """Layer without children.

    Attributes:
        name: Dotted name in the network.
        kind: Name of its class.
        output: Shape of its output, without the batch axis.
        parameters: Number of its parameters.
        trainable: Number of trainable parameters.
    """

    name: str
    kind: str
    output: tuple[int, ...]
    parameters: int
    trainable: int


@dataclass(frozen=True, slots=True)
class Summary:
    """Layers and totals of a network.

    Attributes:
        layers: Layers in execution order.
        parameters: Number of parameters.
        trainable: Number of trainable parameters.
        multiply_adds: Multiply-accumulate operations for a batch of one.
    """

    layers: tuple[Layer, ...]
    parameters: int
    trainable: int
    multiply_adds: int


def summarize(net: nn.Module, spec: ModelSpec) -> Summary:
    """Run a blank input of the spec's size through a network, and record its layers."""
    layers: list[Layer] = []

    def record(name: str, module: nn.Module) -> None:
        def hook(_: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> None:
            layers.append(Layer(name, type(module).__name__, tuple(output.shape[1:]), *count_parameters(module)))

        handles.append(module.register_forward_hook(hook))

    handles: list[torch.utils.hooks.RemovableHandle] = []
    for name, module in net.named_modules():
        if not list(module.children()):
            record(name, module)
    training = net.training
    net.eval()
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as flops:
            net(torch.zeros(1, *spec.input_size, 3, dtype=torch.uint8))
    finally:
        for handle in handles:
            handle.remove()
        net.train(training)
    return Summary(tuple(layers), *count_parameters(net), multiply_adds=flops.get_total_flops() // 2)


def count_parameters(module: nn.Module) -> tuple[int, int]:
    """Return the number of parameters of a module, and the number of trainable ones."""
    parameters = list(module.parameters())
    return sum(p.numel() for p in parameters), sum(p.numel() for p in parameters if p.requires_grad)
