"""The outputs of both networks of STALE: those of `forward`, and those that the losses read."""

from typing import NamedTuple

import torch
from torch import Tensor

LARGEST_LOGIT = 100.0
"""Logit of a foreground that is given: its sigmoid is 1 in float32, and the losses stay finite."""


class StaleOutput(NamedTuple):
    """Raw outputs for B videos of T snippets and a vocabulary of K classes.

    class_logits: (B, K + 1, T), unnormalised; row K is background.
    masks: (B, T, T) in [0, 1]; row i is the instance mask that snippet i predicts over the whole video.
    foreground: (B, T) in [0, 1], the class-agnostic foreground before it is binarised (L̂ in the paper).
    embedding: (B, T, D), the snippet embedding F_vis.
    """

    class_logits: Tensor
    masks: Tensor
    foreground: Tensor
    embedding: Tensor


class StaleLogits(NamedTuple):
    """`StaleOutput` before its sigmoids, for the losses: a sigmoid in half precision has no gradient above 8.

    class_logits: (B, K + 1, T), unnormalised; row K is background.
    mask_logits: (B, T, T), at least float32, whatever the precision of the network.
    foreground_logits: (B, T), at least float32.
    embedding: (B, T, D).
    """

    class_logits: Tensor
    mask_logits: Tensor
    foreground_logits: Tensor
    embedding: Tensor


def full_precision(logits: Tensor) -> Tensor:
    """Widen half precision to float32; float32 and float64 stay."""
    return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits


def logits_of(scores: Tensor) -> Tensor:
    """Give the logits of scores in [0, 1], at most `LARGEST_LOGIT` in size."""
    return torch.logit(full_precision(scores)).clamp(-LARGEST_LOGIT, LARGEST_LOGIT)
