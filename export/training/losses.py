"""Losses of the landmark model. Distances are in cells of its heat map, whatever the input size."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import complete_box_iou_loss

from mien.export.networks.age_gender_net import SIGMA_YEARS, SMOOTHING, expected_age, years
from mien.export.networks.landmark_net import cell_centres, expectation

SIGMA_CELLS = 1.0
WING_WIDTH_CELLS = 2.5
WING_CURVATURE_CELLS = 0.5


def wing(distance: Tensor) -> Tensor:
    """Wing loss (Feng et al., CVPR 2018, eq. 5): logarithmic for small distances, linear for large ones."""
    w, epsilon = WING_WIDTH_CELLS, WING_CURVATURE_CELLS
    curved = w * torch.log1p(distance / epsilon)
    joint = w - w * torch.log1p(torch.tensor(w / epsilon))
    return torch.where(distance < w, curved, distance - joint)


def heat_map_divergence(heat: Tensor, points: Tensor) -> Tensor:
    """Cross entropy (b, n) of heat maps (b, n, h, w) against Gaussians at `points` (b, n, 2), fractions.

    It keeps the maps narrow, which an expectation alone does not (DSNT, Nibali et al. 2018, section 3.3).
    """
    height, width = heat.shape[2:]
    scale = torch.tensor([width, height], dtype=heat.dtype, device=heat.device)
    cells = cell_centres(height, width, heat.device) * scale
    squared = ((points * scale).unsqueeze(2) - cells).square().sum(-1)
    target = (-squared / (2 * SIGMA_CELLS**2)).softmax(dim=2)
    return -(target * heat.flatten(2).log_softmax(dim=2)).sum(2)


def landmark_losses(
    heat: Tensor, depth: Tensor, presence: Tensor, points: Tensor, is_face: Tensor
) -> dict[str, Tensor]:
    """Weighted parts of the loss over a batch: points, heat, depth and presence.

    points: (b, 68, 3) fractions, z NaN where unknown, all NaN without a face. is_face: (b,) 0 or 1.
    """
    cells = heat.shape[-1]
    faces = is_face > 0.5
    target = points[faces]
    zero = heat.sum() * 0
    parts = {"presence": F.binary_cross_entropy_with_logits(presence, is_face)}
    if len(target) == 0:
        return parts | {"points": zero, "heat": zero, "depth": zero}
    distance = (expectation(heat[faces]) - target[..., :2]).abs() * cells
    parts["points"] = wing(distance).mean()
    parts["heat"] = 0.5 * heat_map_divergence(heat[faces], target[..., :2]).mean()
    known = ~target[:, :, 2].isnan()
    error = (depth[faces] - target[..., 2].nan_to_num()).abs() * known
    parts["depth"] = 0.5 * cells * error.sum() / known.sum().clamp(min=1)
    return parts


def detector_losses(logits: Tensor, boxes: Tensor, targets: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Weighted parts over a batch: the score's quality focal loss and the box's complete-IoU loss.

    logits (b, n), boxes and targets (b, n, 4) px, labels (b, n): 1 a face, 0 none, -1 not counted.
    A face cell's score learns the overlap its box has reached (Generalized Focal Loss, Li et al. 2020, eq. 5), so
    that the best placed box of several also has the best score. Complete IoU: Zheng et al., AAAI 2020.
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


def paired_iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU (n,) of boxes (n, 4) row by row."""
    overlap = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])).clamp(min=0).prod(1)
    union = (a[:, 2:] - a[:, :2]).prod(1) + (b[:, 2:] - b[:, :2]).prod(1) - overlap
    return overlap / union.clamp(min=1e-6)


def age_gender_losses(
    bins: Tensor, logit: Tensor, age: Tensor, female: Tensor, *, age_weight: float, gender_weight: float
) -> dict[str, Tensor]:
    """Weighted parts of the loss over a batch: age (distribution and expectation) and gender.

    bins: (b, 101) logits of the ages. logit: (b,) of female. age: (b,) years. female: (b,) 0 or 1.
    """
    target = (-((years(bins.device) - age.unsqueeze(1)) ** 2) / (2 * SIGMA_YEARS**2)).softmax(dim=1)
    distribution = -(target * bins.log_softmax(dim=1)).sum(1).mean()
    distance = (expected_age(bins) - age).abs().mean()
    soft = SMOOTHING + (1 - 2 * SMOOTHING) * female
    return {
        "age": age_weight * (distribution + 0.3 * distance),
        "gender": gender_weight * F.binary_cross_entropy_with_logits(logit, soft),
    }
