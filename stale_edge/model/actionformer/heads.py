"""Neck and heads: from the pyramid's levels to class logits and offsets."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from stale_edge.model.actionformer.layers import ConvolutionLayer
from stale_edge.model.actionformer.settings import ActionFormerConfig
from stale_edge.model.layers import UnfoldedConv1d, unfold
from stale_edge.model.pyramid.layers import DepthwiseConvolution, channel_norm


class IdentityNeck(nn.Module):
    """Normalise each level."""

    def __init__(self, config: ActionFormerConfig) -> None:
        super().__init__()
        self.norms = nn.ModuleList(channel_norm(config.neck_dim) for _ in config.ranges)

    def forward(self, levels: Sequence[Tensor], valid: Sequence[Tensor]) -> list[Tensor]:
        """Give one (B, T_l, D) a level; `valid` holds one (B, T_l, 1) a level."""
        del valid
        return [norm(level) for norm, level in zip(self.norms, levels, strict=True)]


class PyramidNeck(nn.Module):
    """Add coarse levels to finer ones, then smooth and normalise each: a feature pyramid network."""

    def __init__(self, config: ActionFormerConfig) -> None:
        super().__init__()
        dim = config.neck_dim
        self.lateral = nn.ModuleList(nn.Linear(config.pyramid_dim, dim, bias=False) for _ in config.ranges)
        self.smooth = nn.ModuleList(DepthwiseConvolution(dim) for _ in config.ranges)
        self.norms = nn.ModuleList(channel_norm(dim) for _ in config.ranges)

    def forward(self, levels: Sequence[Tensor], valid: Sequence[Tensor]) -> list[Tensor]:
        """Give one (B, T_l, neck) a level; `valid` holds one (B, T_l, 1) a level."""
        joined = [lateral(level) * inside for lateral, level, inside in zip(self.lateral, levels, valid, strict=True)]
        for finer in range(len(joined) - 2, -1, -1):
            joined[finer] = joined[finer] + twice_as_long(joined[finer + 1])
        parts = zip(self.smooth, self.norms, joined, valid, strict=True)
        return [norm(smooth(level) * inside) for smooth, norm, level, inside in parts]


def twice_as_long(level: Tensor) -> Tensor:
    """Repeat each point: (B, T, C) to (B, 2 T, C)."""
    return torch.stack([level, level], dim=2).flatten(1, 2)


class Trunk(nn.Module):
    """The hidden layers of a head; each level passes through the same ones."""

    def __init__(self, config: ActionFormerConfig) -> None:
        super().__init__()
        widths = [config.neck_dim] + [config.head_dim] * (config.n_head_layers - 1)
        self.layers = nn.ModuleList(ConvolutionLayer(a, b) for a, b in pairwise(widths))

    def forward(self, level: Tensor, valid: Tensor) -> Tensor:
        for layer in self.layers:
            level = layer(level, valid)
        return level


class ClassHead(nn.Module):
    """Compare every point with the rows of a class bank.

    A row holds the three taps of one output channel of the public network's last convolution, and its bias.
    """

    def __init__(self, config: ActionFormerConfig) -> None:
        super().__init__()
        self.trunk = Trunk(config)
        self.rows = UnfoldedConv1d(config.head_dim, config.n_classes, kernel_size=3)

    def forward(self, level: Tensor, valid: Tensor, class_embeddings: Tensor) -> Tensor:
        """Give logits (B, T_l, K) of a level (B, T_l, D) and class embeddings (K, 3 D + 1)."""
        unfolded = unfold(self.trunk(level, valid), kernel_size=3)
        return (unfolded @ class_embeddings[:, :-1].T + class_embeddings[:, -1]) * valid

    def start_at(self, score: float) -> None:
        """Let every class start with the same score everywhere."""
        nn.init.constant_(self.rows.linear.bias, math.log(score / (1 - score)))

    def bank(self) -> Tensor:
        """Give the class embeddings (K, 3 D + 1) of the network's own classes."""
        return torch.cat([self.rows.linear.weight, self.rows.linear.bias[:, None]], dim=1)


class OffsetHead(nn.Module):
    """Predict the distances from every point to start and end of a segment, in units of its level's stride."""

    def __init__(self, config: ActionFormerConfig) -> None:
        super().__init__()
        self.trunk = Trunk(config)
        self.distances = UnfoldedConv1d(config.head_dim, 2, kernel_size=3)
        self.scales = nn.Parameter(torch.ones(config.n_levels))

    def forward(self, level: Tensor, valid: Tensor, *, number: int) -> Tensor:
        """Give offsets (B, T_l, 2), >= 0, of level `number` (B, T_l, D)."""
        return torch.relu(self.distances(self.trunk(level, valid)) * valid * self.scales[number])
