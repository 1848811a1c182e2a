"""The paper's network with products of weights precomputed, and other products moved to where they are smaller.

Exact as far as algebra goes; only rounding differs.

- The gain and shift of a LayerNorm that one product reads go into that product, as does the scale of attention logits.
- A bias of keys adds the same to all logits of a query, so softmax takes it out; attention weights sum to 1, so a bias
  of values comes through whole and joins the output's.
- The mask queries are few and, until they first read from the video, constant. So the queries go through the
  projections of keys and values, not T snippets: each head asks with one constant vector a query.
- Queries, keys and values are three products rather than one that is cut in three: nothing is copied, and static int8
  gives each a scale of its own.
- Both branches of the localizer start with a convolution of the same snippets: one product makes both. Biases of its
  dynamic networks ride in their products, as a channel that is always 1: over T x T places an addition is a pass over
  memory that costs as much as a product.
"""

import copy
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stale_edge.model.input_checks import is_recording
from stale_edge.model.layers import (
    MASKED_OUT,
    DecoderLayer,
    EncoderLayer,
    FeedForward,
    MultiHeadAttention,
    UnfoldedConv1d,
    gelu,
)
from stale_edge.model.low_precision import KeptFloat32
from stale_edge.model.stale.folded_linear import double, linear, split_heads
from stale_edge.model.stale.mask_head import CHUNK_ELEMENTS, MaskHead, positions
from stale_edge.model.stale.masking import QueryMasking
from stale_edge.model.stale.paper import CrossModalAdaption, PaperStale

_BEFORE_GATE = ("masking.query_weights",)
_INT8 = (*_BEFORE_GATE, "temporal.project", "localizer.dynamic")
PAPER_FLOAT32 = KeptFloat32(
    {
        "fp16": _BEFORE_GATE,
        "int8": _INT8,
        "int8-static": (*_INT8, "localizer.base", "localizer.controller", "temporal.*.feedforward"),
    },
    products=(("temporal", 1), ("temporal.*", 1), ("localizer", None)),
)
"""`masking.query_weights`: the last few weights before the gate, where a rounding error switches a snippet off.
In int8 besides: `temporal.project`, since CLIP features have channels of very different range, which one scale for all
rounds coarsely, and every later layer depends on the error; `localizer.dynamic`, whose outputs are weights. On the
demo's detectors (seeds 0, 1) the two bring flipped snippets from 82 and 78 down to 16 and 24 of 20,000, and the change
of average mAP from +0.18 and -0.49 to +0.09 and -0.01 points, at 3 % of the weights.
In static int8 besides: attention weights times snippets in the temporal embedding, where eight bits leave diffuse
attention a few levels, and its feed-forward layers; and what masks are made of, less than 1 % of the work. On three
networks trained on simulated data, with OpenVINO and the rest in bf16, these bring 98.1, 97.2 and 97.1 % of detections
found again to 98.7, 98.5 and 98.5."""


def fold_paper(model: PaperStale) -> PaperStale:
    """Give a network equivalent to `model`, for inference; `model` is not changed, weights may be shared."""
    folded = copy.copy(model)
    folded.__dict__["_modules"] = dict(model.__dict__["_modules"])
    temporal = copy.copy(model.temporal)
    temporal.__dict__["_modules"] = dict(model.temporal.__dict__["_modules"])
    temporal.layers = nn.Sequential(
        *(FoldedEncoderLayer(layer) if isinstance(layer, EncoderLayer) else layer for layer in model.temporal.layers)
    )
    parts: dict[str, nn.Module] = {
        "temporal": temporal,
        "adaption": FoldedAdaption(model.adaption),
        "localizer": FoldedMaskHead(model.localizer),
    }
    if isinstance(model.masking, QueryMasking):
        parts["masking"] = FoldedQueryMasking(model.masking)
    for name, part in parts.items():
        setattr(folded, name, part)
    return folded


class Normalize(nn.Module):
    """`nn.LayerNorm` without gain and shift, which are part of the next layer's weights."""

    def __init__(self, norm: nn.LayerNorm) -> None:
        super().__init__()
        self.shape, self.eps = norm.normalized_shape, norm.eps

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.shape, eps=self.eps)


