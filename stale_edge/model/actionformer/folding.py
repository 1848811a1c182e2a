"""Blocks with the scales of their halves and of attention logits multiplied into the weights, for inference."""

import copy
from typing import cast

import torch
from torch import Tensor, nn

from stale_edge.model.actionformer.layers import Block, DropPath


def fold_blocks(network: nn.Module) -> nn.Module:
    """Copy a network and fold every block of ActionFormer in it: exact as far as algebra goes, only rounding differs.

    The learned scale of each half of a block goes into the layer before it, 1 / sqrt(channels of a head) into the
    queries. That saves three passes over the snippets in every block.
    """
    folded = copy.deepcopy(network)
    for block in folded.modules():
        if isinstance(block, Block):
            _fold(block)
    return folded


def _fold(block: Block) -> None:
    attention = block.attention
    query = attention.query.linear
    _scale(query, torch.tensor((query.out_features // attention.n_heads) ** -0.5))
    attention.scales_queries = False
    _scale(attention.out, cast(DropPath, block.attention_path).scale)
    _scale(cast(nn.Linear, block.feedforward[-1]), cast(DropPath, block.feedforward_path).scale)
    block.attention_path = block.feedforward_path = nn.Identity()


def _scale(layer: nn.Linear, factor: Tensor) -> None:
    """Multiply what a layer gives by a number, or by one number a channel."""
    with torch.no_grad():
        layer.weight.mul_(factor.reshape(-1, 1))
        layer.bias.mul_(factor)
