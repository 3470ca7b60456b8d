"""Losses of all networks, as weighted terms over a batch."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import complete_box_iou_loss

from ..networks.age_gender_net import SIGMA_YEARS, SMOOTHING, bin_ages, expected_age
from ..networks.landmark_net import cell_centres, expectation

# Distances are in cells of the heat map, independent of the input size.
SIGMA_CELLS = 1.0
WING_WIDTH_CELLS = 2.5
WING_CURVATURE_CELLS = 0.5


def wing(distance: Tensor) -> Tensor:
    """Compute the wing loss of distances in cells, linear for large ones (Feng et al., CVPR 2018, eq. 5)."""
    w, epsilon = WING_WIDTH_CELLS, WING_CURVATURE_CELLS
    curved = w * torch.log1p(distance / epsilon)
    joint = w - w * torch.log1p(torch.tensor(w / epsilon))
    return torch.where(distance < w, curved, distance - joint)


def heat_map_divergence(heat: Tensor, points: Tensor, spread: Tensor | None = None) -> Tensor:
    """Compute the cross entropy of heat maps against Gaussians at the targets.

    It keeps the maps narrow, which an expectation alone does not (DSNT, Nibali et al. 2018, section 3.3).

    Args:
        heat: Logits (b, n, h, w).
        points: Targets (b, n, 2) in fractions of the crop.
        spread: Standard deviations (b, n) of the targets in fractions of the crop, at least `SIGMA_CELLS`; None for
            `SIGMA_CELLS`.

    Returns:
        Cross entropy (b, n).
    """
    height, width = heat.shape[2:]
    scale = torch.tensor([width, height], dtype=heat.dtype, device=heat.device)
    cells = cell_centres(height, width, heat.device) * scale
    squared = ((points * scale).unsqueeze(2) - cells).square().sum(-1)
    sigma = SIGMA_CELLS if spread is None else (spread * width).clamp(min=SIGMA_CELLS).unsqueeze(2)
    target = (-squared / (2 * sigma**2)).softmax(dim=2)
    return -(target * heat.flatten(2).log_softmax(dim=2)).sum(2)


def landmark_losses(
    heat: Tensor, depth: Tensor, presence: Tensor, points: Tensor, is_face: Tensor, spread: Tensor | None = None
) -> dict[str, Tensor]:
    """Compute the landmark network's losses against labels or teachers.

    Args:
        heat: Heat map logits (b, 68, h, w).
        depth: Depths (b, 68) in fractions of the crop.
        presence: Logits (b,).
        points: Targets (b, 68, 3) in fractions of the crop; z is NaN where unknown, all are NaN without a face.
        is_face: Targets (b,) from 0 to 1, NaN where unknown.
        spread: Standard deviations (b, 68) of the points in fractions of the crop; None for labels.

    Returns:
        Losses of points, heat maps, depth and presence, by name.
    """
    cells = heat.shape[-1]
    faces = ~points[:, 0, 0].isnan()
    target = points[faces]
    zero = heat.sum() * 0
    parts = {"presence": known_mean(F.binary_cross_entropy_with_logits, presence, is_face)}
    if len(target) == 0:
        return parts | {"points": zero, "heat": zero, "depth": zero}
    distance = (expectation(heat[faces]) - target[..., :2]).abs() * cells
    parts["points"] = wing(distance).mean()
    spread = None if spread is None else spread[faces]
    parts["heat"] = 0.5 * heat_map_divergence(heat[faces], target[..., :2], spread).mean()
    parts["depth"] = 0.5 * cells * known_mean(F.l1_loss, depth[faces], target[..., 2])
    return parts


def known_mean(loss: Callable[..., Tensor], predicted: Tensor, target: Tensor) -> Tensor:
    """Return the mean of a loss over the targets that are known, not NaN; 0 if there are none."""
    known = ~target.isnan()
    return (loss(predicted, target.nan_to_num(), reduction="none") * known).sum() / known.sum().clamp(min=1)


def detector_losses(logits: Tensor, boxes: Tensor, targets: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Compute the detector's losses: quality focal loss on scores and complete-IoU loss on boxes.

    The target score of a face is the IoU of its predicted box (Generalized Focal Loss, Li et al. 2020, eq. 5), so that
    the best of several boxes also gets the highest score. Complete IoU: Zheng et al., AAAI 2020.

    Args:
        logits: Score logits (b, n).
        boxes: Predicted boxes (b, n, 4), xyxy in px.
        targets: Boxes (b, n, 4) of the faces, xyxy in px.
        labels: (b, n): 1 for a face, 0 for background, -1 for cells that do not count.

    Returns:
        Losses of score and box, by name.
    """
    positive = labels > 0.5
    count = positive.sum().clamp(min=1)
    found, wanted = boxes[positive], targets[positive]
    quality = torch.zeros_like(logits)
    quality[positive] = paired_iou(found.detach(), wanted)
    probability = logits.sigmoid()
    weight = (quality - probability).abs().square()
    score = weight * F.binary_cross_entropy_with_logits(logits, quality, reduction="none")
    parts = {"score": 2.0 * score[labels > -0.5].sum() / count}
    parts["box"] = 2.0 * complete_box_iou_loss(found, wanted, reduction="sum") / count
    return parts


