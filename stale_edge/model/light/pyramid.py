"""Blocks and levels: TemporalMaxer's max-pool pyramid (arXiv:2303.09055) with depthwise convolutions."""

import torch
from torch import Tensor, nn

from stale_edge.model.pyramid.layers import DepthwiseConvolution, channel_norm, halved_maximum, halves

SCALE_INIT = 0.1
"""Initial value of the learned scale of each block's change."""


class Block(nn.Module):
    """A depthwise convolution over three points and two linear layers, added to the input."""

    decayed = ()

    def __init__(self, dim: int, *, expansion: int) -> None:
        super().__init__()
        self.convolution = DepthwiseConvolution(dim)
        self.norm = channel_norm(dim)
        self.widen = nn.Linear(dim, expansion * dim)
        self.narrow = nn.Linear(expansion * dim, dim)
        self.scale = nn.Parameter(torch.full((dim,), SCALE_INIT))

    def forward(self, points: Tensor, valid: Tensor) -> Tensor:
        """Give (B, T, D) of points (B, T, D) and `valid` (B, T, 1); padding stays 0."""
        changed = self.narrow(torch.relu(self.widen(self.norm(self.convolution(points)))))
        grown: Tensor = (points + changed * self.scale) * valid
        return grown


class MaxPyramid(nn.Module):
    """Blocks at full length, then each level keeps the greatest of three neighbours at every second point."""

    def __init__(self, dim: int, *, n_levels: int, n_stem_blocks: int, expansion: int) -> None:
        super().__init__()
        self.stem = nn.ModuleList(Block(dim, expansion=expansion) for _ in range(n_stem_blocks))
        self.branch = nn.ModuleList(Block(dim, expansion=expansion) for _ in range(n_levels - 1))

    def forward(self, points: Tensor, valid: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Give each level (B, T_l, D) and its valid points (B, T_l, 1), from points (B, T, D), 0 in padding."""
        for block in self.stem:
            points = block(points, valid)
        levels, masks = [points], [valid]
        for block in self.branch:
            valid = halves(valid)[0]
            points = block(halved_maximum(points) * valid, valid)
            levels.append(points)
            masks.append(valid)
        return levels, masks


def halved_mean(points: Tensor) -> Tensor:
    """Average each even point with its two neighbours, which count half: (B, T, C) to (B, T / 2, C)."""
    even, odd = halves(points)
    before = nn.functional.pad(odd, (0, 0, 1, 0))[:, :-1]
    return 0.5 * even + 0.25 * (before + odd)
