"""The public network with its products of weights multiplied out where that leaves less to compute.

Exact as far as algebra goes; only rounding differs. Its attention heads are as wide as its embedding and their
projections have no bias. So a head's logits x Wq Wkᵀ yᵀ need one D x D matrix instead of two, and what it adds,
P (y Wv) Wo, another; the memory itself serves as keys and values, in one product over all heads. That halves the
weights and the products with weights, and nothing is copied from head to head.

Given statistics, what reads the features themselves reads them centred and scaled, channel by channel: a shift of all
keys by one vector changes no softmax, the attention weights of values sum to 1, and factors move into the weights. CLIP
features share a large common part and one coordinate with a mean of 5.5; left in, they would take most of the range
that int8 has.

The mask transformer has a single query. Attention of one token to itself is a linear layer; the first layer's query is
a constant; and the one query goes through the projections of keys and values, not T snippets.
"""

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stale_edge.bundle.manifest import TensorSpec, mask_detector_outputs
from stale_edge.config import ModelConfig
from stale_edge.model.channel_statistics import FeatureStatistics
from stale_edge.model.detector import DetectorNetwork
from stale_edge.model.input_checks import check_inputs
from stale_edge.model.layers import attend, l2_normalize
from stale_edge.model.low_precision import KeptFloat32
from stale_edge.model.stale.folded_linear import linear, split_heads
from stale_edge.model.stale.output import StaleOutput
from stale_edge.model.stale.release import (
    LOGIT_SCALE,
    MASK_HEADS,
    MaskDecoderLayer,
    MaskEncoderLayer,
    MaskTransformer,
    PositionedAttention,
    ReleaseStale,
    WideAttention,
    directions,
    gate_distances,
    release_gate,
)

RELEASE_FLOAT32 = KeptFloat32(
    {"int8-static": ("localizer.0", "localizer.2")}, products=(("temporal", 1), ("temporal.*", 1))
)
"""In static int8 the attention weights times snippets of the temporal embedding, where eight bits leave diffuse
attention a few levels, and the mask head, which the gate depends on: on a detector trained on the demo's data they
bring 96.4 % of matched detections to 98.8."""


class FoldedRelease(DetectorNetwork[ModelConfig]):
    """`ReleaseStale`, evaluated with folded weights; inputs and outputs are the same."""

    def __init__(self, model: ReleaseStale, statistics: FeatureStatistics | None = None) -> None:
        super().__init__()
        self.config = model.config
        self.temporal = FoldedSelfAttention(model.temporal, statistics)
        self.adaption = FoldedWideAttention(model.adaption)
        self.background = model.background
        self.masking = FoldedMaskTransformer(model.masking)
        self.localizer = model.localizer

    def forward(self, features: Tensor, class_embeddings: Tensor) -> StaleOutput:
        """Localize and classify actions as `ReleaseStale.forward` does."""
        config = self.config
        check_inputs(
            features,
            class_embeddings,
            channels=config.feature_channels,
            dim=config.embed_dim,
            length=config.temporal_scale,
        )
        embedding = self.temporal(features)  # (B, T, D)
        masks = self.localizer(embedding).transpose(1, 2)  # (B, T, T)
        snippets = embedding * release_gate(masks).unsqueeze(-1)
        text = self.adaption(torch.cat([class_embeddings, self.background]).unsqueeze(0), snippets)  # (B, K + 1, D)
        class_logits = (l2_normalize(text) * LOGIT_SCALE) @ directions(snippets).transpose(1, 2)  # (B, K + 1, T)
        return StaleOutput(class_logits, masks, self.masking(features, embedding), embedding)

    def output_specs(self) -> tuple[TensorSpec, ...]:
        """Class logits, masks and foreground."""
        return mask_detector_outputs(self.config.length_rule.fixed)

    def undecided(self, outputs: Mapping[str, NDArray[Any]]) -> NDArray[np.float64]:
        """As `ReleaseStale.undecided`."""
        return gate_distances(outputs["masks"])


