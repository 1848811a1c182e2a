"""Class agnostic representation masking, eq. 3 and 4 of the STALE paper, the alternatives of Table 4, and the gate."""

import math
from typing import Protocol

import torch
from torch import Tensor, nn

from stale_edge.config import ModelConfig
from stale_edge.model.layers import DecoderLayer, UnfoldedConv1d
from stale_edge.model.stale.output import LARGEST_LOGIT, full_precision

OPEN_AT_START = 1.0
"""Initial logit of the foreground: every snippet passes at first, so that the classifier learns from the start."""


class Masking(Protocol):
    """Predicts the foreground (B, T) of embeddings (B, T, D)."""

    def __call__(self, embedding: Tensor) -> Tensor:
        """Predict it in [0, 1]."""
        ...

    def logits(self, embedding: Tensor) -> Tensor:
        """Predict it before the sigmoid, at least float32; training reads this."""
        ...


class QueryMasking(nn.Module):
    """Predict the foreground L̂ (B, T) in [0, 1] of embeddings (B, T, D) with N_z mask queries.

    Eq. 3: a transformer decoder and a mask projection turn the queries into mask embeddings B_q, L_q = σ(B_q F_vis).
    Eq. 4: a tiny MLP weighs the queries at each snippet, L̂ = σ(W_q L_q + b_q). Deviation: the products of eq. 3 are
    divided by sqrt(D), as in attention, so that the sigmoid is not saturated before training.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dim, n_queries = config.embed_dim, config.n_mask_queries
        self.queries = nn.Parameter(torch.randn(1, n_queries, dim))
        self.decoder = nn.ModuleList(
            DecoderLayer(dim, n_heads=config.n_heads, feedforward_dim=config.feedforward_dim, dropout=config.dropout)
            for _ in range(config.n_mask_layers)
        )
        self.norm = nn.LayerNorm(dim)
        self.mask_projection = nn.Sequential(
            nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim)
        )
        weigh = nn.Linear(n_queries, 1)
        nn.init.constant_(weigh.bias, OPEN_AT_START)
        self.query_weights = nn.Sequential(nn.Linear(n_queries, n_queries), nn.ReLU(), weigh)
        self.scale = 1.0 / math.sqrt(dim)

    def forward(self, embedding: Tensor) -> Tensor:
        return torch.sigmoid(self.logits(embedding))

    def logits(self, embedding: Tensor) -> Tensor:
        """Predict the foreground before the sigmoid of eq. 4, (B, T), at least float32."""
        queries = self.queries  # (1, N_z, D)
        for layer in self.decoder:
            queries = layer(queries, embedding)  # (B, N_z, D)
        mask_embeddings = self.mask_projection(self.norm(queries)) * self.scale  # B_q, (B, N_z, D)
        query_logits = full_precision(embedding @ mask_embeddings.transpose(1, 2))
        query_masks = torch.sigmoid(query_logits)  # L_q, (B, T, N_z), eq. 3
        return full_precision(self.query_weights(query_masks)).squeeze(-1)  # L̂ before its sigmoid, (B, T), eq. 4


class ConvolutionMasking(nn.Module):
    """Predict the foreground (B, T) with a 1-D convolutional network, as in Table 4."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.hidden = UnfoldedConv1d(config.embed_dim, config.localizer_dim, kernel_size=3)
        self.out = UnfoldedConv1d(config.localizer_dim, 1, kernel_size=3)
        nn.init.constant_(self.out.linear.bias, OPEN_AT_START)

    def forward(self, embedding: Tensor) -> Tensor:
        return torch.sigmoid(self.logits(embedding))

    def logits(self, embedding: Tensor) -> Tensor:
        """Predict the foreground before its sigmoid, (B, T), at least float32."""
        return full_precision(self.out(torch.relu(self.hidden(embedding)))).squeeze(-1)


class NoMasking(nn.Module):
    """Call every snippet foreground, as in Table 4 ("No Mask"), or wait for the ground truth ("GT-Mask")."""

    def forward(self, embedding: Tensor) -> Tensor:
        return torch.ones_like(embedding[..., 0])

    def logits(self, embedding: Tensor) -> Tensor:
        """Give the logits of ones, (B, T), at least float32."""
        return full_precision(torch.full_like(embedding[..., 0], LARGEST_LOGIT))


def build_masking(config: ModelConfig) -> nn.Module:
    """Choose the masking of Table 4 that the config names; each maps (B, T, D) to (B, T) in [0, 1]."""
    if config.masking == "maskformer":
        return QueryMasking(config)
    if config.masking == "cnn":
        return ConvolutionMasking(config)
    return NoMasking()


class ForegroundGate(nn.Module):
    """Binarise the foreground (B, T) at θ_bin into 0 and 1; in training the gradient passes straight through.

    Straight-through estimator: Bengio, Léonard & Courville, arXiv:1308.3432. The paper does not say how its threshold
    is trained.
    """

    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.threshold = threshold

    def forward(self, foreground: Tensor) -> Tensor:
        gate = (foreground > self.threshold).to(foreground.dtype)
        if self.training:
            return gate + (foreground - foreground.detach())
        return gate
