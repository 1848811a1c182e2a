"""Attention, feed-forward networks and convolutions over snippets, all made of `nn.Linear` and plain matrix products.

Dynamic int8 of torch quantizes `nn.Linear` and silently skips `nn.Conv1d` and the packed projection of
`nn.MultiheadAttention`; ONNX Runtime's is fastest on MatMul alone. Written like this, both quantize every weight.
"""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MASKED_OUT = -1e4
"""Added to the attention logits of masked keys; finite in fp16, so that hiding all keys gives no NaN."""

NORM_EPS = 1e-6
"""Keeps the direction of a zero vector finite; far below the squared length of any real feature."""


def l2_normalize(vectors: Tensor) -> Tensor:
    """Scale vectors (..., D) to length 1; a zero vector stays zero.

    Written without a norm operator: onnxruntime's `quant_pre_process` crashes on `x / x.norm()`.
    """
    return vectors * torch.rsqrt((vectors * vectors).sum(dim=-1, keepdim=True) + NORM_EPS)


class UnfoldedConv1d(nn.Module):
    """Convolve snippets (B, T, C) along time, zero-padded to the same T, as one linear layer over shifted copies.

    Args:
        kernel_size: odd, >= 1.
        dilation: >= 1.
        bias: whether one number is added to each output channel.
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, kernel_size: int, dilation: int = 1, bias: bool = True
    ) -> None:
        super().__init__()
        if kernel_size % 2 == 0 or kernel_size < 1 or dilation < 1:
            raise ValueError(
                f"kernel_size must be odd and >= 1, dilation >= 1; got kernel_size={kernel_size}, dilation={dilation}"
            )
        self.dilation = dilation
        self.kernel_size = kernel_size
        # weight (out, kernel_size * in): tap j of a nn.Conv1d weight (out, in, kernel_size) fills columns j*in:(j+1)*in
        self.linear = nn.Linear(kernel_size * in_channels, out_channels, bias=bias)

    def forward(self, snippets: Tensor) -> Tensor:
        return self.linear(unfold(snippets, kernel_size=self.kernel_size, dilation=self.dilation))  # type: ignore[no-any-return]


def unfold(snippets: Tensor, *, kernel_size: int, dilation: int = 1) -> Tensor:
    """Put each snippet's neighbours beside it: (B, T, C) to (B, T, kernel_size * C), zeros beyond both ends."""
    if kernel_size == 1:
        return snippets
    reach = dilation * (kernel_size // 2)
    padded = F.pad(snippets, (0, 0, reach, reach))  # (B, T + 2 reach, C)
    length = snippets.shape[1]
    return torch.cat([padded[:, j * dilation : j * dilation + length] for j in range(kernel_size)], dim=-1)


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    n_heads: int,
    dropout: float,
    key_bias: Tensor | None = None,
    scale: float | None = None,
) -> Tensor:
    """Read values by scaled dot products of queries and keys, each head in its own part of the channels.

    Args:
        q: (B, N, H) with H a multiple of `n_heads`.
        k, v: (B, M, H).
        dropout: dropout probability of the attention weights, 0 outside training.
        key_bias: (B, M), added to every query's logit of a key; None: nothing is hidden.
        scale: of the products; None: 1 / sqrt(H / n_heads).

    Returns:
        (B, N, H).
    """
    shape = (n_heads, q.shape[-1] // n_heads)
    q, k, v = (torch.unflatten(x, -1, shape).transpose(1, 2) for x in (q, k, v))  # (B, heads, N or M, H / heads)
    bias = None if key_bias is None else key_bias[:, None, None, :]
    if scale == 1 and torch.onnx.is_in_onnx_export():  # its own decomposition scales both operands even then
        logits = q @ k.transpose(2, 3)
        attended = torch.softmax(logits if bias is None else logits + bias, dim=-1) @ v
    else:
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, dropout_p=dropout, scale=scale)
    return attended.transpose(1, 2).flatten(2)