class FoldedWideAttention(nn.Module):
    """`WideAttention` to a memory, with one matrix a head before the attention and one after it."""

    def __init__(self, wide: WideAttention) -> None:
        super().__init__()
        attention = wide.attention
        if attention.from_memory:
            query = attention.query.weight
            key, value = attention.key_value.weight.chunk(2)
        else:
            query, key, value = attention.query_key_value.weight.chunk(3)
        dim = query.shape[1]
        self.n_heads = attention.n_heads
        q, k, v = (split_heads(weight, 0, self.n_heads) for weight in (query, key, value))  # (heads, D in a head, D)
        out = split_heads(attention.out.weight, 1, self.n_heads).transpose(0, 1)
        # q_h k_hᵀ = x (Wqᵀ Wk) yᵀ; nn.Linear holds the transpose of what its input is multiplied by.
        self.query = linear((k.transpose(1, 2) @ q).flatten(0, 1) / dim**0.5)  # D -> heads * D
        self.out = linear(torch.cat(list(out @ v), dim=1), attention.out.bias)  # heads * D -> D
        self.norm = wide.norm

    def forward(self, queries: Tensor, memory: Tensor) -> Tensor:
        """Let queries (1 or B, N, D) read from a memory (B, T, D); gives (B, N, D)."""
        return cast(Tensor, self.norm(self.read(queries, memory) + queries))

    def read(self, queries: Tensor, memory: Tensor) -> Tensor:
        """Give what is added to the queries, (B, N, D)."""
        asked = torch.unflatten(self.query(queries), -1, (self.n_heads, queries.shape[-1])).flatten(1, 2)
        weights = torch.softmax(asked @ memory.transpose(1, 2), dim=-1)  # (B, N * heads, T)
        read = torch.unflatten(weights @ memory, 1, (-1, self.n_heads)).flatten(2)  # (B, N, heads * D)
        return cast(Tensor, self.out(read))


class FoldedSelfAttention(nn.Module):
    """`WideAttention` of features among themselves, which are centred and scaled for it."""

    shift: Tensor | None
    factor: Tensor | None

    def __init__(self, wide: WideAttention, statistics: FeatureStatistics | None) -> None:
        super().__init__()
        self.attention = FoldedWideAttention(wide)
        if statistics is None:
            self.shift = self.factor = None
            return
        self.register_buffer("shift", -statistics.mean)
        self.register_buffer("factor", 1 / statistics.deviation)
        mean, deviation = statistics.mean.double(), statistics.deviation.double()
        n_heads = self.attention.n_heads
        # x = mean + deviation * z: the queries for keys z, and what the values z leave out.
        query = split_heads(self.attention.query.weight, 0, n_heads)  # (heads, D of keys, D of queries)
        weight = query * deviation[:, None] * deviation
        self.attention.query = linear(weight.flatten(0, 1), ((query @ mean) * deviation).flatten())
        out = split_heads(self.attention.out.weight, 1, n_heads)  # (D, heads, D)
        bias = self.attention.out.bias.detach().double() + (out @ mean).sum(dim=1)
        self.attention.out = linear((out * deviation).flatten(1), bias)

    def forward(self, features: Tensor) -> Tensor:
        """Give the embedding (B, T, D) of features (B, T, D)."""
        z = features if self.shift is None or self.factor is None else (features + self.shift) * self.factor
        return cast(Tensor, self.attention.norm(self.attention.read(z, z) + features))


class FoldedMaskTransformer(nn.Module):
    """`MaskTransformer` with the projections of its keys and values moved to its only query."""

    position: Tensor
    start: Tensor

    def __init__(self, masking: MaskTransformer) -> None:
        super().__init__()
        self.register_buffer("position", masking.position, persistent=False)
        self.project = masking.project
        self.encoder = nn.ModuleList(FoldedEncoderLayer(cast(MaskEncoderLayer, layer)) for layer in masking.encoder)
        self.encoder_norm = masking.encoder_norm
        layers = [cast(MaskDecoderLayer, layer) for layer in masking.decoder]
        query = masking.query.detach()
        self.decoder = nn.ModuleList(FoldedDecoderLayer(layer, query) for layer in layers)
        self.register_buffer("start", torch.zeros_like(query), persistent=False)
        self.decoder_norm = masking.decoder_norm
        self.mask_projection = masking.mask_projection

    def forward(self, features: Tensor, embedding: Tensor) -> Tensor:
        """Predict the foreground (B, T) of features and embedding (B, T, D)."""
        memory = self.project(features)
        for layer in self.encoder:
            memory = layer(memory, self.position)
        memory = self.encoder_norm(memory)
        placed = memory + self.position
        target = self.start  # (1, 1, D), a constant until it has read from a memory
        for layer in self.decoder:
            target = layer(target, memory, placed)
        mask_embedding = self.mask_projection(self.decoder_norm(target))  # (B, 1, D)
        return torch.sigmoid(embedding @ mask_embedding.transpose(1, 2)).squeeze(-1)


