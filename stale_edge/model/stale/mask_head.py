"""The mask head, eq. 8 of the STALE paper ("action mask localizer"): each snippet makes a network for its mask."""

import torch
from torch import Tensor, nn

from stale_edge.config import ModelConfig
from stale_edge.model.input_checks import is_recording
from stale_edge.model.layers import UnfoldedConv1d
from stale_edge.model.stale.output import full_precision

POSITION_SCALE = 8.0
"""Positions run over this range along a video, so that weights of ordinary size can place a boundary."""

MASK_LOGIT_AT_START = -1.0
"""Initial bias of the last dynamic layer: an instance is usually the smaller part of its video."""

CHUNK_ELEMENTS = 1 << 21
"""Hidden activations computed at once outside training; bounds the memory at long T and stays near the cache."""


class MaskHead(nn.Module):
    """Predict M = sigmoid(H_m(F_vis)) from embeddings (B, T, D): three stacked 1-D dynamic convolutions.

    The paper leaves the formulation to a supplement; this one follows CondInst, Tian et al., arXiv:2003.05664: a
    controller makes, for every snippet i, the weights of a network h-h-1 of width-1 convolutions with ReLU between.
    Its input at snippet t are `dynamic_channels` base features of t and the position of t relative to i; its output
    is row i of M at t. Positions are fractions of the video, since videos are rescaled to T.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dim, hidden, width = config.embed_dim, config.localizer_dim, config.dynamic_channels
        self.width = width
        self.sizes = [width * width, width, width, width * width, width, width, 1]
        self.base = nn.Sequential(
            UnfoldedConv1d(dim, hidden, kernel_size=3), nn.ReLU(), UnfoldedConv1d(hidden, width, kernel_size=3)
        )
        make_weights = nn.Linear(hidden, sum(self.sizes))
        nn.init.constant_(make_weights.bias[-1:], MASK_LOGIT_AT_START)
        self.controller = nn.Sequential(
            UnfoldedConv1d(dim, hidden, kernel_size=3),
            nn.ReLU(),
            UnfoldedConv1d(hidden, hidden, kernel_size=3),
            nn.ReLU(),
            make_weights,
        )

    def forward(self, embedding: Tensor, rows: Tensor | None = None) -> Tensor:
        """Predict masks.

        Args:
            embedding: (B, T, D).
            rows: (R,) int64, the snippets whose masks are wanted; None: all T.

        Returns:
            (B, R, T) in [0, 1].
        """
        return torch.sigmoid(self.logits(embedding, rows))

    def logits(self, embedding: Tensor, rows: Tensor | None = None) -> Tensor:
        """Predict masks before their sigmoid, (B, R, T), at least float32."""
        base = self.base(embedding)  # (B, T, width)
        position = positions(embedding)  # (T, 1)
        ones = torch.ones_like(base[..., :1])
        inputs = torch.cat([base, position.expand_as(ones), ones], dim=-1).transpose(1, 2)  # (B, width + 2, T)
        weights = self.controller(embedding)  # (B, T, number of weights of the tiny network)
        if rows is not None:
            weights, position = weights[:, rows], position[rows]
        if is_recording() or torch.is_grad_enabled():
            return self._mask_logits(inputs, weights, position)
        per_chunk = max(1, CHUNK_ELEMENTS // (inputs.shape[0] * inputs.shape[2] * self.width))
        chunks = zip(torch.split(weights, per_chunk, dim=1), torch.split(position, per_chunk), strict=True)
        return torch.cat([self._mask_logits(inputs, chunk, place) for chunk, place in chunks], dim=1)

    def _mask_logits(self, inputs: Tensor, weights: Tensor, position: Tensor) -> Tensor:
        """Apply R tiny networks, `weights` (B, R, -1) of snippets at `position` (R, 1), along the video; (B, R, T)."""
        width = self.width
        w1, slope, b1, w2, b2, w3, b3 = torch.split(weights, self.sizes, dim=-1)
        # W base(t) + slope (p(t) - p(i)) + b, with everything that depends on i alone in the last column: one product
        first = torch.cat(
            [torch.unflatten(w1, -1, (width, width)), slope.unsqueeze(-1), (b1 - slope * position).unsqueeze(-1)],
            dim=-1,
        )  # (B, R, width, width + 2)
        hidden = torch.unflatten(torch.relu(first.flatten(1, 2) @ inputs), 1, (-1, width))  # (B, R, width, T)
        hidden = torch.relu(torch.unflatten(w2, -1, (width, width)) @ hidden + b2.unsqueeze(-1))
        return full_precision((w3.unsqueeze(-2) @ hidden).squeeze(-2) + b3)  # (B, R, T)


def positions(embedding: Tensor) -> Tensor:
    """Place T snippets (B, T, D) in their video: (T, 1), evenly spaced around 0 over POSITION_SCALE."""
    length = embedding.shape[1]
    # Counted: torch.arange in a recorded graph would stay on the device that it was recorded on.
    index = torch.ones_like(embedding[0, :, 0]).cumsum(dim=0) - 1
    return ((index + 0.5) / length - 0.5).unsqueeze(-1) * POSITION_SCALE
