"""What a run without a bundle makes for itself, with PyTorch: a bundle of random weights, and counts of its work."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stale_edge.benchmarking.macs import count_macs
from stale_edge.benchmarking.network import Network, TextTower
from stale_edge.benchmarking.reference import build_detector, build_text_tower
from stale_edge.benchmarking.rounds import Progress
from stale_edge.bundle import ClassBank, FeatureContract, graph_metadata, write_bundle
from stale_edge.config import DecodeConfig, FeatureSpec
from stale_edge.errors import MissingExtraError

FORMAT_OF = {"onnxruntime": "onnx", "torchscript": "torchscript"}


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
        progress: called as progress(stage, done, total, note).

    Raises:
        MissingExtraError: torch, or what exports with it, is not installed.
    """
    try:
        from stale_edge.exporting.detector import DetectorExporter
        from stale_edge.exporting.detector_graph import fixed_length, graph_inputs, graph_outputs
        from stale_edge.exporting.formats import find_format
    except ImportError as error:
        raise MissingExtraError(
            "without a bundle, bench exports a network first, which needs torch, onnx and onnxscript: name a bundle, "
            'or pip install "stale-edge[train,export]"'
        ) from error
    model = build_detector(network, seed=seed)
    length, decode = fixed_length(network.model), DecodeConfig()
    spec = FeatureSpec(encoder="random numbers", channels=network.model.feature_channels)
    contract = FeatureContract.from_spec(spec, length=length, resampling="linear" if length is not None else "none")
    generator = np.random.default_rng(seed)
    bank = ClassBank(
        tuple(f"class {k}" for k in range(network.n_classes)),
        generator.standard_normal((network.n_classes, network.model.embed_dim), dtype=np.float32),
        "random numbers",
    )
    metadata = graph_metadata(
        architecture=network.model.architecture, feature_contract=contract, decode=decode, class_names=bank.names
    )
    exporter = DetectorExporter(model)
    wanted = list(artifacts) or [("onnxruntime", "fp32")]
    stage = "export" if length is None else f"T = {length}: export"
    with write_bundle(path) as writer:
        for done, (runtime, precision) in enumerate(wanted):
            progress(stage, done, len(wanted), f"{runtime} {precision}")
            row = find_format(FORMAT_OF[runtime], precision)
            weights = exporter.write(row, writer.folder / row.file_name, metadata=metadata)
            writer.add_detector(
                row.file_name,
                runtime=runtime,
                precision=precision,
                inputs=graph_inputs(network.model),
                outputs=graph_outputs(network.model),
                weights_quantized=weights.numbers_low if precision == "int8" else None,
                weights_total=weights.numbers,
                note=row.note,
            )
        writer.set_class_bank(bank)
        writer.commit(
            architecture=network.model.architecture,
            feature_contract=contract,
            decode=decode,
            provenance={"weights": "random, for measuring time alone"},
        )
    progress(stage, len(wanted), len(wanted), "")


def detector_macs(network: Network, length: int) -> int:
    """Count the multiply-accumulates of a detector at T = `length`, of the outputs that deployment needs."""
    import torch

    from stale_edge.exporting.detector_graph import DetectorGraph

    network = network.at(length)
    module = DetectorGraph(build_detector(network, seed=0)).eval()
    features = torch.zeros(1, length, network.model.feature_channels)
    return count_macs(module, (features, torch.ones(network.n_classes, network.model.embed_dim)))


def text_macs(tower: TextTower, n_classes: int) -> int:
    """Count the multiply-accumulates of embedding all class prompts once."""
    module, inputs = build_text_tower(tower, n_classes, seed=0)
    return count_macs(module, inputs)