class FoldedEncoderLayer(nn.Module):
    """`MaskEncoderLayer` with queries and keys from one product."""

    def __init__(self, layer: MaskEncoderLayer) -> None:
        super().__init__()
        attention = layer.self_attention
        self.query_key = linear(
            torch.cat([attention.query.weight, attention.key.weight]),
            torch.cat([attention.query.bias, attention.key.bias]),
        )
        self.value, self.out = attention.value, attention.out
        self.norm1, self.norm2 = layer.norm1, layer.norm2
        self.feedforward = layer.feedforward

    def forward(self, x: Tensor, position: Tensor) -> Tensor:
        normed = self.norm1(x)
        q, k = self.query_key(normed + position).chunk(2, dim=-1)
        x = x + self.out(attend(q, k, self.value(normed), n_heads=MASK_HEADS, dropout=0.0))
        return x + cast(Tensor, self.feedforward(self.norm2(x)))


class FoldedDecoderLayer(nn.Module):
    """`MaskDecoderLayer` for one query (1, 1, D)."""

    query: Tensor

    def __init__(self, layer: MaskDecoderLayer, query: Tensor) -> None:
        super().__init__()
        self.register_buffer("query", query, persistent=False)
        itself = layer.self_attention
        value, out = itself.value, itself.out
        # Softmax over one key is 1.
        self.self_attention = linear(out.weight.double() @ value.weight.double(), out(value.bias))
        self.cross_attention = SingleQueryAttention(layer.cross_attention)
        self.norm1, self.norm2, self.norm3 = layer.norm1, layer.norm2, layer.norm3
        self.feedforward = layer.feedforward

    def forward(self, target: Tensor, memory: Tensor, placed: Tensor) -> Tensor:
        """Refine target (1 or B, 1, D) by a memory (B, T, D), with and without positions; gives (B, 1, D)."""
        target = target + self.self_attention(self.norm1(target))
        target = target + self.cross_attention(self.norm2(target) + self.query, placed, memory)
        return target + cast(Tensor, self.feedforward(self.norm3(target)))


class SingleQueryAttention(nn.Module):
    """`PositionedAttention` for one query: keys and values are the snippets as they are."""

    def __init__(self, attention: PositionedAttention) -> None:
        super().__init__()
        dim = attention.query.weight.shape[1]
        layers = (attention.query, attention.key, attention.value)
        q, k, v = (split_heads(layer.weight, 0, MASK_HEADS) for layer in layers)  # (heads, D / heads, D)
        bias = split_heads(attention.query.bias, 0, MASK_HEADS).unsqueeze(1)  # (heads, 1, D / heads)
        scale = (dim // MASK_HEADS) ** -0.5
        # The keys' bias adds the same to every logit of the query, so softmax takes it out.
        self.query = linear((k.transpose(1, 2) @ q).flatten(0, 1) * scale, (bias @ k).flatten() * scale)
        out = split_heads(attention.out.weight, 1, MASK_HEADS).transpose(0, 1)  # (heads, D, D / heads)
        # Attention weights sum to 1, so the values' bias comes through whole.
        self.out = linear(torch.cat(list(out @ v), dim=1), attention.out(attention.value.bias))

    def forward(self, query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """Let one query (1 or B, 1, D) read values (B, T, D) by keys (B, T, D); gives (B, 1, D)."""
        asked = torch.unflatten(self.query(query), -1, (MASK_HEADS, query.shape[-1])).flatten(1, 2)  # (B, heads, D)
        weights = torch.softmax(asked @ keys.transpose(1, 2), dim=-1)  # (B, heads, T)
        return cast(Tensor, self.out((weights @ values).flatten(1).unsqueeze(1)))
