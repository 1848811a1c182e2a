"""Rescoring by the class of the whole video, after TF-CADE."""

import torch
import torch.nn.functional as F
from torch import Tensor

from stale_edge.model.layers import l2_normalize

SMOOTHED = 5
"""Snippets that the foreground is averaged over; ours."""
LEAST_FOREGROUND = 1e-6
"""Added to the foreground, so that a video without any still has a mean."""
LEAST_SHARE, LEAST_BACKGROUND = 1e-9, 1e-4
"""Smallest probabilities, so that logarithms are finite; that of the background is a difference, with its rounding."""


def foreground_mean(snippets: Tensor, foreground: Tensor) -> Tensor:
    """Average snippets (B, T, D), weighted by the foreground (B, T), smoothed over time; (B, 1, D) of length 1."""
    smooth = F.avg_pool1d(foreground.unsqueeze(1), SMOOTHED, stride=1, padding=SMOOTHED // 2)  # (B, 1, T)
    return l2_normalize((smooth + LEAST_FOREGROUND) @ snippets)


def rescored_logits(class_logits: Tensor, video_logits: Tensor) -> Tensor:
    """Make each class probability its geometric mean with that of the whole video.

    p'(k, t) = sqrt(p(k, t) s(k)), with p the softmax over classes and background and s that of the video over classes.
    The sum of p' over classes is at most 1 (Cauchy-Schwarz), and the background gets the rest, so decoding needs no
    change.

    Args:
        class_logits: (B, K + 1, T), background last.
        video_logits: (B, K, 1).

    Returns:
        (B, K + 1, T), whose softmax is p'.
    """
    shares = torch.softmax(class_logits, dim=1)[:, :-1]
    classes = torch.sqrt(shares * torch.softmax(video_logits, dim=1))
    background = (1 - classes.sum(dim=1, keepdim=True)).clamp(min=LEAST_BACKGROUND)
    return torch.cat([classes.clamp(min=LEAST_SHARE), background], dim=1).log()
