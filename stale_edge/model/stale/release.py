"""The network of the public STALE code, so that its checkpoints can be used.

Facts are from sauradip/STALE, CPU variant of the thesis (yunhanwang1105/Efficient-TAL-vision-language-modeling,
STALE_cpu/): stale_model.py, utils/transformer.py and MaskFormer/mask_former/modeling/transformer/. Line numbers below
refer to it.
"""

import math
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stale_edge.bundle.manifest import TensorSpec, mask_detector_outputs
from stale_edge.config import ModelConfig
from stale_edge.model.detector import DetectorNetwork
from stale_edge.model.input_checks import check_inputs
from stale_edge.model.layers import MultiHeadAttention, UnfoldedConv1d, attend, l2_normalize
from stale_edge.model.stale.output import StaleLogits, StaleOutput, full_precision

MASK_HEADS, MASK_LAYERS, MASK_FEEDFORWARD = 2, 2, 1
"""Heads, layers and hidden width of the mask transformer, stale_model.py:47-61."""
LOGIT_SCALE = 100.0
"""Factor of the cosines, stale_model.py:114."""
LEAST_FEATURE = 1e-4
"""Lower bound of features before they are normalised, stale_model.py:109."""


class ReleaseStale(DetectorNetwork[ModelConfig]):
    """Find actions as the public code does: same blocks, same quirks, built for one T.

    Raises:
        ValueError: `config` asks for the other architecture, or for C != D.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        if config.architecture != "release":
            raise ValueError(f"ReleaseStale needs architecture 'release'; the config says {config.architecture!r}")
        if config.feature_channels != config.embed_dim or config.embed_dim % 4 != 0:
            raise ValueError(
                "the release architecture needs feature_channels == embed_dim, a multiple of 4; "
                f"got {config.feature_channels} and {config.embed_dim}"
            )
        self.config = config
        dim, length = config.embed_dim, config.temporal_scale
        self.temporal = WideAttention(dim, n_heads=config.n_heads, dropout=0.2, from_memory=False)
        self.adaption = WideAttention(dim, n_heads=config.n_heads, dropout=0.3, from_memory=True)
        self.background = nn.Parameter(torch.randn(1, dim) * 0.02)
        self.masking = MaskTransformer(dim, length)
        self.localizer = nn.Sequential(
            UnfoldedConv1d(dim, dim // 2, kernel_size=3),
            nn.ReLU(),
            nn.Linear(dim // 2, length, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, features: Tensor, class_embeddings: Tensor) -> StaleOutput:
        """Localize and classify actions.

        Args:
            features: (B, T, C) float; T is the config's `temporal_scale`, no other.
            class_embeddings: (K, D) float, as CLIP's text tower gives them (their length matters); background is not
                among them.

        Returns:
            `StaleOutput`: class_logits (B, K + 1, T) with background last, masks (B, T, T), foreground (B, T),
            embedding (B, T, D).

        Raises:
            ValueError: a shape does not fit.
        """
        class_logits, mask_logits, foreground_logits, embedding = self.logits(features, class_embeddings)
        return StaleOutput(class_logits, torch.sigmoid(mask_logits), torch.sigmoid(foreground_logits), embedding)

    def logits(self, features: Tensor, class_embeddings: Tensor) -> StaleLogits:
        """Compute what `forward` does, before the sigmoids of masks and foreground; training reads these."""
        embedding, mask_logits, snippets = self._localize(features, class_embeddings)
        foreground_logits = self.masking.logits(features, embedding)  # (B, T)
        text = self._adapt(class_embeddings, snippets)  # (B, K + 1, D)
        class_logits = (l2_normalize(text) * LOGIT_SCALE) @ directions(snippets).transpose(1, 2)  # (B, K + 1, T)
        return StaleLogits(class_logits, mask_logits, foreground_logits, embedding)

    def output_specs(self) -> tuple[TensorSpec, ...]:
        """Class logits, masks and foreground."""
        return mask_detector_outputs(self.config.length_rule.fixed)

    def undecided(self, outputs: Mapping[str, NDArray[Any]]) -> NDArray[np.float64]:
        """How far each snippet's mean mask is above the mean of those of the video, (B, T); `release_gate`."""
        return gate_distances(outputs["masks"])

    def video_scores(self, features: Tensor, class_embeddings: Tensor) -> Tensor:
        """Score classes for whole videos, as the public code does beside snippets; (B, K) without background."""
        _, _, snippets = self._localize(features, class_embeddings)
        text = self._adapt(class_embeddings, snippets)[:, :-1]  # (B, K, D)
        video = l2_normalize(snippets.clamp(min=LEAST_FEATURE).mean(dim=1))  # (B, D), stale_model.py:110-112
        return (l2_normalize(text) @ video.unsqueeze(-1)).squeeze(-1) * LOGIT_SCALE

    def _localize(self, features: Tensor, class_embeddings: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Embed the snippets, predict the logits of their masks, and keep foreground snippets, all else 0."""
        config = self.config
        check_inputs(
            features,
            class_embeddings,
            channels=config.feature_channels,
            dim=config.embed_dim,
            length=config.temporal_scale,
        )
        embedding = self.temporal(features)  # (B, T, D)
        # Output channels of the convolution are the predicting snippets, its positions the predicted ones.
        mask_logits = full_precision(self.localizer[:-1](embedding)).transpose(1, 2)  # (B, T, T), row i by snippet i
        gate = release_gate(torch.sigmoid(mask_logits))  # (B, T) of 0 and 1
        return embedding, mask_logits, embedding * gate.unsqueeze(-1)

    def _adapt(self, class_embeddings: Tensor, snippets: Tensor) -> Tensor:
        """Let classes and background attend to the kept snippets; (B, K + 1, D).

        The text itself is not added again: its factor is 0, stale_model.py:37.
        """
        text = torch.cat([class_embeddings, self.background]).expand(snippets.shape[0], -1, -1)
        return cast(Tensor, self.adaption(text, snippets))


def release_gate(masks: Tensor) -> Tensor:
    """Call a snippet foreground when its mask's mean is at least the mean over all snippets, stale_model.py:127-131.

    Discontinuous: a change of 1e-3 in one mask can flip a snippet and move its logits by 12.

    Args:
        masks: (B, T, T) in [0, 1], row i by snippet i.

    Returns:
        (B, T) of 0 and 1.
    """
    means = masks.mean(dim=2)
    return (means >= means.mean(dim=1, keepdim=True)).to(masks.dtype)


def gate_distances(masks: NDArray[Any]) -> NDArray[np.float64]:
    """Compute how far above the gate's threshold each snippet is, (B, T), of masks (B, T, T).

    It is > 0 where the gate is open. A snippet exactly at the mean passes the gate: its distance is the least number
    above 0.
    """
    means = masks.astype(np.float64).mean(axis=2)  # (B, T)
    distances = means - means.mean(axis=1, keepdims=True)
    return np.asarray(np.where(distances == 0, np.nextafter(0.0, 1.0), distances))


class WideAttention(nn.Module):
    """Attention whose every head is as wide as the whole embedding, added to its queries and normalised.

    `SnippetEmbedding` of utils/transformer.py:30.
    """

    def __init__(self, dim: int, *, n_heads: int, dropout: float, from_memory: bool) -> None:
        super().__init__()
        self.attention = MultiHeadAttention(
            dim, n_heads=n_heads, dropout=0.1, from_memory=from_memory, head_dim=dim, bias=False
        )
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(dim)

    def forward(self, queries: Tensor, memory: Tensor | None = None) -> Tensor:
        return cast(Tensor, self.norm(self.dropout(self.attention(queries, memory)) + queries))


class MaskTransformer(nn.Module):
    """Predict the foreground (B, T) with one mask query of MaskFormer, transformer_predictor_v2.py:107."""

    position: Tensor

    def __init__(self, dim: int, length: int) -> None:
        super().__init__()
        self.register_buffer("position", sine_position(length, dim), persistent=False)
        self.project = nn.Linear(dim, dim)
        self.encoder = nn.ModuleList(MaskEncoderLayer(dim) for _ in range(MASK_LAYERS))
        self.encoder_norm = nn.LayerNorm(dim)
        self.query = nn.Parameter(torch.randn(1, 1, dim))
        self.decoder = nn.ModuleList(MaskDecoderLayer(dim) for _ in range(MASK_LAYERS))
        self.decoder_norm = nn.LayerNorm(dim)
        self.mask_projection = nn.Sequential(
            nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim)
        )

    def forward(self, features: Tensor, embedding: Tensor) -> Tensor:
        return torch.sigmoid(self.logits(features, embedding))

    def logits(self, features: Tensor, embedding: Tensor) -> Tensor:
        """Predict the foreground before its sigmoid, (B, T), at least float32."""
        memory = self.project(features)  # (B, T, D)
        for layer in self.encoder:
            memory = layer(memory, self.position)
        memory = self.encoder_norm(memory)
        target = torch.zeros_like(self.query).expand(memory.shape[0], -1, -1)  # (B, 1, D)
        for layer in self.decoder:
            target = layer(target, memory, self.query, self.position)
        mask_embedding = self.mask_projection(self.decoder_norm(target))  # (B, 1, D)
        return full_precision(embedding @ mask_embedding.transpose(1, 2)).squeeze(-1)


class PositionedAttention(nn.Module):
    """Attention whose queries and keys carry positions that its values do not, in plain linear layers."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.query = nn.Linear(dim, dim)
        self.key = nn.Linear(dim, dim)
        self.value = nn.Linear(dim, dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        dropout = 0.1 if self.training else 0.0
        q, k, v = self.query(queries), self.key(keys), self.value(values)
        return cast(Tensor, self.out(attend(q, k, v, n_heads=MASK_HEADS, dropout=dropout)))


class MaskEncoderLayer(nn.Module):
    """Pre-norm self-attention and feed-forward network, `forward_pre` of transformer.py:176."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.self_attention = PositionedAttention(dim)
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.feedforward = _feedforward(dim)
        self.dropout = nn.Dropout(0.1)

    def forward(self, x: Tensor, position: Tensor) -> Tensor:
        normed = self.norm1(x)
        placed = normed + position
        x = x + self.dropout(self.self_attention(placed, placed, normed))
        return x + cast(Tensor, self.dropout(self.feedforward(self.norm2(x))))


class MaskDecoderLayer(nn.Module):
    """Pre-norm self-attention, attention to the memory, feed-forward network; `forward_pre` of transformer.py:267."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.self_attention = PositionedAttention(dim)
        self.cross_attention = PositionedAttention(dim)
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(dim), nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.feedforward = _feedforward(dim)
        self.dropout = nn.Dropout(0.1)

    def forward(self, target: Tensor, memory: Tensor, query: Tensor, position: Tensor) -> Tensor:
        normed = self.norm1(target)
        target = target + self.dropout(self.self_attention(normed + query, normed + query, normed))
        normed = self.norm2(target)
        target = target + self.dropout(self.cross_attention(normed + query, memory + position, memory))
        return target + cast(Tensor, self.dropout(self.feedforward(self.norm3(target))))


def sine_position(length: int, dim: int) -> Tensor:
    """Compute MaskFormer's two-dimensional sine position of a one-row image, position_encoding.py:35-55.

    The first half of the channels encodes the row, here always the last one, the second half the column.

    Returns:
        (T, D) float32.
    """
    half = dim // 2
    rows = torch.ones(length)
    columns = torch.arange(1, length + 1, dtype=torch.float32)
    frequency = 10000.0 ** (2 * torch.div(torch.arange(half), 2, rounding_mode="floor") / half)
    parts = []
    for coordinate, last in ((rows, 1), (columns, length)):
        angle = (coordinate / (last + 1e-6) * (2 * math.pi)).unsqueeze(1) / frequency  # (T, D / 2)
        parts.append(torch.stack([angle[:, 0::2].sin(), angle[:, 1::2].cos()], dim=2).flatten(1))
    return torch.cat(parts, dim=1)


def random_release(length: int, *, seed: int = 0) -> ReleaseStale:
    """Make a full-size network for T = `length` with random weights, in eval mode.

    For measuring time, which does not depend on the weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ReleaseStale(ModelConfig(architecture="release", temporal_scale=length)).eval()


def _feedforward(dim: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(dim, MASK_FEEDFORWARD), nn.ReLU(), nn.Dropout(0.1), nn.Linear(MASK_FEEDFORWARD, dim))


def directions(snippets: Tensor) -> Tensor:
    """Clamp snippets (B, T, D) from below and scale them to length 1.

    Dropped snippets are 1e-4 everywhere, whose square vanishes in fp16; dividing by the largest channel first avoids
    that.
    """
    clamped = snippets.clamp(min=LEAST_FEATURE)
    return l2_normalize(clamped / clamped.amax(dim=-1, keepdim=True))
