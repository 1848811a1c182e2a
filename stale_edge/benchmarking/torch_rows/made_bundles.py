"""Temporary bundles that a run makes for itself, without a parity check."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from torch import nn

from stale_edge.benchmarking.network_sizes import Network
from stale_edge.benchmarking.synthetic import random_features
from stale_edge.benchmarking.torch_rows.detectors import build_detector
from stale_edge.bundle import ClassBank, FeatureContract, graph_metadata, write_bundle
from stale_edge.config import Config, FeatureSpec
from stale_edge.config.runtimes import PRECISIONS, RUNTIMES, file_for
from stale_edge.exporting.artifact_formats import find_format
from stale_edge.exporting.calibration import Calibration
from stale_edge.exporting.detector_exporter import DetectorExporter
from stale_edge.exporting.graph.detector_graph import fixed_length, model_config
from stale_edge.model.architectures import architecture_of
from stale_edge.model.rows import HasRows, row_bank
from stale_edge.progress import Progress

CALIBRATION_VIDEOS = 2
"""Enough for ranges of random features; at T = 3000 the attention scores of every video need much memory."""


def make_bundle(
    path: Path, network: Network, artifacts: Sequence[tuple[str, str]], *, seed: int, progress: Progress
) -> None:
    """Write a temporary bundle of a network with random weights, to be measured.

    No parity check is made: the decisions of random weights mean nothing, and speed does not depend on them.

    Args:
        path: the bundle's folder; must not exist.
        network: the network; one of a fixed length is made for the length to measure.
        artifacts: (runtime, precision) to export; a bundle cannot be empty, so none means ONNX in fp32.
        seed: seed of weights and class bank.
        progress: called with (stage, done, total, note).
    """
    model = build_detector(network, seed=seed)
    length, channels = fixed_length(network.model), network.model.feature_channels
    spec = FeatureSpec(encoder="random numbers", channels=channels)
    names = tuple(f"class {k}" for k in range(network.n_classes))
    if architecture_of(network.model.architecture).space == "rows":
        bank = row_bank(cast(HasRows, model), names)
    else:
        rows = np.random.default_rng(seed).standard_normal((len(names), network.model.embed_dim), dtype=np.float32)
        bank = ClassBank(names, rows, "random numbers")
    videos = tuple(random_features(length or 200, channels, seed=seed + 1 + i) for i in range(CALIBRATION_VIDEOS))
    deployed = Deployed(
        model,
        bank,
        FeatureContract.from_spec(spec, length=length, resampling="linear" if length is not None else "none"),
        Calibration(videos, bank.embeddings, "random features"),
        "random, for measuring time alone",
    )
    stage = "export" if length is None else f"T = {length}: export"
    write_unchecked(path, deployed, artifacts, stage=stage, progress=progress)


@dataclass(frozen=True)
class Deployed:
    """Content of a bundle: a detector on the CPU, its vocabulary, contract, calibration videos and origin."""

    model: nn.Module
    bank: ClassBank
    contract: FeatureContract
    calibration: Calibration
    weights: str


def write_unchecked(
    path: Path, deployed: Deployed, artifacts: Sequence[tuple[str, str]], *, stage: str, progress: Progress
) -> None:
    """Write a bundle without a parity check, with the exporter's default products in float32.

    Args:
        path: the bundle's folder; must not exist.
        deployed: content to export.
        artifacts: (runtime, precision) to run it with; a bundle cannot be empty, so none means ONNX in fp32.
        stage: name of the stage for `progress`.
        progress: called with (stage, done, total, note).
    """
    config = model_config(deployed.model)
    row = architecture_of(config.architecture)
    decode = row.complete(Config(config, row.train, row.loss(), row.decode), len(deployed.bank)).decode
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
            made = find_format(RUNTIMES[runtime].format, precision)
            weights = exporter.write(made, writer.folder / made.file_name, metadata=metadata)
            writer.add_file(
                made.file_name,
                role="detector",
                runtime=runtime,
                precision=precision,
                inputs=exporter.inputs,
                outputs=exporter.outputs,
                weights_quantized=weights.numbers_low if PRECISIONS[precision].products == "int8" else None,
                weights_total=weights.numbers,
                note=made.note,
            )
        writer.set_class_bank(deployed.bank)
        writer.commit(
            architecture=config.architecture,
            feature_contract=deployed.contract,
            decode=decode,
            provenance={"weights": deployed.weights},
        )
    progress(stage, len(files), len(files), "")