class MultiHeadAttention(nn.Module):
    """Let queries (B, N, D) read from a memory (B, M, D), or from each other.

    Args:
        from_memory: whether a memory is read.
        head_dim: width of a head; None: D / n_heads.
        bias: of the projections to queries, keys and values.
    """

    def __init__(
        self,
        dim: int,
        *,
        n_heads: int,
        dropout: float,
        from_memory: bool,
        head_dim: int | None = None,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.dropout = dropout
        self.from_memory = from_memory
        inner = dim if head_dim is None else n_heads * head_dim
        if from_memory:
            self.query = nn.Linear(dim, inner, bias=bias)
            self.key_value = nn.Linear(dim, 2 * inner, bias=bias)
        else:
            self.query_key_value = nn.Linear(dim, 3 * inner, bias=bias)
        self.out = nn.Linear(inner, dim)

    def forward(self, queries: Tensor, memory: Tensor | None = None, key_bias: Tensor | None = None) -> Tensor:
        """Attend from queries (B, N, D); `key_bias` (B, M) is added to the logits of keys. Gives (B, N, D)."""
        if not self.from_memory:
            q, k, v = self.query_key_value(queries).chunk(3, dim=-1)
        elif memory is not None:
            q = self.query(queries)
            k, v = self.key_value(memory).chunk(2, dim=-1)
        else:
            raise ValueError("this attention reads from a memory, and none was given")
        dropout = self.dropout if self.training else 0.0
        return cast(Tensor, self.out(attend(q, k, v, n_heads=self.n_heads, dropout=dropout, key_bias=key_bias)))


def gelu(x: Tensor) -> Tensor:
    """Compute the exact GELU."""
    if torch.onnx.is_in_onnx_export():  # in this order of factors ONNX Runtime finds it, and runs it as one kernel
        return x * (torch.erf(x / 2**0.5) + 1.0) * 0.5
    return F.gelu(x)


class Gelu(nn.Module):
    """`gelu` as a layer."""

    def forward(self, x: Tensor) -> Tensor:
        return gelu(x)


class FeedForward(nn.Sequential):
    """Two linear layers with an activation between, GELU unless another is given, on each position alone."""

    def __init__(self, dim: int, *, hidden_dim: int, dropout: float, activation: nn.Module | None = None) -> None:
        between = Gelu() if activation is None else activation
        super().__init__(nn.Linear(dim, hidden_dim), between, nn.Dropout(dropout), nn.Linear(hidden_dim, dim))


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward network, each on its normalised input and added to it (pre-norm)."""

    def __init__(
        self, dim: int, *, n_heads: int, feedforward_dim: int, dropout: float, activation: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(dim)
        self.attention = MultiHeadAttention(dim, n_heads=n_heads, dropout=dropout, from_memory=False)
        self.feedforward_norm = nn.LayerNorm(dim)
        self.feedforward = FeedForward(dim, hidden_dim=feedforward_dim, dropout=dropout, activation=activation)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, key_bias: Tensor | None = None) -> Tensor:
        """Refine x (B, T, D); `key_bias` (B, T) can hide snippets."""
        x = x + self.dropout(self.attention(self.attention_norm(x), key_bias=key_bias))
        return x + self.dropout(self.feedforward(self.feedforward_norm(x)))  # type: ignore[no-any-return]


class DecoderLayer(nn.Module):
    """Self-attention among the queries, attention to a memory, feed-forward network; pre-norm residuals."""

    def __init__(self, dim: int, *, n_heads: int, feedforward_dim: int, dropout: float) -> None:
        super().__init__()
        self.self_norm = nn.LayerNorm(dim)
        self.self_attention = MultiHeadAttention(dim, n_heads=n_heads, dropout=dropout, from_memory=False)
        self.cross_norm = nn.LayerNorm(dim)
        self.cross_attention = MultiHeadAttention(dim, n_heads=n_heads, dropout=dropout, from_memory=True)
        self.feedforward_norm = nn.LayerNorm(dim)
        self.feedforward = FeedForward(dim, hidden_dim=feedforward_dim, dropout=dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(self, queries: Tensor, memory: Tensor, key_bias: Tensor | None = None) -> Tensor:
        """Refine queries (1 or B, N, D) by memory (B, M, D), whose keys `key_bias` (B, M) can hide; (B, N, D)."""
        # Queries that all videos share have batch size 1: self-attention is computed once, then broadcast to B.
        queries = queries + self.dropout(self.self_attention(self.self_norm(queries)))
        queries = queries.expand(memory.shape[0], -1, -1)
        queries = queries + self.dropout(self.cross_attention(self.cross_norm(queries), memory, key_bias))
        return queries + self.dropout(self.feedforward(self.feedforward_norm(queries)))  # type: ignore[no-any-return]
