"""Convolutions, attention and blocks over snippets (B, T, C), as in the public ActionFormer.

Everything that holds many weights is an `nn.Linear`, which every quantizer finds; see `stale_edge.model.layers`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stale_edge.model.actionformer.band import band_attention
from stale_edge.model.layers import FeedForward, UnfoldedConv1d, attend
from stale_edge.model.pyramid.layers import DepthwiseConvolution, channel_norm, halved_maximum

HIDDEN = -1e4
"""Added to the attention logits of points that must not be read."""
SCALE_INIT = 1e-4
"""Initial value of the learned scale of each half of a block."""


class ConvolutionLayer(nn.Module):
    """Convolve three neighbours, normalise, ReLU: the hidden layers of the embedding and of both heads."""

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.convolution = UnfoldedConv1d(in_dim, out_dim, kernel_size=3, bias=False)
        self.norm = channel_norm(out_dim)

    def forward(self, snippets: Tensor, valid: Tensor) -> Tensor:
        """Give (B, T, out) of snippets (B, T, in) and `valid` (B, T, 1)."""
        return torch.relu(self.norm(self.convolution(snippets) * valid))


class DropPath(nn.Module):
    """Scale the channels of one half of a block, and in training leave the half out for some videos."""

    def __init__(self, dim: int, *, chance: float) -> None:
        super().__init__()
        self.chance = chance
        self.scale = nn.Parameter(torch.full((dim,), SCALE_INIT))

    def forward(self, x: Tensor) -> Tensor:
        x = x * self.scale
        if not self.training or self.chance == 0:
            return x
        # As dropout, so that processes that share a batch draw it for all of its videos.
        return x * F.dropout(x.new_ones(x.shape[0], 1, 1), self.chance)


class Projection(nn.Module):
    """Queries, keys or values: a depthwise convolution, a normalisation and a linear layer."""

    def __init__(self, dim: int, *, stride: int) -> None:
        super().__init__()
        self.convolution = DepthwiseConvolution(dim, stride=stride)
        self.norm = channel_norm(dim)
        self.linear = nn.Linear(dim, dim)

    def forward(self, snippets: Tensor, valid: Tensor) -> Tensor:
        """Give (B, T / stride, C) of snippets (B, T, C) and the `valid` (B, T / stride, 1) of the result."""
        return self.linear(self.norm(self.convolution(snippets) * valid))  # type: ignore[no-any-return]


class LocalAttention(nn.Module):
    """Let every point read from the points of its window.

    Args:
        window: odd, in points after the stride; 1 or less reads from the whole video.
        relative_positions: whether a learned bias per head and distance is added to the logits.
    """

    relative: Tensor | None

    def __init__(self, dim: int, *, n_heads: int, window: int, stride: int, relative_positions: bool) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.scales_queries = True  # not where the scale has been folded into the weights
        self.reach = window // 2 if window > 1 else None
        self.query = Projection(dim, stride=stride)
        self.key = Projection(dim, stride=stride)
        self.value = Projection(dim, stride=stride)
        self.out = nn.Linear(dim, dim)
        self.relative = nn.Parameter(torch.empty(n_heads, window)) if relative_positions else None
        if self.relative is not None:
            nn.init.trunc_normal_(self.relative, std=(2.0 / dim) ** 0.5)

    def forward(self, snippets: Tensor, valid: Tensor) -> Tensor:
        """Give (B, T / stride, C) of snippets (B, T, C) and the `valid` (B, T / stride, 1) of the result.

        Points that are not valid hold numbers without a meaning.
        """
        q, k, v = self.query(snippets, valid), self.key(snippets, valid), self.value(snippets, valid)
        hidden = (1 - valid[:, :, 0]) * HIDDEN  # (B, T')
        if self.scales_queries:
            q = q * (q.shape[2] // self.n_heads) ** -0.5
        if self.reach is None:
            attended = attend(q, k, v, n_heads=self.n_heads, dropout=0.0, key_bias=hidden, scale=1.0)
        else:
            attended = band_attention(q, k, v, hidden, n_heads=self.n_heads, reach=self.reach, relative=self.relative)
        return self.out(attended)  # type: ignore[no-any-return]


class Block(nn.Module):
    """Local attention and a feed-forward network, each on its normalised input and added to it (pre-norm).

    Args:
        stride: 1, or 2 for the first block of a coarser level, which keeps every second point.
    """

    def __init__(self, dim: int, *, attention: LocalAttention, stride: int, dropout: float, drop_path: float) -> None:
        super().__init__()
        self.stride = stride
        self.attention_norm = channel_norm(dim)
        self.attention = attention
        self.attention_path: nn.Module = DropPath(dim, chance=drop_path)
        self.feedforward_norm = channel_norm(dim)
        self.feedforward = FeedForward(dim, hidden_dim=4 * dim, dropout=dropout)
        self.dropout = nn.Dropout(dropout)
        self.feedforward_path: nn.Module = DropPath(dim, chance=drop_path)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        """Give (B, T / stride, C) of x (B, T, C) and the `valid` (B, T / stride, 1) of the result."""
        attended = self.dropout(self.attention(self.attention_norm(x), valid))
        skipped = x if self.stride == 1 else halved_maximum(x)
        y = (skipped + self.attention_path(attended)) * valid
        changed = self.dropout(self.feedforward(self.feedforward_norm(y)))
        return (y + self.feedforward_path(changed)) * valid  # type: ignore[no-any-return]
