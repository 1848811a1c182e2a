"""Layers made of plain matrix products equal the operators that they replace."""

import pytest
import torch
from torch import nn

from stale_edge.model.layers import MASKED_OUT, DecoderLayer, MultiHeadAttention, UnfoldedConv1d, l2_normalize

TOLERANCE = 1e-5  # float32, sums of some dozen products in another order


@pytest.mark.parametrize("length", [1, 2, 3, 11])
@pytest.mark.parametrize(("kernel_size", "dilation"), [(1, 1), (3, 1), (3, 5), (5, 2)])
def test_unfolded_convolution_is_conv1d(length: int, kernel_size: int, dilation: int) -> None:
    torch.manual_seed(0)
    ours = UnfoldedConv1d(4, 6, kernel_size=kernel_size, dilation=dilation)
    theirs = nn.Conv1d(4, 6, kernel_size, dilation=dilation, padding=dilation * (kernel_size // 2))
    with torch.no_grad():
        theirs.weight.copy_(ours.linear.weight.unflatten(1, (kernel_size, 4)).transpose(1, 2))
        theirs.bias.copy_(ours.linear.bias)
    x = torch.randn(2, length, 4)
    torch.testing.assert_close(ours(x), theirs(x.transpose(1, 2)).transpose(1, 2), atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("arguments", [{"kernel_size": 2}, {"kernel_size": -1}, {"kernel_size": 3, "dilation": 0}])
def test_an_impossible_convolution_is_refused(arguments: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="kernel_size must be odd"):
        UnfoldedConv1d(4, 4, **arguments)


@pytest.mark.parametrize("from_memory", [False, True])
def test_attention_is_multihead_attention(from_memory: bool) -> None:
    torch.manual_seed(0)
    ours = MultiHeadAttention(8, n_heads=2, dropout=0.0, from_memory=from_memory)
    theirs = nn.MultiheadAttention(8, 2, batch_first=True)
    packed = [ours.query, ours.key_value] if from_memory else [ours.query_key_value]
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([layer.weight for layer in packed]))
        theirs.in_proj_bias.copy_(torch.cat([layer.bias for layer in packed]))
    theirs.out_proj.load_state_dict(ours.out.state_dict())
    queries, other = torch.randn(3, 5, 8), torch.randn(3, 7, 8)
    memory = other if from_memory else queries
    expected, _ = theirs(queries, memory, memory)
    torch.testing.assert_close(ours(queries, memory), expected, atol=TOLERANCE, rtol=0)


def test_a_hidden_key_is_as_if_it_were_not_there() -> None:
    torch.manual_seed(0)
    layer = DecoderLayer(8, n_heads=2, feedforward_dim=16, dropout=0.5).eval()
    queries, memory = torch.randn(1, 3, 8), torch.randn(2, 5, 8)
    hide_last_two = torch.tensor([0.0, 0.0, 0.0, MASKED_OUT, MASKED_OUT]).expand(2, -1)
    torch.testing.assert_close(
        layer(queries, memory, hide_last_two), layer(queries, memory[:, :3]), atol=TOLERANCE, rtol=0
    )


def test_attention_without_its_memory_is_refused() -> None:
    layer = MultiHeadAttention(8, n_heads=2, dropout=0.0, from_memory=True)
    with pytest.raises(ValueError, match="reads from a memory"):
        layer(torch.zeros(1, 2, 8))


def test_normalised_vectors_have_length_one_and_zero_stays_zero() -> None:
    vectors = torch.tensor([[3.0, 4.0], [0.0, 0.0], [-30.0, 40.0]])
    expected = torch.tensor([[0.6, 0.8], [0.0, 0.0], [-0.6, 0.8]])
    torch.testing.assert_close(l2_normalize(vectors), expected, atol=1e-6, rtol=0)
