"""Multiply-accumulates of the rows: for the outputs that deployment needs, and for the text tower."""

from typing import Any, cast

import torch
from torch import nn

from stale_edge.benchmarking.deployed_detector import most_voting
from stale_edge.benchmarking.network_sizes import Network, TextTower
from stale_edge.benchmarking.torch_rows.detectors import ForDecoding, build_detector, read_outputs
from stale_edge.benchmarking.torch_rows.macs import count_macs
from stale_edge.benchmarking.torch_rows.text_tower import build_text_tower
from stale_edge.config import DecodeConfig
from stale_edge.model.architectures import architecture_of
from stale_edge.model.detector import Detector
from stale_edge.model.folding import fold_detector
from stale_edge.model.stale.folded_paper import FoldedMaskHead


def detector_macs(network: Network, length: int, *, folded: bool = True, whole: bool = True) -> int:
    """Count the multiply-accumulates of a detector at T = `length`, for the outputs that deployment needs.

    Args:
        network: sizes of the detector.
        length: T in snippets.
        folded: count the exported detector; False: the network as its public program runs it.
        whole: count all outputs; False: count the work of `detect` for a video, which needs no foreground, computes
            values of the classes alone in advance, and makes only those of the paper's masks that decoding may read.
    """
    network = network.at(length)
    model = build_detector(network, seed=0)
    detector = cast(Detector, model)
    reads, outputs = read_outputs(detector), [spec.name for spec in detector.output_specs()]
    model = fold_detector(model) if folded else architecture_of(network.model.architecture).public_form(model)
    classes = torch.ones(network.n_classes, network.model.embed_dim)
    videos = torch.zeros(2, length, network.model.feature_channels)
    if whole:
        return count_macs(ForDecoding(model, outputs).eval(), (videos[:1], classes))
    # A second video adds only the work that depends on videos; work that depends only on the classes is shared.
    one, two = (count_macs(ForDecoding(model, reads).eval(), (videos[:n], classes)) for n in (1, 2))
    return two - one - _macs_of_unread_masks(model, length)


def _macs_of_unread_masks(model: nn.Module, length: int) -> int:
    """Count the work of masks that `detect` does not make; only the paper's folded network makes masks one by one."""
    head = getattr(model, "localizer", None)
    if not isinstance(head, FoldedMaskHead):
        return 0
    first = head.first
    embedding = torch.zeros(1, length, first.linear.in_features // first.kernel_size)
    one, two = (count_macs(head.eval(), (embedding, torch.arange(n))) for n in (1, 2))
    return (length - len(most_voting(length, DecodeConfig()))) * (two - one)


def text_macs(tower: TextTower, n_classes: int) -> int:
    """Count the multiply-accumulates of embedding all class prompts once."""
    module, inputs = build_text_tower(tower, n_classes, seed=0)
    return count_macs(module, inputs)


def describe_network(network: Network) -> dict[str, Any]:
    """Describe a network for the protocol: its architecture, K and number of parameters, in plain JSON values."""
    model = build_detector(network, seed=0)
    return {
        "architecture": network.model.architecture,
        "n_classes": network.n_classes,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }
