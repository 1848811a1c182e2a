"""Decoding as ONNX nodes: the same picks, labels and order as the C++ core, on anything."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from test_decoding import CONFIGS, made

from stale_edge.config import DecodeConfig
from stale_edge.decoding import decode_arrays
from stale_edge.exporting.decoder.graph_builder import GraphBuilder
from stale_edge.exporting.decoder.paper_decoder import paper_decoder
from stale_edge.exporting.decoder.release_decoder import release_decoder
from stale_edge.exporting.graph.recording import OPSET, all_nodes

RELEASE = DecodeConfig(policy="release")
HARD = DecodeConfig(soft_nms="hard", tiou_threshold=0.0, min_score=0.0)
"""Every pair of one label reaches a threshold of zero, overlapping or not; scores of zero are detections."""
LINEAR = DecodeConfig(soft_nms="linear", tiou_threshold=0.0, regions="hull", min_score=0.0, top_snippets=7)
STEEP = DecodeConfig(sigma=1e-310)
"""1 / sigma is infinite; segments without overlap must stay."""
ALL = [*CONFIGS, HARD, LINEAR, STEEP, RELEASE]


def model(config: DecodeConfig) -> onnx.ModelProto:
    """Write the decoder alone, as a graph from logits and masks to segments in snippets."""
    g = GraphBuilder("decode_")
    decoder = release_decoder if config.policy == "release" else paper_decoder
    found = decoder(g, "class_logits", "masks", config)
    types = (TensorProto.INT64, TensorProto.INT64, TensorProto.INT64, TensorProto.DOUBLE)
    for name, value in zip(found._fields, found, strict=True):
        g.nodes.append(helper.make_node("Identity", [value], [name]))
    graph = helper.make_graph(
        g.nodes,
        "decode",
        [
            helper.make_tensor_value_info("class_logits", TensorProto.FLOAT, ["K+1", "T"]),
            helper.make_tensor_value_info("masks", TensorProto.FLOAT, ["T", "T"]),
        ],
        [helper.make_tensor_value_info(name, t, ["N"]) for name, t in zip(found._fields, types, strict=True)],
        g.initializers,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)


@pytest.fixture(scope="module", params=range(len(ALL)))
def decoder(request: pytest.FixtureRequest) -> tuple[DecodeConfig, onnxruntime.InferenceSession]:
    config = ALL[request.param]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    content = model(config).SerializeToString()
    return config, onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def check(decoder: tuple[DecodeConfig, onnxruntime.InferenceSession], logits: np.ndarray, masks: np.ndarray) -> int:
    """Compare with the core; returns the number of detections."""
    config, session = decoder
    starts, ends, labels, scores = session.run(None, {"class_logits": logits, "masks": masks})
    expected = decode_arrays(logits, masks, config=config)
    assert labels.tolist() == expected.labels.tolist()
    assert list(zip(starts.tolist(), ends.tolist(), strict=True)) == [tuple(row) for row in expected.segments.tolist()]
    np.testing.assert_allclose(scores, expected.scores, rtol=1e-12)  # float64 on both sides; only log and exp differ
    return len(labels)


def test_random_videos(decoder) -> None:
    found = 0
    for seed in range(24):
        rng = np.random.default_rng(seed)
        K, T = int(rng.integers(1, 25)), int(rng.choice([1, 2, 3, 5, 20, 50, 100]))
        found += check(decoder, *made(seed, K, T, smooth=bool(seed % 2)))
    assert found > 50


@pytest.mark.parametrize("seed", [1, 2])
def test_golden_cases(decoder, golden: Path, seed: int) -> None:
    with np.load(golden / f"release_postprocess_seed{seed}.npz") as arrays:
        assert check(decoder, arrays["class_logits"], arrays["masks"]) > 0


def hostile(T: int, K: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Ties everywhere, empty and full masks, combs, saturated logits, a video that looks the same all along."""
    rng = np.random.default_rng([T, K])
    level = np.zeros((K + 1, T))
    yield level, np.zeros((T, T))
    yield level, np.ones((T, T))
    yield level, np.full((T, T), 0.5)
    yield level, np.tile(np.arange(T) % 2, (T, 1))
    yield rng.normal(0, 2, (K + 1, T)).round(), (rng.uniform(0, 4, (T, T))).round() / 4
    yield rng.normal(0, 200, (K + 1, T)), rng.uniform(0, 1, (T, T)).round()
    background = level.copy()
    background[-1] = 50
    yield background, np.ones((T, T))
    one_row = np.tile(rng.normal(0, 2, (K + 1, 1)), (1, T))
    yield one_row, np.tile(np.abs(np.sin(np.arange(T) * np.pi / 5)), (T, 1))
    mirrored = rng.uniform(0, 3, (1, T)).round() / 3
    yield one_row, np.tile((mirrored + mirrored[:, ::-1]) / 2, (T, 1))


@pytest.mark.parametrize("K", [1, 3])
@pytest.mark.parametrize("T", [1, 2, 3, 4, 11, 40])
def test_hostile_videos(decoder, T: int, K: int) -> None:
    for logits, masks in hostile(T, K):
        check(decoder, logits.astype(np.float32), masks.astype(np.float32))


def test_standard_operators_alone() -> None:
    for config in ALL:
        proto = model(config)
        onnx.checker.check_model(proto, full_check=True)
        assert {node.domain for node in all_nodes(proto.graph)} == {""}
        assert not {"Scan", "ConvInteger"} & {node.op_type for node in all_nodes(proto.graph)}


def test_the_release_policy_has_no_settings() -> None:
    with pytest.raises(ValueError, match="the release policy has no settings"):
        release_decoder(GraphBuilder(""), "class_logits", "masks", DecodeConfig(policy="release", sigma=1.0))
