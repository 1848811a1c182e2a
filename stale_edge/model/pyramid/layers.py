"""Layers over snippets (B, T, C) that make the levels of a pyramid."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LAYER_NORM_EPS = 1e-5
"""Epsilon of every normalisation over channels, as in the public program of ActionFormer."""


def channel_norm(dim: int) -> nn.LayerNorm:
    """Normalise each snippet over its channels. Padding is not left out: a padded snippet becomes the bias."""
    return nn.LayerNorm(dim, eps=LAYER_NORM_EPS)


class DepthwiseConvolution(nn.Module):
    """Weigh each snippet and its two neighbours, channel by channel; with stride 2 keep every second one.

    weight: (3, C), one row for the snippet before, the snippet itself and the one after.
    """

    decayed = ("weight",)
    """Names of the parameters with weight decay."""

    def __init__(self, dim: int, *, stride: int = 1) -> None:
        super().__init__()
        self.stride = stride
        self.weight = nn.Parameter(torch.empty(3, dim))
        nn.init.uniform_(self.weight, -(3**-0.5), 3**-0.5)  # the bound of nn.Conv1d with three inputs

    def forward(self, snippets: Tensor) -> Tensor:
        """Give (B, T / stride, C) of snippets (B, T, C)."""
        before, middle, after = self.taps(snippets)
        return before * self.weight[0] + middle * self.weight[1] + after * self.weight[2]

    def taps(self, snippets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Give the snippets before, at and after each place; beyond both ends there are zeros."""
        if self.stride == 1:
            padded = F.pad(snippets, (0, 0, 1, 1))
            return padded[:, :-2], snippets, padded[:, 2:]
        even, odd = halves(snippets)
        return F.pad(odd, (0, 0, 1, 0))[:, :-1], even, odd


def halves(snippets: Tensor) -> tuple[Tensor, Tensor]:
    """Split (B, T, C), T even, into its even and its odd snippets, (B, T / 2, C) each."""
    pairs = torch.unflatten(snippets, 1, (-1, 2))  # (B, T / 2, 2, C)
    return pairs[:, :, 0], pairs[:, :, 1]


def halved_maximum(snippets: Tensor) -> Tensor:
    """Keep the greatest of each even snippet and its two neighbours: (B, T, C) to (B, T / 2, C)."""
    even, odd = halves(snippets)
    before = F.pad(odd, (0, 0, 1, 0), value=-torch.inf)[:, :-1]  # nothing stands before the first
    return torch.maximum(torch.maximum(before, even), odd)
