"""Losses of the detector."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import complete_box_iou_loss


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
