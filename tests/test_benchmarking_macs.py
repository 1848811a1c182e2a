"""Multiply-accumulates against counts by hand."""

import dataclasses

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("fvcore")

from torch import Tensor, nn  # noqa: E402

from stale_edge.benchmarking.network_sizes import FULL_SIZE, Network, TextTower  # noqa: E402
from stale_edge.benchmarking.torch_rows.counts import detector_macs, text_macs  # noqa: E402
from stale_edge.benchmarking.torch_rows.macs import count_macs  # noqa: E402
from stale_edge.config import ModelConfig  # noqa: E402
from stale_edge.errors import StaleEdgeError  # noqa: E402

T, D, HIDDEN = 5, 8, 16
ATTENTION = T * D * 3 * D + 2 * T * T * D + T * D * D
"""By hand: q, k and v of T snippets; queries times keys and weights times values, over all heads; the output layer."""


class Apply(nn.Module):
    """A function as a module."""

    def __init__(self, function, **modules: nn.Module) -> None:  # type: ignore[no-untyped-def]
        super().__init__()
        self.function = function
        for name, module in modules.items():
            self.add_module(name, module)

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(*inputs)  # type: ignore[no-any-return]


@pytest.mark.parametrize("need_weights", [True, False], ids=["written out", "fused"])
def test_attention_layer_by_hand(need_weights: bool) -> None:
    attention = nn.MultiheadAttention(D, 2, batch_first=True).eval()
    module = Apply(lambda x: attention(x, x, x, need_weights=need_weights)[0], attention=attention)
    assert count_macs(module, [torch.randn(1, T, D)]) == ATTENTION
    assert count_macs(module, [torch.randn(3, T, D)]) == 3 * ATTENTION


def test_encoder_layer_by_hand_despite_the_fast_path() -> None:
    layer = nn.TransformerEncoderLayer(D, 2, HIDDEN, batch_first=True).eval()
    assert count_macs(layer, [torch.randn(1, T, D)]) == ATTENTION + 2 * T * D * HIDDEN
    assert torch.backends.mha.get_fastpath_enabled()  # and it is left as it was


@pytest.mark.parametrize(
    ("function", "shapes", "macs"),
    [
        (lambda a, b: a @ b, [(3, 4), (4, 5)], 3 * 4 * 5),
        (lambda a, b: a @ b, [(2, 3, 4), (4, 5)], 2 * 3 * 4 * 5),
        (torch.bmm, [(2, 3, 4), (2, 4, 5)], 2 * 3 * 4 * 5),
        (torch.addmm, [(3, 5), (3, 4), (4, 5)], 3 * 4 * 5),
        (torch.baddbmm, [(2, 3, 5), (2, 3, 4), (2, 4, 5)], 2 * 3 * 4 * 5),
        (lambda a, b: torch.einsum("bct, bkc -> bkt", a, b), [(2, 3, 4), (2, 5, 3)], 2 * 3 * 4 * 5),
        # two heads, 3 queries, 6 keys, width 4, values of width 7
        (nn.functional.scaled_dot_product_attention, [(1, 2, 3, 4), (1, 2, 6, 4), (1, 2, 6, 7)], 2 * 3 * 6 * (4 + 7)),
        (nn.functional.conv1d, [(2, 4, 10), (6, 4, 3)], 2 * 6 * 8 * 4 * 3),
        (lambda x, w: nn.functional.conv1d(x, w, groups=2), [(1, 4, 10), (6, 2, 3)], 6 * 8 * 2 * 3),
        (lambda x: x.softmax(-1) + x.norm(), [(3, 4)], 0),  # no product of matrices
    ],
    ids=["mm", "matmul", "bmm", "addmm", "baddbmm", "einsum", "sdpa", "conv", "grouped conv", "elementwise"],
)
def test_operators_by_hand(function, shapes: list[tuple[int, ...]], macs: int) -> None:  # type: ignore[no-untyped-def]
    assert count_macs(Apply(function), [torch.randn(shape) for shape in shapes]) == macs


def test_an_operator_that_is_not_counted_is_an_error() -> None:
    with pytest.raises(StaleEdgeError, match="lstm are not counted"):
        count_macs(Apply(lambda x: lstm(x)[0], lstm=(lstm := nn.LSTM(4, 4))), [torch.randn(2, 1, 4)])
    with pytest.raises(StaleEdgeError, match="transposed"):
        count_macs(nn.ConvTranspose1d(4, 4, 3), [torch.randn(1, 4, 10)])
    with pytest.raises(StaleEdgeError, match="einsum 'i,j,k->ijk' is not counted"):
        count_macs(Apply(lambda x: torch.einsum("i,j,k->ijk", x, x, x)), [torch.randn(3)])


def test_text_tower_by_hand() -> None:
    tower = TextTower(
        vocabulary=32,
        width=8,
        feedforward=16,
        layers=3,
        heads=2,
        positions=9,
        embed_dim=6,
        prompt_tokens=((4, 2), (5, 1)),
    )
    tokens = 7 * 5  # seven classes, all padded to the longest prompt
    layer = tokens * (4 * 8 * 8 + 2 * 8 * 16) + 2 * tokens * 5 * 8
    assert text_macs(tower, 7) == 3 * layer + 7 * 8 * 6


def test_full_size_detector_by_hand() -> None:
    """Every product of the folded release network that an output needs, T = 100, K = 200, D = 512."""
    t, d, k = 100, 512, 201  # background included
    wide, heads = 4 * d, 4  # four heads, each as wide as the embedding
    temporal = 2 * t * d * wide + 2 * heads * t * t * d
    localizer = t * (3 * d) * (d // 2) + t * (d // 2) * t
    adaption = 2 * k * d * wide + 2 * heads * k * t * d
    classifier = k * t * d
    encoder = 2 * (4 * t * d * d + 2 * t * t * d + 2 * t * d)
    decoder = 2 * (d * d + 2 * (2 * d * d) + 2 * (2 * t * d) + 2 * d)  # two heads of one query that read D channels
    foreground = t * d * d + encoder + decoder + 3 * d * d + t * d
    by_hand = temporal + localizer + adaption + classifier + foreground
    assert detector_macs(FULL_SIZE, 100) == by_hand
    # For a video `detect` runs no foreground, and the classes' queries, one for all four heads each, are there already.
    assert detector_macs(FULL_SIZE, 100, whole=False) == by_hand - foreground - k * d * wide


def test_paper_detector_grows_with_length() -> None:
    network = Network(ModelConfig(feature_channels=16, embed_dim=16, n_heads=2, feedforward_dim=16, localizer_dim=8), 3)
    assert detector_macs(network, 8) < detector_macs(network, 16)


def test_what_detect_leaves_out_of_the_paper_detector_by_hand() -> None:
    """Classes attend to each other ahead, with the queries of their look at the video; a hundred masks are made."""
    t, d, k, width = 130, 16, 4, 3
    sizes = ModelConfig(feature_channels=d, embed_dim=d, n_heads=2, feedforward_dim=16, localizer_dim=8)
    network = Network(dataclasses.replace(sizes, dynamic_channels=width), k - 1)  # background is a class here
    of_classes = 4 * k * d * d + 2 * k * k * d + k * d * d
    n = width + 1
    a_mask = t * (n * (width + 2) + n * n + n)
    left_out = detector_macs(network, t) - detector_macs(network, t, whole=False)
    assert left_out == of_classes + (t - 100) * a_mask
