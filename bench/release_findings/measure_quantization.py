"""Count the weights of the public network that become int8 when quantized like in the thesis' code."""

import warnings
from typing import Any

import quirks
from torch import nn

from stale_edge.benchmarking.network_sizes import FULL_SIZE, TextTower
from stale_edge.benchmarking.torch_rows.text_tower import build_text_tower


def measure_quantization(length: int) -> dict[str, Any]:
    """Quantize layers of the public network's sizes like the thesis' code; count the weights."""

    class Wide(nn.Module):  # utils/transformer.py:37-48
        def __init__(self) -> None:
            super().__init__()
            self.w_qs, self.w_ks, self.w_vs = (nn.Linear(512, 4 * 512, bias=False) for _ in range(3))
            self.fc = nn.Linear(4 * 512, 512)

    class Layer(nn.Module):  # MaskFormer's, one or two attentions and a feed-forward network of width 1
        def __init__(self, attentions: int) -> None:
            super().__init__()
            self.attentions = nn.ModuleList(nn.MultiheadAttention(512, 2) for _ in range(attentions))
            self.linear1, self.linear2 = nn.Linear(512, 1), nn.Linear(1, 512)

    text, _ = build_text_tower(TextTower(), FULL_SIZE.n_classes, seed=0)
    network = nn.ModuleDict(
        {
            "embedding": Wide(),
            "cross_att": Wide(),
            "masktrans": nn.ModuleList(
                [
                    nn.Conv2d(512, 512, 1),
                    *(Layer(1) for _ in range(2)),
                    *(Layer(2) for _ in range(2)),
                    *(nn.Linear(512, 512) for _ in range(3)),
                ]
            ),
            "localizer_mask": nn.ModuleList([nn.Conv1d(512, 256, 3), nn.Conv1d(256, length, 1, bias=False)]),
            "text_model": text,
        }
    ).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        counted = quirks.quantized_weights(network)
    embeddings = sum(layer.weight.numel() for layer in text.modules() if isinstance(layer, nn.Embedding))
    return {"by_layer": counted, "token_embeddings_left_fp32": embeddings}
