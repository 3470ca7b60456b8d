from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from mien.export.networks.age_gender_net import BINS, AgeGenderNet, age_deviation
from mien.export.networks.backbones import ARCHITECTURES, Stages, build_backbone
from mien.export.networks.detector_net import LEVELS, TYPICAL_SIZE, DetectorNet, decode
from mien.export.networks.landmark_net import LandmarkNet, cell_centres, expectation
from mien.export.networks.normalization import Normalization
from mien.export.networks.preprocessing import Preprocessing
from mien.export.training.losses import (
    detector_losses,
    distillation_losses,
    heat_map_divergence,
    landmark_losses,
    paired_iou,
    wing,
)
from mien.export.training.tasks.age_gender import deviation_scale
from mien.export.training.tasks.detector_scenes import Scene, assign, cells
from mien.runtime.errors import InputError


def test_expectation_of_a_sharp_peak_is_its_cell() -> None:
    heat = torch.full((1, 2, 4, 8), -50.0)
    heat[0, 0, 1, 2] = heat[0, 1, 3, 7] = 50.0
    assert torch.allclose(expectation(heat)[0], torch.tensor([[2.5 / 8, 1.5 / 4], [7.5 / 8, 3.5 / 4]]))


def test_expectation_between_two_cells() -> None:
    heat = torch.full((1, 1, 2, 2), -50.0)
    heat[0, 0, 0] = 10.0
    assert torch.allclose(expectation(heat)[0, 0], torch.tensor([0.5, 0.25]), atol=1e-5)


def test_wing_is_continuous_and_linear_far_out() -> None:
    # w ln(1 + x/ε) below w, x − w + w ln(1 + w/ε) above (Feng et al. 2018, eq. 5)
    w, epsilon = 2.5, 0.5
    for x in (0.0, 1.0, 2.4999):
        assert math.isclose(wing(torch.tensor(x)).item(), w * math.log(1 + x / epsilon), rel_tol=1e-5)
    assert math.isclose(wing(torch.tensor(10.0)).item(), 10 - w + w * math.log(1 + w / epsilon), rel_tol=1e-5)


def test_divergence_is_least_at_the_label() -> None:
    points = torch.tensor([[[0.4, 0.6]]])
    centres = cell_centres(8, 8, torch.device("cpu"))
    heat = (-(((points - centres) * 8) ** 2).sum(-1) / 2).reshape(1, 1, 8, 8)
    best = heat_map_divergence(heat, points)
    for moved in ([0.5, 0.6], [0.4, 0.3]):
        assert heat_map_divergence(heat, torch.tensor([[moved]])) > best + 0.01


def test_losses_of_a_batch_without_faces() -> None:
    net = LandmarkNet("mobilenet_v3_small", input_size=64).train()
    maps = net.heat_maps(torch.zeros(2, 64, 64, 3, dtype=torch.uint8))
    parts = landmark_losses(*maps, torch.full((2, 68, 3), math.nan), torch.zeros(2))
    torch.stack(list(parts.values())).sum().backward()
    assert parts["points"] == 0 and parts["presence"] > 0
    assert all(p.grad is None or p.grad.isfinite().all() for p in net.parameters())


