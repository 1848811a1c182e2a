"""The outputs of both networks of STALE, and which of them are deployed."""

from typing import NamedTuple

from torch import Tensor


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