def distillation_losses(
    logits: Tensor, boxes: Tensor, levels: list[Tensor], teachers: list[tuple[Tensor, Tensor, list[Tensor]]]
) -> dict[str, Tensor]:
    """Compute the distance of a detector from its teachers' mean scores and boxes, and from the first one's features.

    Scores: quality focal loss as in `detector_losses`, with the teachers' score as the target. Features: FitNets
    (Romero et al., ICLR 2015), relative to their variance.

    Args:
        logits: Score logits (b, n).
        boxes: Predicted boxes (b, n, 4), xyxy in px.
        levels: Features of each level of the pyramid.
        teachers: The same three of each teacher.

    Returns:
        Losses of score, box and features, by name.
    """
    wanted = torch.stack([t[0].sigmoid() for t in teachers])
    wanted_boxes = (wanted.unsqueeze(-1) * torch.stack([t[1] for t in teachers])).sum(0)
    wanted_boxes = wanted_boxes / wanted.sum(0).clamp(min=1e-9).unsqueeze(-1)
    wanted = wanted.mean(0)
    weight = (wanted - logits.sigmoid()).square()
    score = weight * F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    seen = wanted > 0.3
    distance = complete_box_iou_loss(boxes[seen], wanted_boxes[seen], reduction="none") * wanted[seen]
    pairs = zip(levels, teachers[0][2], strict=True)
    features = [F.mse_loss(own.float(), other.float()) / other.float().var() for own, other in pairs]
    return {
        "score": 2.0 * score.sum() / wanted[seen].sum().clamp(min=1),
        "box": 2.0 * distance.sum() / wanted[seen].sum().clamp(min=1),
        "features": 0.5 * torch.stack(features).mean(),
    }


def paired_iou(a: Tensor, b: Tensor) -> Tensor:
    """Compute the pairwise IoU (n,) of boxes a (n, 4) and b (n, 4)."""
    overlap = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).clamp(min=0).prod(1)
    union = (a[:, 2:] - a[:, :2]).prod(1) + (b[:, 2:] - b[:, :2]).prod(1) - overlap
    return overlap / union.clamp(min=1e-6)


def age_gender_losses(
    bins: Tensor,
    logit: Tensor,
    age: Tensor,
    female: Tensor,
    ages: Tensor | None = None,
    *,
    age_weight: float,
    gender_weight: float,
) -> dict[str, Tensor]:
    """Compute the losses of the age and gender network against labels or teachers; NaN targets are left out.

    That of age covers the distribution and its expectation.

    Args:
        bins: Age logits (b, 101).
        logit: Female logits (b,).
        age: Targets (b,) in years.
        female: Targets (b,) from 0 to 1.
        ages: Target distributions (b, 101); None for Gaussians around `age`.
        age_weight: Weight of the age's loss.
        gender_weight: Weight of the gender's loss.

    Returns:
        Losses of age and gender, by name.
    """
    if ages is None:
        ages = (-((bin_ages(bins.device) - age.unsqueeze(1)) ** 2) / (2 * SIGMA_YEARS**2)).softmax(dim=1)
    known = (~age.isnan()).sum().clamp(min=1)
    entropy = -(ages.nan_to_num() * bins.log_softmax(dim=1)).sum() / known
    distance = known_mean(F.l1_loss, expected_age(bins), age)
    soft = SMOOTHING + (1 - 2 * SMOOTHING) * female
    return {
        "age": age_weight * (entropy + 0.3 * distance),
        "gender": gender_weight * known_mean(F.binary_cross_entropy_with_logits, logit, soft),
    }


def classification_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Compute the cross entropy.

    Args:
        logits: Logits (b, 1) of the second of two classes, or (b, classes).
        labels: Class indices (b,).
    """
    if logits.shape[1] == 1:
        return F.binary_cross_entropy_with_logits(logits[:, 0], labels.float())
    return F.cross_entropy(logits, labels)