class FoldedAttention(nn.Module):
    """`MultiHeadAttention` of queries and a memory that both come normalised, without gain and shift."""

    def __init__(self, attention: MultiHeadAttention, *, query_norm: nn.LayerNorm, memory_norm: nn.LayerNorm) -> None:
        super().__init__()
        self.n_heads = attention.n_heads
        (query, query_bias), (key, _), (value, value_bias) = _projections(attention)
        scale = (query.shape[0] // self.n_heads) ** -0.5
        weight, bias = _after(query_norm, query, query_bias)
        self.query = linear(weight * scale, bias * scale)
        self.key = linear(_after(memory_norm, key, None)[0])
        weight, bias = _after(memory_norm, value, value_bias)
        self.value = linear(weight)
        out = double(attention.out.weight)
        self.out = linear(out, double(attention.out.bias) + out @ bias)

    def forward(self, queries: Tensor, memory: Tensor, key_bias: Tensor | None = None) -> Tensor:
        """Let queries (1 or B, N, D) read from a memory (B, M, D); `key_bias` (B, M) joins the logits of keys."""
        q, k, v = (self._heads(x) for x in (self.query(queries), self.key(memory), self.value(memory)))
        bias = None if key_bias is None else key_bias[:, None, None, :]
        if torch.onnx.is_in_onnx_export():  # its own decomposition scales both operands, and transposes keys twice
            logits = q @ k.transpose(2, 3)
            attended = torch.softmax(logits if bias is None else logits + bias, dim=-1) @ v
        else:
            q = q.expand(k.shape[0], -1, -1, -1)
            attended = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=1.0)
        return cast(Tensor, self.out(attended.transpose(1, 2).flatten(2)))

    def _heads(self, x: Tensor) -> Tensor:
        return torch.unflatten(x, -1, (self.n_heads, x.shape[-1] // self.n_heads)).transpose(1, 2)


class FoldedFeedForward(nn.Module):
    """`FeedForward` of its normalised input, folded."""

    def __init__(self, feedforward: FeedForward, norm: nn.LayerNorm) -> None:
        super().__init__()
        self.norm = Normalize(norm)
        first = cast(nn.Linear, feedforward[0])
        self.hidden = linear(*_after(norm, first.weight, first.bias))
        self.out = cast(nn.Linear, feedforward[-1])

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.out(gelu(self.hidden(self.norm(x)))))


class FoldedEncoderLayer(nn.Module):
    """`EncoderLayer` with folded weights."""

    def __init__(self, layer: EncoderLayer) -> None:
        super().__init__()
        self.norm = Normalize(layer.attention_norm)
        self.attention = FoldedAttention(
            layer.attention, query_norm=layer.attention_norm, memory_norm=layer.attention_norm
        )
        self.feedforward = FoldedFeedForward(layer.feedforward, layer.feedforward_norm)

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm(x)
        x = x + self.attention(normed, normed)
        return x + cast(Tensor, self.feedforward(x))


class FoldedAdaption(nn.Module):
    """`CrossModalAdaption`, with α in the gain and shift of its last LayerNorm."""

    def __init__(self, adaption: CrossModalAdaption) -> None:
        super().__init__()
        layer = adaption.layer
        self.self_norm, self.cross_norm = Normalize(layer.self_norm), Normalize(layer.cross_norm)
        self.snippet_norm = Normalize(adaption.snippet_norm)
        self.self_attention = FoldedAttention(
            layer.self_attention, query_norm=layer.self_norm, memory_norm=layer.self_norm
        )
        self.cross_attention = FoldedAttention(
            layer.cross_attention, query_norm=layer.cross_norm, memory_norm=adaption.snippet_norm
        )
        self.feedforward = FoldedFeedForward(layer.feedforward, layer.feedforward_norm)
        self.norm = nn.LayerNorm(adaption.norm.normalized_shape, eps=adaption.norm.eps)
        alpha = double(adaption.alpha)
        with torch.no_grad():
            self.norm.weight.copy_(alpha * double(adaption.norm.weight))
            self.norm.bias.copy_(alpha * double(adaption.norm.bias))

    def forward(self, text: Tensor, snippets: Tensor, gate: Tensor) -> Tensor:
        """Adapt text (K + 1, D) to snippets (B, T, D) where gate (B, T) is 1; gives (B, K + 1, D)."""
        normed = self.self_norm(text.unsqueeze(0))
        queries = text + self.self_attention(normed, normed)  # (1, K + 1, D)
        hide_background = (1 - gate) * MASKED_OUT
        asked, memory = self.cross_norm(queries), self.snippet_norm(snippets)
        queries = queries + self.cross_attention(asked, memory, hide_background)  # (B, K + 1, D)
        return text + cast(Tensor, self.norm(queries + self.feedforward(queries)))


class FoldedQueryMasking(nn.Module):
    """`QueryMasking`; the queries are constant until they read from the video."""

    queries: Tensor

    def __init__(self, masking: QueryMasking) -> None:
        super().__init__()
        layers = [cast(DecoderLayer, layer) for layer in masking.decoder]
        with torch.no_grad():
            queries = masking.queries + layers[0].self_attention(layers[0].self_norm(masking.queries))
        self.register_buffer("queries", queries, persistent=False)
        self.read = FewQueriesAttention(layers[0].cross_attention, layers[0].cross_norm(queries))
        self.feedforward = FoldedFeedForward(layers[0].feedforward, layers[0].feedforward_norm)
        self.others = nn.ModuleList(layers[1:])
        self.norm = Normalize(masking.norm)
        first, last = cast(nn.Linear, masking.mask_projection[0]), cast(nn.Linear, masking.mask_projection[4])
        self.mask_projection = nn.Sequential(
            linear(*_after(masking.norm, first.weight, first.bias)),
            nn.ReLU(),
            masking.mask_projection[2],
            nn.ReLU(),
            linear(double(last.weight) * masking.scale, double(last.bias) * masking.scale),
        )
        self.query_weights = masking.query_weights

    def forward(self, embedding: Tensor) -> Tensor:
        """Predict the foreground (B, T) of embeddings (B, T, D)."""
        queries = self.queries + self.read(embedding)  # (B, N_z, D)
        queries = queries + self.feedforward(queries)
        for layer in self.others:
            queries = layer(queries, embedding)
        mask_embeddings = self.mask_projection(self.norm(queries))  # B_q, (B, N_z, D)
        query_masks = torch.sigmoid(embedding @ mask_embeddings.transpose(1, 2))  # L_q, (B, T, N_z), eq. 3
        return torch.sigmoid(self.query_weights(query_masks)).squeeze(-1)  # L̂, (B, T), eq. 4


class FewQueriesAttention(nn.Module):
    """`MultiHeadAttention` of constant queries to a memory that serves as keys and values as it is."""

    def __init__(self, attention: MultiHeadAttention, queries: Tensor) -> None:
        super().__init__()
        n_heads = self.n_heads = attention.n_heads
        (query, query_bias), (key, _), (value, value_bias) = _projections(attention)
        asked = split_heads(double(queries[0]) @ query.T + query_bias, 1, n_heads)  # (N, heads, D / heads)
        asked = torch.einsum("nhc,hcd->nhd", asked, split_heads(key, 0, n_heads))
        self.asked = linear(asked.flatten(0, 1) * (query.shape[0] // n_heads) ** -0.5)  # D -> N * heads
        out, values = split_heads(attention.out.weight, 1, n_heads), split_heads(value, 0, n_heads)
        bias = double(attention.out.bias) + double(attention.out.weight) @ value_bias
        self.out = linear(torch.einsum("dhc,hce->dhe", out, values).flatten(1), bias)  # heads * D -> D

    def forward(self, memory: Tensor) -> Tensor:
        """Read from a memory (B, T, D); gives (B, N, D)."""
        weights = torch.softmax(self.asked(memory).transpose(1, 2), dim=-1)  # (B, N * heads, T)
        return cast(Tensor, self.out(torch.unflatten(weights @ memory, 1, (-1, self.n_heads)).flatten(2)))


class FoldedMaskHead(nn.Module):
    """`MaskHead`, whose dynamic networks have one more channel that is always 1."""

    def __init__(self, localizer: MaskHead) -> None:
        super().__init__()
        base, controller = localizer.base, localizer.controller
        starts = [cast(UnfoldedConv1d, branch[0]) for branch in (base, controller)]
        firsts = [start.linear for start in starts]
        weight = torch.cat([double(first.weight) for first in firsts])
        taps = starts[0].kernel_size
        self.first = UnfoldedConv1d(weight.shape[1] // taps, len(weight), kernel_size=taps)
        self.first.linear = linear(weight, torch.cat([double(first.bias) for first in firsts]))
        self.base, self.controller = base[2], controller[2]
        width = localizer.width
        self.channels = width + 1
        weight, bias = _with_ones_channel(cast(nn.Linear, controller[4]), width)
        self.dynamic = linear(weight, bias)
        self.sizes = [self.channels * width, self.channels, self.channels, self.channels**2, self.channels]

    def forward(self, embedding: Tensor, rows: Tensor | None = None) -> Tensor:
        """Predict masks (B, R, T) in [0, 1] of embeddings (B, T, D); rows (R,) int64 are snippets, None: all T."""
        base, hidden = torch.relu(self.first(embedding)).chunk(2, dim=-1)
        base = self.base(base)  # (B, T, width)
        position = positions(embedding)  # (T, 1)
        ones = torch.ones_like(base[..., :1])
        inputs = torch.cat([base, position.expand_as(ones), ones], dim=-1).transpose(1, 2)  # (B, width + 2, T)
        weights = self.dynamic(torch.relu(self.controller(hidden)))
        if rows is not None:
            weights, position = weights[:, rows], position[rows]
        w1, slope, b1, w2, w3 = torch.split(weights, self.sizes, dim=-1)
        # W base(t) + slope (p(t) - p(i)) + b
        first = torch.cat(
            [torch.unflatten(w1, -1, (self.channels, -1)), torch.stack([slope, b1 - slope * position], dim=-1)], dim=-1
        )  # (B, R, channels, width + 2)
        second = torch.unflatten(w2, -1, (self.channels, self.channels))
        third = w3.unsqueeze(-2)
        if is_recording():
            return _apply(first, second, third, inputs)
        per_chunk = max(1, CHUNK_ELEMENTS // (inputs.shape[0] * inputs.shape[2] * self.channels))
        chunks = zip(*(torch.split(layer, per_chunk, dim=1) for layer in (first, second, third)), strict=True)
        return torch.cat([_apply(a, b, c, inputs) for a, b, c in chunks], dim=1)


def _apply(first: Tensor, second: Tensor, third: Tensor, inputs: Tensor) -> Tensor:
    """Apply R dynamic networks, layers (B, R, out, in), along the video, inputs (B, channels, T); (B, R, T)."""
    channels = first.shape[2]
    hidden = torch.unflatten(torch.relu(first.flatten(1, 2) @ inputs), 1, (-1, channels))  # (B, R, channels, T)
    return torch.sigmoid((third @ torch.relu(second @ hidden)).squeeze(-2))


def _with_ones_channel(controller: nn.Linear, width: int) -> tuple[Tensor, Tensor]:
    """Spread the rows of the controller's last layer to those of networks with one more channel, always 1.

    Returns:
        (n, hidden) and (n,), n = (width + 1) (width + 2) + (width + 1)^2 + (width + 1): for every snippet w1, slope, b1
        of the first layer, w2 of the second, w3 of the third, each with its bias as the weight of the last channel.
    """
    weight, bias = double(controller.weight), double(controller.bias)
    both = torch.cat([weight, bias.unsqueeze(1)], dim=1)  # (n, hidden + 1)
    sizes = [width * width, width, width, width * width, width, width, 1]
    w1, slope, b1, w2, b2, w3, b3 = torch.split(both, sizes)
    nothing = torch.zeros_like(both[:1])
    one = nothing.clone()
    one[0, -1] = 1.0
    second = torch.cat([torch.unflatten(w2, 0, (width, width)), b2.unsqueeze(1)], dim=1).flatten(0, 1)
    spread = torch.cat(
        [w1, nothing.expand(width, -1), slope, nothing, b1, one, second, nothing.expand(width, -1), one, w3, b3]
    )
    return spread[:, :-1], spread[:, -1]


def _projections(attention: MultiHeadAttention) -> tuple[tuple[Tensor, Tensor], ...]:
    """Give weight (H, D) and bias (H,) of the projections to queries, keys and values, in double precision."""
    layers = [attention.query, attention.key_value] if attention.from_memory else [attention.query_key_value]
    weight = torch.cat([double(layer.weight) for layer in layers])
    bias = torch.zeros_like(weight[:, 0]) if layers[0].bias is None else torch.cat([double(x.bias) for x in layers])
    return tuple(zip(weight.chunk(3), bias.chunk(3), strict=True))


def _after(norm: nn.LayerNorm, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    """Move gain and shift of a LayerNorm into the linear layer that reads it, in double precision."""
    weight = double(weight)
    shift = weight @ double(norm.bias)
    return weight * double(norm.weight), shift if bias is None else double(bias) + shift
