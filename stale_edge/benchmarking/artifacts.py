"""What a run without a bundle makes for itself, with PyTorch: a bundle of random weights, and counts of its work."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stale_edge.benchmarking.macs import count_macs
from stale_edge.benchmarking.network import Network, TextTower
from stale_edge.benchmarking.reference import build_detector, build_text_tower
from stale_edge.benchmarking.workloads import random_features
from stale_edge.bundle import ClassBank, FeatureContract, graph_metadata, write_bundle
from stale_edge.config import DecodeConfig, FeatureSpec
from stale_edge.config.runtimes import PRECISIONS, RUNTIMES, file_for
from stale_edge.errors import MissingExtraError
from stale_edge.progress import Progress

if TYPE_CHECKING:
    from torch import Tensor, nn

    from stale_edge.exporting.calibration import Calibration

CALIBRATION_VIDEOS = 2
"""Ranges of random features need no more, and at T = 3000 every video of attention scores costs memory."""


def make_bundle(
    path: Path, network: Network, artifacts: Sequence[tuple[str, str]], *, seed: int, progress: Progress
) -> None:
    """Write a bundle of a network with random weights, to be measured and thrown away.

    It passes no parity gate: the decisions of random weights mean nothing, and their speed does not depend on them.

    Args:
        path: the bundle's folder, not yet there.
        network: for `release`, made for the length to be measured.
        artifacts: (runtime, precision) to export; a bundle cannot be empty, so none means ONNX in fp32.
        seed: of weights and class bank.
        progress: called with (stage, done, total, note).

    Raises:
        MissingExtraError: torch, or what exports with it, is not installed.
    """
    try:
        from stale_edge.exporting.calibration import Calibration
        from stale_edge.exporting.graph.detector_graph import fixed_length
    except ImportError as error:
        raise MissingExtraError(
            "without a bundle, bench exports a network first, which needs torch, onnx and onnxscript: name a bundle, "
            'or pip install "stale-edge[train,export]"'
        ) from error
    model = build_detector(network, seed=seed)
    length, channels = fixed_length(network.model), network.model.feature_channels
    spec = FeatureSpec(encoder="random numbers", channels=channels)
    generator = np.random.default_rng(seed)
    bank = ClassBank(
        tuple(f"class {k}" for k in range(network.n_classes)),
        generator.standard_normal((network.n_classes, network.model.embed_dim), dtype=np.float32),
        "random numbers",
    )
    videos = tuple(random_features(length or 200, channels, seed=seed + 1 + i) for i in range(CALIBRATION_VIDEOS))
    deployed = Deployed(
        model,
        bank,
        FeatureContract.from_spec(spec, length=length, resampling="linear" if length is not None else "none"),
        Calibration(videos, bank.embeddings, "random features"),
        "random, for measuring time alone",
    )
    stage = "export" if length is None else f"T = {length}: export"
    write_unjudged(path, deployed, artifacts, stage=stage, progress=progress)


@dataclass(frozen=True)
class Deployed:
    """What goes into a bundle: a detector on the CPU, its vocabulary, contract, videos for int8, and its origin."""

    model: "nn.Module"
    bank: ClassBank
    contract: FeatureContract
    calibration: "Calibration"
    weights: str


def write_unjudged(
    path: Path, deployed: Deployed, artifacts: Sequence[tuple[str, str]], *, stage: str, progress: Progress
) -> None:
    """Write a bundle that no parity gate has seen, with the products in float32 that an exporter keeps unasked.

    Args:
        path: the bundle's folder, not yet there.
        deployed: what is exported.
        artifacts: (runtime, precision) that it will be run with; a bundle cannot be empty, so none means ONNX in fp32.
        stage: what progress calls it.
        progress: called with (stage, done, total, note).
    """
    from stale_edge.exporting.detector_exporter import DetectorExporter
    from stale_edge.exporting.formats import find_format
    from stale_edge.exporting.graph.detector_graph import graph_inputs, graph_outputs, model_config

    config, decode = model_config(deployed.model), DecodeConfig()
    metadata = graph_metadata(
        architecture=config.architecture,
        feature_contract=deployed.contract,
        decode=decode,
        class_names=deployed.bank.names,
    )
    exporter = DetectorExporter(deployed.model, calibration=deployed.calibration)
    files = list(dict.fromkeys(file_for(*pair) for pair in artifacts)) or [("onnxruntime", "fp32")]
    with write_bundle(path) as writer:
        for done, (runtime, precision) in enumerate(files):
            progress(stage, done, len(files), f"{runtime} {precision}")
            row = find_format(RUNTIMES[runtime].format, precision)
            weights = exporter.write(row, writer.folder / row.file_name, metadata=metadata)
            writer.add_file(
                row.file_name,
                role="detector",
                runtime=runtime,
                precision=precision,
                inputs=graph_inputs(config),
                outputs=graph_outputs(config),
                weights_quantized=weights.numbers_low if PRECISIONS[precision].products == "int8" else None,
                weights_total=weights.numbers,
                note=row.note,
            )
        writer.set_class_bank(deployed.bank)
        writer.commit(
            architecture=config.architecture,
            feature_contract=deployed.contract,
            decode=decode,
            provenance={"weights": deployed.weights},
        )
    progress(stage, len(files), len(files), "")


def detector_macs(network: Network, length: int, *, folded: bool = True, whole: bool = True) -> int:
    """Count the multiply-accumulates of a detector at T = `length`, of the outputs that deployment needs.

    Args:
        network: whose sizes are counted.
        length: T in snippets.
        folded: as it is exported; else as it is trained.
        whole: count all of its outputs; else what `detect` runs for a video, which needs no foreground, computes what
            depends on the classes alone ahead, and makes of the paper's masks only those that decoding may read.
    """
    import torch

    from stale_edge.exporting.graph.detector_graph import DetectorGraph
    from stale_edge.model.folding import fold_detector

    network = network.at(length)
    model = build_detector(network, seed=0)
    if folded:
        model = fold_detector(model)
    classes = torch.ones(network.n_classes, network.model.embed_dim)
    videos = torch.zeros(2, length, network.model.feature_channels)
    if whole:
        return count_macs(DetectorGraph(model).eval(), (videos[:1], classes))
    # A second video costs what depends on videos; what depends on the classes alone, all videos of a call share.
    one, two = (count_macs(for_decoding(model), (videos[:n], classes)) for n in (1, 2))
    return two - one - _macs_of_unread_masks(model, length)


def _macs_of_unread_masks(model: "nn.Module", length: int) -> int:
    """Count what masks take that `detect` does not make; only the paper's network, folded, makes them one by one."""
    import torch
    from torch import nn

    from stale_edge.benchmarking.deployed_detector import most_voting
    from stale_edge.model.stale.folded_paper import FoldedLocalizer

    if not isinstance(model.localizer, FoldedLocalizer):
        return 0

    class SomeMasks(nn.Module):
        def __init__(self, localizer: FoldedLocalizer) -> None:
            super().__init__()
            self.localizer = localizer

        def forward(self, embedding: "Tensor", snippets: "Tensor") -> "Tensor":
            masks: Tensor = self.localizer(embedding, snippets)
            return masks

    first = model.localizer.first
    embedding = torch.zeros(1, length, first.linear.in_features // first.kernel_size)
    counter = SomeMasks(model.localizer).eval()
    one, two = (count_macs(counter, (embedding, torch.arange(n))) for n in (1, 2))
    return (length - len(most_voting(length, DecodeConfig()))) * (two - one)


def for_decoding(detector: "nn.Module") -> "nn.Module":
    """Reduce a detector to the outputs that decoding reads, class logits and masks."""
    from torch import nn

    from stale_edge.exporting.graph.detector_graph import DetectorGraph

    class ForDecoding(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.whole = DetectorGraph(detector)  # not `graph`: a recorded module has one of its own

        def forward(self, features: "Tensor", class_embeddings: "Tensor") -> "tuple[Tensor, ...]":
            outputs: tuple[Tensor, ...] = self.whole(features, class_embeddings)
            return outputs[:2]

    return ForDecoding().eval()


def text_macs(tower: TextTower, n_classes: int) -> int:
    """Count the multiply-accumulates of embedding all class prompts once."""
    module, inputs = build_text_tower(tower, n_classes, seed=0)
    return count_macs(module, inputs)
