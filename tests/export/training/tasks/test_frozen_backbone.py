"""The textbook chapter's networks: counted to the last parameter."""

from __future__ import annotations

import json

import pytest
import torch
from typer.testing import CliRunner

from mien.cli import app
from mien.export.networks.backbones import ARCHITECTURES
from mien.export.networks.build_network import empty_network
from mien.export.networks.frozen_backbone_nets import (
    FrozenBackboneAgeGenderNet,
    FrozenBackboneClassifier,
    FrozenBackboneLandmarkNet,
    probabilities,
)
from mien.export.networks.layer_summary import count_parameters, summarize
from mien.export.networks.residual_net import ResLayer, ResLayerNet
from mien.runtime.errors import InputError
from mien.runtime.models.spec import ModelSpec, Task


@pytest.mark.parametrize(
    ("task", "backbone", "parameters", "trainable"),
    [
        (Task.CLASSIFY, "vgg16", 14_780_481, 65_793),
        (Task.CLASSIFY, "resnet18", 11_242_305, 65_793),
        (Task.AGE_GENDER, "vgg16", 18_197_634, 3_482_946),
        (Task.LANDMARKS, "vgg16", 18_193_352, 3_478_664),
    ],
)
def test_parameters_are_the_chapters(task: Task, backbone: str, parameters: int, trainable: int) -> None:
    assert count_parameters(empty_network(task, backbone, frozen_backbone=True)) == (parameters, trainable)


@pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name.startswith("mobilenet_v2_")])
def test_a_reduced_backbone_has_no_whole(name: str) -> None:
    for task in (Task.CLASSIFY, Task.LANDMARKS, Task.AGE_GENDER):
        with pytest.raises(InputError, match=rf"cannot use {name}, .* --backbone mobilenet_v2, mobilenet_v3_small, "):
            empty_network(task, name, frozen_backbone=True)


@pytest.mark.parametrize("command", ["landmarks", "age-gender"])
def test_the_recipe_has_a_whole_backbone_by_default(command: str) -> None:
    totals = {}
    for backbone in ([], ["--backbone", "mobilenet_v2"]):
        shown = CliRunner().invoke(app, ["train", command, "--recipe", "chapter", *backbone, "--summary", "--json"])
        totals[len(backbone)] = json.loads(shown.stdout)
    assert totals[0] == totals[2] and totals[0]["parameters"] > 2_223_872  # of its layers alone


def test_summary_of_one_convolution_by_hand() -> None:
    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = torch.nn.Conv2d(3, 8, 3, padding=1)
            self.conv.bias.requires_grad_(False)  # type: ignore[union-attr]

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.conv(image.permute(0, 3, 1, 2).float())
            return out

    summary = summarize(Net(), ModelSpec(Task.CLASSIFY, (10, 12), ()))
    assert (summary.parameters, summary.trainable) == (8 * 27 + 8, 8 * 27)
    assert summary.multiply_adds == 10 * 12 * 8 * 27
    assert [(layer.name, layer.kind, layer.output) for layer in summary.layers] == [("conv", "Conv2d", (8, 10, 12))]


def test_a_res_layer_with_silent_weights_is_the_identity() -> None:
    layer = ResLayer(4)
    x = torch.randn(2, 4, 6, 6)
    assert not torch.allclose(layer(x), x)
    for parameter in layer.parameters():
        torch.nn.init.zeros_(parameter)
    assert torch.equal(layer(x), x)


def test_a_res_layer_adds_what_its_convolution_says() -> None:
    layer = ResLayer(4)
    x = torch.randn(2, 4, 6, 6)
    assert torch.allclose(layer(x) - x, torch.relu(layer.conv[0](x)), atol=1e-6)


def test_the_small_residual_network_trains_all_of_itself() -> None:
    net = ResLayerNet(classes=3)
    parameters, trainable = count_parameters(net)
    assert parameters == trainable < 2_000_000
    (p,) = net.eval()(torch.zeros(2, 48, 48, 3, dtype=torch.uint8))
    assert p.shape == (2, 3) and torch.allclose(p.sum(1), torch.ones(2))


def test_two_classes_share_one_logit() -> None:
    assert torch.allclose(probabilities(torch.tensor([[0.0]])), torch.tensor([[0.5, 0.5]]))
    assert probabilities(torch.tensor([[9.0]]))[0, 1] > 0.99
    assert FrozenBackboneClassifier("resnet18", classes=4).head[-1].out_features == 4  # type: ignore[index,union-attr]


def test_the_frozen_backbone_rests_in_training() -> None:
    net = FrozenBackboneClassifier("resnet18").train()
    assert net.head.training and not any(m.training for m in net.backbone.modules())


def test_outputs_have_their_units() -> None:
    image = torch.zeros(2, 224, 224, 3, dtype=torch.uint8)
    (points,) = FrozenBackboneLandmarkNet("resnet18").eval()(image)
    assert points.shape == (2, 68, 3) and not points[..., 2].any() and (points[..., :2] > 0).all()
    age, female = FrozenBackboneAgeGenderNet("resnet18").eval()(image)
    assert (age > 0).all() and (age < 80).all() and (female > 0).all() and (female < 1).all()


def test_from_scratch_means_without_weights() -> None:
    from mien.export.networks.build_network import build_classifier
    from mien.export.networks.normalization import Normalization

    with pytest.raises(InputError, match="trained from scratch"):
        build_classifier("reslayer", classes=2, weights="some.pt", normalization=Normalization.IMAGENET)
