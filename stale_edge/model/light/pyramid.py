"""Blocks and levels: TemporalMaxer's max-pool pyramid (arXiv:2303.09055) with depthwise convolutions.

Points are halved by pooling operators over (B, 1, T, C), so that a recorded graph needs one node for it.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stale_edge.model.pyramid.layers import DepthwiseConvolution, channel_norm

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

    def forward(self, levels: Sequence[Tensor], valid: Tensor) -> Tensor:
        """Give (B, P, D) of the points of all levels, (B, T_l, D) each, and `valid` (B, P, 1); padding stays 0."""
        weight, (dim,) = self.convolution.weight.T[:, None], self.norm.normalized_shape  # (D, 1, 3)
        mixed = [F.conv1d(level.transpose(1, 2), weight, padding=1, groups=dim) for level in levels]
        mixture = _joined(mixed, dim=2).transpose(1, 2)
        changed = self.narrow(torch.relu(self.widen(self.norm(mixture))))
        grown: Tensor = (_joined(levels, dim=1) + changed * self.scale) * valid
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
            points = block([points], valid)
        levels, masks = [points], [valid]
        for block in self.branch:
            valid = valid[:, ::2]
            points = block([F.max_pool2d(points[:, None], (3, 1), (2, 1), (1, 0))[:, 0] * valid], valid)
            levels.append(points)
            masks.append(valid)
        return levels, masks


def halved_mean(points: Tensor) -> Tensor:
    """Average each even point with its two neighbours, which count half: (B, T, C) to (B, T / 2, C)."""
    halfway = F.avg_pool2d(points[:, None], (2, 1), (1, 1), (1, 0))  # between neighbours, and half of both ends
    return F.avg_pool2d(halfway, (2, 1))[:, 0]


def _joined(parts: Sequence[Tensor], *, dim: int) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), dim=dim)
