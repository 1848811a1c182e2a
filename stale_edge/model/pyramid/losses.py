"""Focal and DIoU losses of points."""

import torch
import torch.nn.functional as F
from torch import Tensor

FOCAL_ALPHA = 0.25
"""Weight of targets that are 1; 1 - alpha for those that are 0. Lin et al., arXiv:1708.02002, with gamma = 2."""
SMALLEST_LENGTH = 1e-8
"""Smallest length of a union and of an enclosing segment, in strides."""


def focal_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Compute the sigmoid focal loss of every logit; targets of the same shape lie in [0, 1]."""
    scores = logits.sigmoid()
    cross_entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    hit = scores * targets + (1 - scores) * (1 - targets)
    weight = FOCAL_ALPHA * targets + (1 - FOCAL_ALPHA) * (1 - targets)
    return weight * (1 - hit).square() * cross_entropy


def distance_iou_loss(offsets: Tensor, targets: Tensor) -> Tensor:
    """Compare segments that start and end at distances (..., 2) >= 0 from the same point.

    1 - tIoU + (distance of the middles / length of the segment around both) ** 2, Zheng et al., arXiv:1911.08287.

    Returns:
        (...), 0 for equal segments.
    """
    lesser, greater = torch.minimum(offsets, targets).sum(dim=-1), torch.maximum(offsets, targets).sum(dim=-1)
    union = (offsets + targets).sum(dim=-1) - lesser
    apart = 0.5 * ((offsets[..., 1] - offsets[..., 0]) - (targets[..., 1] - targets[..., 0]))
    overlap = lesser / union.clamp(min=SMALLEST_LENGTH)
    return 1 - overlap + (apart / greater.clamp(min=SMALLEST_LENGTH)).square()


def quality_focal_loss(logits: Tensor, quality: Tensor) -> Tensor:
    """Compare every score with a quality in [0, 1]: cross entropy times the squared difference.

    Li et al., arXiv:2006.04388, with beta = 2; the factor gets no gradient.
    """
    cross_entropy = F.binary_cross_entropy_with_logits(logits, quality, reduction="none")
    return (logits.sigmoid() - quality).detach().square() * cross_entropy
