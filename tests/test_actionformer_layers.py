"""Attention in bands, strided layers and the pyramid neck, each against a slow obvious twin."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from stale_edge.model.actionformer import ActionFormerConfig
from stale_edge.model.actionformer.band import band_attention
from stale_edge.model.actionformer.heads import PyramidNeck
from stale_edge.model.actionformer.layers import HIDDEN, DropPath
from stale_edge.model.pyramid.layers import DepthwiseConvolution, halved_maximum

TOLERANCE = 1e-5


def dense_attention(q: Tensor, k: Tensor, v: Tensor, shown: Tensor, relative: Tensor | None, reach: int) -> Tensor:
    """Attend with a full (T, T) matrix of logits, head by head, query by query."""
    n_videos, length, dim = q.shape
    n_heads = 2
    width = dim // n_heads
    out = torch.zeros_like(q)
    for b in range(n_videos):
        for head in range(n_heads):
            part = slice(head * width, (head + 1) * width)
            for i in range(length):
                keys = [j for j in range(max(0, i - reach), min(length, i + reach + 1)) if shown[b, j]]
                if not keys:
                    continue
                logits = torch.stack([q[b, i, part] @ k[b, j, part] / width**0.5 for j in keys])
                if relative is not None:
                    logits = logits + torch.stack([relative[head, j - i + reach] for j in keys])
                out[b, i, part] = logits.softmax(dim=0) @ torch.stack([v[b, j, part] for j in keys])
    return out


@pytest.mark.parametrize("with_relative", [False, True])
@pytest.mark.parametrize(
    ("length", "reach"),
    [
        (70, 9),  # three blocks, the last one not full
        (32, 2),  # exactly one block
        (3, 2),  # shorter than a block
        (41, 40),  # a window wider than a block
    ],
)
def test_bands_read_what_a_full_matrix_reads(length: int, reach: int, with_relative: bool) -> None:
    torch.manual_seed(length)
    q, k, v = torch.randn(3, 2, length, 8)
    relative = torch.randn(2, 2 * reach + 1) if with_relative else None
    shown = torch.ones(2, length)
    shown[1, length // 2 + 1 :] = 0
    found = band_attention(q / 4**0.5, k, v, (1 - shown) * HIDDEN, n_heads=2, reach=reach, relative=relative)
    expected = dense_attention(q, k, v, shown, relative, reach)
    torch.testing.assert_close(found[shown > 0], expected[shown > 0], atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("stride", [1, 2])
def test_depthwise_convolution_is_the_one_of_torch(stride: int) -> None:
    torch.manual_seed(stride)
    layer, x = DepthwiseConvolution(5, stride=stride), torch.randn(2, 12, 5)
    weight = layer.weight.T[:, None]  # (C, 1, 3)
    expected = F.conv1d(x.transpose(1, 2), weight, stride=stride, padding=1, groups=5).transpose(1, 2)
    torch.testing.assert_close(layer(x), expected, atol=TOLERANCE, rtol=0)


def test_halved_maximum_is_max_pooling() -> None:
    x = torch.randn(2, 12, 5) - 3  # below zero, so that a padding of zeros would win
    expected = F.max_pool1d(x.transpose(1, 2), kernel_size=3, stride=2, padding=1).transpose(1, 2)
    torch.testing.assert_close(halved_maximum(x), expected, atol=0, rtol=0)


def test_pyramid_neck_adds_coarse_levels_to_finer_ones() -> None:
    torch.manual_seed(0)
    config = ActionFormerConfig(
        pyramid_dim=8, neck_dim=6, n_heads=2, neck="fpn", windows=(5,) * 3, ranges=((0, 4), (4, 8), (8, 100)),
        max_length=64,
    )  # fmt: skip
    neck = PyramidNeck(config)
    levels = [torch.randn(2, 16 >> level, 8) for level in range(3)]
    valid = [torch.zeros(2, 16 >> level, 1) for level in range(3)]
    for level, mask in enumerate(valid):
        mask[:, : -(-9 // 2**level)] = 1
    found = neck(levels, valid)

    lateral = [
        (level @ layer.weight.T * mask).transpose(1, 2)
        for level, layer, mask in zip(levels, neck.lateral, valid, strict=True)
    ]
    lateral[1] = lateral[1] + F.interpolate(lateral[2], scale_factor=2, mode="nearest")
    lateral[0] = lateral[0] + F.interpolate(lateral[1], scale_factor=2, mode="nearest")
    for level in range(3):
        smooth = F.conv1d(lateral[level], neck.smooth[level].weight.T[:, None], padding=1, groups=6).transpose(1, 2)
        expected = neck.norms[level](smooth * valid[level])
        torch.testing.assert_close(found[level], expected, atol=TOLERANCE, rtol=0)


def test_drop_path_keeps_the_mean_and_does_nothing_outside_training() -> None:
    torch.manual_seed(0)
    layer = DropPath(4, chance=0.25)
    torch.nn.init.ones_(layer.scale)
    x = torch.ones(4000, 1, 4)
    dropped = layer(x)
    assert dropped.unique().tolist() == pytest.approx([0.0, 4 / 3])
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.03)
    torch.testing.assert_close(layer.eval()(x), x)
