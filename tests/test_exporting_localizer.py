"""Localizer files: features to segments in one graph, for every architecture, policy and precision."""

from pathlib import Path
from typing import NamedTuple

import exporting_case as case
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto

from stale_edge.bundle import localizer_inputs, localizer_outputs
from stale_edge.config import DecodeConfig, ModelConfig
from stale_edge.decoding import decode_arrays
from stale_edge.exporting import DetectorExporter
from stale_edge.exporting.artifact_formats import find_format
from stale_edge.exporting.decoder.pipeline_graph import pipeline_graph
from stale_edge.exporting.graph.recording import OPSET, all_nodes, save_onnx
from stale_edge.exporting.pipeline import PIPELINE_FILES
from stale_edge.model import build_model

DURATION_S = 83.25
POLICIES = {"paper": DecodeConfig(), "release": DecodeConfig(policy="release")}


class Pair(NamedTuple):
    """A detector and the localizer made from it, opened."""

    config: ModelConfig
    decode: DecodeConfig
    detector: onnxruntime.InferenceSession
    localizer: onnxruntime.InferenceSession
    file: Path


def opened(path: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def exporters() -> dict[str, DetectorExporter]:
    torch.set_num_threads(1)
    torch.manual_seed(1)
    return {
        "paper": DetectorExporter(build_model(case.PAPER).eval()),
        "release": DetectorExporter(build_model(case.RELEASE).eval()),
    }


@pytest.fixture(
    scope="module",
    params=[(a, p, q) for a in ("paper", "release") for p in POLICIES for q in PIPELINE_FILES],
    ids="-".join,
)
def pair(
    request: pytest.FixtureRequest, exporters: dict[str, DetectorExporter], tmp_path_factory: pytest.TempPathFactory
) -> Pair:
    architecture, policy, precision = request.param
    exporter, decode, folder = exporters[architecture], POLICIES[policy], tmp_path_factory.mktemp("pair")
    row = find_format("onnx", precision)
    detector, localizer = folder / row.file_name, folder / PIPELINE_FILES[precision]
    exporter.write(row, detector, metadata={})
    graph = pipeline_graph(onnx.load(detector), model=exporter.config, decode=decode)
    save_onnx(graph, localizer, metadata={"key": "value"}, graph_name="localizer")
    return Pair(exporter.config, decode, opened(detector), opened(localizer), localizer)


def check(pair: Pair, features: np.ndarray, class_embeddings: np.ndarray) -> int:
    """Compare with detector and core; returns the number of detections."""
    feeds = {"features": features[None], "class_embeddings": class_embeddings}
    class_logits, masks = pair.detector.run(["class_logits", "masks"], feeds)
    wanted = decode_arrays(class_logits[0], masks[0], config=pair.decode)
    feeds["duration_s"] = np.array([DURATION_S], dtype=np.float32)
    segments, scores, labels = pair.localizer.run(None, feeds)
    assert (segments.dtype, scores.dtype, labels.dtype) == (np.float32, np.float32, np.int64)
    assert labels.tolist() == wanted.labels.tolist()
    np.testing.assert_allclose(segments, wanted.segments / len(features) * DURATION_S, rtol=1e-6, atol=1e-5)
    np.testing.assert_allclose(scores, wanted.scores, rtol=1e-6, atol=1e-37)  # one rounding to float32
    return len(labels)


def test_detections_are_those_of_detector_and_core(pair: Pair) -> None:
    rng = np.random.default_rng(0)
    found = 0
    for seed in range(40):
        K, T = int(rng.integers(1, 9)), pair.config.temporal_scale
        features = rng.standard_normal((T, case.CHANNELS)).astype(np.float32)
        if pair.config.architecture == "paper":
            features = features[: rng.integers(1, 60)] if seed % 2 else case.draw(1, seed=seed).features[0].numpy()
        found += check(pair, features, rng.standard_normal((K, case.CHANNELS)).astype(np.float32))
    assert found > 100


@pytest.mark.parametrize("K", [1, 3])
def test_hostile_features(pair: Pair, K: int) -> None:
    rng = np.random.default_rng(K)
    embeddings = rng.standard_normal((K, case.CHANNELS)).astype(np.float32)
    alike = np.tile(embeddings[:1], (3, 1))  # three names for one class: everything ties
    lengths = [1, 2, 3, 40] if pair.config.architecture == "paper" else [pair.config.temporal_scale]
    for T in lengths:
        still = np.tile(rng.standard_normal((1, case.CHANNELS)), (T, 1))
        for features in (np.zeros((T, case.CHANNELS)), still, 1e4 * rng.standard_normal((T, case.CHANNELS))):
            for classes in (embeddings, alike):
                check(pair, features.astype(np.float32), classes)


def test_one_file_of_standard_operators_with_the_promised_signature(pair: Pair) -> None:
    proto = onnx.load(pair.file)
    onnx.checker.check_model(proto, full_check=True)
    assert {node.domain for node in all_nodes(proto.graph)} <= {"", "ai.onnx"}
    assert not {"ConvInteger", "Scan"} & {node.op_type for node in all_nodes(proto.graph)}
    assert [(entry.domain, entry.version) for entry in proto.opset_import] == [("", OPSET)]
    assert all(tensor.data_location == TensorProto.DEFAULT for tensor in proto.graph.initializer)
    length = None if pair.config.architecture == "paper" else pair.config.temporal_scale
    promised = localizer_inputs(channels=case.CHANNELS, embed_dim=case.CHANNELS, length=length)
    for nodes, specs in (
        (pair.localizer.get_inputs(), promised),
        (pair.localizer.get_outputs(), localizer_outputs()),
    ):
        assert [(node.name, tuple(node.shape)) for node in nodes] == [(spec.name, spec.shape) for spec in specs]
    assert pair.localizer.get_modelmeta().custom_metadata_map == {"key": "value"}
    needed = {value.name for value in proto.graph.output} | {name for node in proto.graph.node for name in node.input}
    inner = {name for node in all_nodes(proto.graph) for name in node.input}
    assert not [node.name for node in proto.graph.node if not (needed | inner) & set(node.output)]


@pytest.mark.parametrize(("value", "duration_s"), [(0.0, -1.0), (0.0, np.nan), (np.nan, 10.0), (np.inf, 10.0)])
def test_what_is_no_number_is_an_error(pair: Pair, value: float, duration_s: float) -> None:
    feeds = {
        "features": np.full((1, pair.config.temporal_scale, case.CHANNELS), value, dtype=np.float32),
        "class_embeddings": np.ones((2, case.CHANNELS), dtype=np.float32),
        "duration_s": np.array([duration_s], dtype=np.float32),
    }
    with pytest.raises(Exception, match=r"Non-zero status code"):  # onnxruntime has no class for it
        pair.localizer.run(None, feeds)
