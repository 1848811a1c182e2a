"""What a detector of points returns."""

from typing import NamedTuple

from torch import Tensor


class PointOutput(NamedTuple):
    """Raw outputs for B videos, P points over all levels and K classes.

    The levels stand one after another from fine to coarse; level l has T' / 2**l points, T' the padded length.

    class_logits: (B, P, K), unnormalised; a sigmoid turns them into scores. 0 where `valid` is 0.
    offsets: (B, P, 2), distances to start and end in units of the level's stride, >= 0.
    valid: (B, P), 1 where a point lies in the video, 0 where it lies in padding.
    """

    class_logits: Tensor
    offsets: Tensor
    valid: Tensor
