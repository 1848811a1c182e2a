"""Weights multiplied out in double precision, held in float32."""

import torch
from torch import Tensor, nn


def double(weight: Tensor) -> Tensor:
    """Read a weight in double precision, without its gradient."""
    return weight.detach().double()


def split_heads(weight: Tensor, axis: int, n_heads: int) -> Tensor:
    """Split an axis of a weight into heads and their channels, in double precision."""
    return torch.unflatten(double(weight), axis, (n_heads, -1))


def linear(weight: Tensor, bias: Tensor | None = None) -> nn.Linear:
    """Hold a product made in double precision, (out, in) as `nn.Linear` has it, in float32."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    with torch.no_grad():
        layer.weight.copy_(weight)
        if bias is not None:
            layer.bias.copy_(bias)
    return layer