def test_unknown_depth_gives_no_gradient() -> None:
    depth = torch.zeros(1, 68, requires_grad=True)
    points = torch.rand(1, 68, 3)
    points[..., 2] = math.nan
    parts = landmark_losses(torch.zeros(1, 68, 4, 4), depth, torch.zeros(1), points, torch.ones(1))
    parts["depth"].backward()
    assert depth.grad is not None and not depth.grad.any()


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_stages_have_their_strides(name: str) -> None:
    stages = Stages(name, depth=len(ARCHITECTURES[name].ends)).eval()
    with torch.inference_mode():
        maps = stages(torch.zeros(1, 3, 64, 96))
    assert [m.shape[2:] for m in maps] == [(64 // s, 96 // s) for s in (4, 8, 16, 32)[: len(maps)]]
    assert [m.shape[1] for m in maps] == list(stages.channels)


@pytest.mark.parametrize("size", range(64, 257, 16))
def test_landmark_net_takes_any_multiple_of_16(size: int) -> None:
    net = LandmarkNet("mobilenet_v3_small", input_size=size).eval()
    with torch.inference_mode():
        landmarks, presence = net(torch.zeros(2, size, size, 3, dtype=torch.uint8))
    assert landmarks.shape == (2, 68, 3) and presence.shape == (2,)


@pytest.mark.parametrize("size", [212, 236])  # 53 is not 26 · (53 / 26) in float32, nor 59 29 · (59 / 29) in float64
def test_a_size_that_the_decoder_cannot_restore_is_refused(size: int) -> None:
    with pytest.raises(InputError, match=f"vgg16 cannot take crops of {size} px; use a multiple of 32"):
        LandmarkNet("vgg16", input_size=size)


def test_unknown_backbone_lists_the_known_ones() -> None:
    with pytest.raises(InputError, match=r"unknown backbone 'resnet19'; known: .*resnet18"):
        build_backbone("resnet19", "none")


def test_pretrained_weights_see_bgr(tmp_path: object) -> None:
    """A network that was trained on RGB gives the same for the BGR picture."""
    from pathlib import Path

    path = Path(str(tmp_path)) / "w.pt"
    rgb = build_backbone("mobilenet_v3_small", "none").eval()
    torch.save(rgb.state_dict(), path)
    stages = Stages("mobilenet_v3_small", weights=str(path)).eval()
    picture = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        wanted = rgb.features[:2](picture)  # type: ignore[index]
        assert torch.allclose(stages(picture.flip(1))[0], wanted, atol=1e-5)


def test_pretrained_statistics_stay() -> None:
    stages = Stages("mobilenet_v3_small")
    stages.pretrained = True
    stages.train()
    before = [b.clone() for b in stages.buffers()]
    stages(torch.rand(4, 3, 64, 64))
    assert all((a == b).all() for a, b in zip(before, stages.buffers(), strict=True))


def test_prologue() -> None:
    image = torch.tensor([[[[0, 255, 127]]]], dtype=torch.uint8)
    out = Preprocessing(Normalization.SYMMETRIC)(image)
    assert torch.allclose(out.flatten(), torch.tensor([-1.0, 1.0, 127 / 127.5 - 1]), atol=1e-6)
    out = Preprocessing(Normalization.IMAGENET)(torch.full((1, 1, 1, 3), 128, dtype=torch.uint8)).flatten()
    rgb = (np.full(3, 128 / 255) - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
    assert np.allclose(out.numpy(), rgb[::-1], atol=1e-5)


def test_decoded_boxes() -> None:
    rows = torch.zeros(1, 4, 2, 3)
    boxes = decode(rows, 8)
    assert boxes.shape == (1, 6, 4)
    side = 8 * TYPICAL_SIZE
    assert torch.allclose(boxes[0, 0], torch.tensor([4 - side / 2, 4 - side / 2, 4 + side / 2, 4 + side / 2]))
    assert boxes[0, 4, :2].tolist() == [12 - side / 2, 12 - side / 2]  # second row, second column


def test_detector_rows_and_cells_agree() -> None:
    net = DetectorNet("mobilenet_v2_short").eval()
    with torch.inference_mode():
        boxes, scores = net(torch.zeros(1, 64, 64, 3, dtype=torch.uint8))
    centres, strides, levels = cells(64)
    assert boxes.shape == (1, len(centres), 4) and scores.shape == (1, len(centres))
    assert [int((levels == i).sum()) for i in range(3)] == [(64 // s) ** 2 for s in LEVELS]
    assert centres[0].tolist() == [4, 4] and strides[-1] == 32


def test_faces_fall_to_cells_of_their_size() -> None:
    scene = Scene(
        np.zeros((320, 320, 3), np.uint8),
        boxes=np.array([[6.0, 6, 26, 26], [100, 100, 300, 300]]),
        ignored=np.array([[200.0, 20, 206, 26]]),
    )
    boxes, labels = assign(scene, 320)
    centres, _, levels = cells(320)
    small = (labels == 1) & (boxes[:, 2] == 26)
    large = (labels == 1) & (boxes[:, 2] == 300)
    assert small.sum() == 4 and set(levels[small]) == {0}
    assert large.sum() == 4 and set(levels[large]) == {2}
    assert np.abs(centres[small] - 16).max() <= 8.8
    ignored = (labels == -1) & (np.abs(centres - [203, 23]).max(axis=1) <= 3)
    assert ignored.any()


def test_perfect_boxes_cost_nothing() -> None:
    targets = torch.tensor([[[0.0, 0, 10, 10], [0, 0, 0, 0]]])
    labels = torch.tensor([[1.0, 0.0]])
    good = detector_losses(torch.tensor([[20.0, -20.0]]), targets.clone(), targets, labels)
    assert good["box"] < 1e-5 and good["score"] < 1e-5
    bad = detector_losses(torch.tensor([[-2.0, 2.0]]), targets + 3, targets, labels)
    assert bad["box"] > 0.1 and bad["score"] > 0.1
    nothing = detector_losses(torch.zeros(1, 2), targets, targets, torch.tensor([[0.0, -1.0]]))
    assert nothing["box"] == 0 and nothing["score"].isfinite()


def test_paired_iou() -> None:
    a, b = torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([[1.0, 0, 3, 2]])
    assert math.isclose(paired_iou(a, b).item(), 1 / 3, rel_tol=1e-5)


def test_age_deviation_of_two_ages() -> None:
    bins = torch.full((2, BINS), -50.0)
    bins[0, [20, 30]] = bins[1, 64] = 50.0
    assert torch.allclose(age_deviation(bins), torch.tensor([5.0, 0.0]), atol=1e-4)


def test_scaled_deviation_covers_two_thirds_of_the_ages() -> None:
    rng = np.random.default_rng(0)
    std = rng.uniform(2, 9, 4000)
    age = rng.uniform(0, 90, 4000)
    scale = deviation_scale(age, std, age + 1.7 * std * rng.normal(0, 1, 4000))
    assert scale == pytest.approx(1.7, rel=0.05)


def test_age_deviation_is_scaled_in_the_graph_and_left_out_without_a_scale() -> None:
    torch.manual_seed(0)
    net = AgeGenderNet("small").eval()
    image = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8)
    with torch.inference_mode():
        _, _, std = net(image)
        net.std_scale = 0.5
        assert torch.allclose(net(image)[2], 0.5 * std) and (std > 1).all()
        net.std_scale = None
        assert len(net(image)) == 2


def detector_outputs(*scores: float) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
    torch.manual_seed(0)
    boxes = torch.tensor([[[0.0, 0, 20, 20], [40, 40, 60, 60], [10, 10, 30, 30]]])
    return torch.tensor([scores]).logit(), boxes, [torch.randn(1, 4, 8, 8) for _ in LEVELS]


def test_a_student_that_equals_its_teacher_has_nothing_to_learn() -> None:
    own = detector_outputs(0.9, 0.5, 0.01)
    assert all(v == pytest.approx(0, abs=1e-5) for v in distillation_losses(*own, [own]).values())
    logits, boxes, levels = own
    wrong = logits.flip(1), boxes + 5, [level + 1 for level in levels]
    assert all(v > 0.01 for v in distillation_losses(*wrong, [own]).values())


def test_teachers_are_averaged_by_their_scores() -> None:
    sure, unsure = detector_outputs(0.9, 0.9, 0.01), detector_outputs(0.3, 0.3, 0.01)
    moved = (unsure[0], unsure[1] + 8, unsure[2])
    mean = (torch.tensor([[0.6, 0.6, 0.01]]).logit(), sure[1] + 2, sure[2])  # 0.9 : 0.3 of the way
    assert all(v == pytest.approx(0, abs=1e-5) for v in distillation_losses(*mean, [sure, moved]).values())
