"""The points policy as ONNX nodes: the same picks, labels and order as the C++ core, on anything."""

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from test_decoding_points import CONFIGS, VARIANTS, config_of, joined, made

from stale_edge.config import PointsConfig
from stale_edge.decoding import points_candidates, suppressed_points
from stale_edge.decoding.points import level_lengths
from stale_edge.exporting.decoder.graph_builder import GraphBuilder
from stale_edge.exporting.decoder.points_decoder import level_lengths as level_lengths_nodes
from stale_edge.exporting.decoder.points_decoder import points_decoder
from stale_edge.exporting.graph.recording import OPSET, all_nodes

LEVELS = 3
ALL = [PointsConfig(**{**config.__dict__, "n_levels": LEVELS}) for config in CONFIGS]
STEEP = PointsConfig(n_levels=LEVELS, sigma=1e-310)
LOW = PointsConfig(n_levels=LEVELS, min_score=0.9, multiclass=False)


def session(g: GraphBuilder, inputs: list[onnx.ValueInfoProto], outputs: dict[str, tuple[str, int]]):
    for name, (value, _) in outputs.items():
        g.nodes.append(helper.make_node("Identity", [value], [name]))
    results = [helper.make_tensor_value_info(name, kind, ["N"]) for name, (_, kind) in outputs.items()]
    graph = helper.make_graph(g.nodes, "decode", inputs, results, g.initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    assert {node.domain for node in all_nodes(model.graph)} == {""}
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def decoder(config: PointsConfig) -> onnxruntime.InferenceSession:
    g = GraphBuilder("decode_")
    found = points_decoder(g, "class_logits", "offsets", "valid", config)
    kinds = (TensorProto.DOUBLE, TensorProto.DOUBLE, TensorProto.INT64, TensorProto.DOUBLE)
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("class_logits", ["P", "K"]), ("offsets", ["P", 2]), ("valid", ["P"]))
    ]
    outputs = {name: (value, kind) for name, value, kind in zip(found._fields, found, kinds, strict=True)}
    return session(g, inputs, outputs)


def check(run: onnxruntime.InferenceSession, config: PointsConfig, outputs: dict[str, np.ndarray]) -> int:
    """Compare with the core; returns the number of detections."""
    starts, ends, labels, scores = run.run(None, {**outputs, "valid": outputs["valid"].astype(np.float32)})
    lengths = level_lengths(len(outputs["valid"]), n_levels=config.n_levels)
    candidates = points_candidates(**outputs, level_lengths=lengths, config=config)
    expected = suppressed_points(candidates, config=config)
    assert labels.tolist() == expected.labels.tolist()
    np.testing.assert_allclose(scores, expected.scores, rtol=1e-12)
    found = np.stack([starts, ends], axis=1)
    if config.multiclass or config.voting_threshold == 0 or config.soft_nms == "none":
        np.testing.assert_array_equal(found, expected.segments)
    else:  # voting adds in another order
        np.testing.assert_allclose(found, expected.segments, rtol=1e-12, atol=1e-12)
    return len(labels)


@pytest.mark.parametrize("config", [*ALL, STEEP, LOW], ids=range(len(ALL) + 2))
def test_random_videos(config: PointsConfig) -> None:
    run, found = decoder(config), 0
    for seed in range(12):
        outputs, _ = made(seed, n_classes=1 + seed % 5, length=1 + 7 * seed, n_levels=LEVELS)
        found += check(run, config, outputs)
        outputs["class_logits"] = (outputs["class_logits"] * 2).round() / 2  # ties
        outputs["offsets"] = outputs["offsets"].round()
        found += check(run, config, outputs)
        outputs["valid"][:] = False
        assert check(run, config, outputs) == 0
    assert found > 20


@pytest.mark.parametrize("variant", VARIANTS)
def test_golden_variants(golden: Path, variant: str) -> None:
    public = json.loads((golden / "actionformer_decoder.json").read_text())[variant]
    config = PointsConfig(**{**config_of(public).__dict__, "n_levels": 4})
    with np.load(golden / "actionformer_decoder.npz") as arrays:
        outputs, _ = joined(arrays, variant)
    assert (check(decoder(config), config, outputs) == 0) == (variant == "nothing")


@pytest.mark.parametrize("n_levels", [1, 2, 6])
def test_level_lengths_are_those_of_the_core(n_levels: int) -> None:
    g = GraphBuilder("levels_")
    found = level_lengths_nodes(g, "P", n_levels=n_levels)
    inputs = [helper.make_tensor_value_info("P", TensorProto.INT64, [1])]
    run = session(g, inputs, {"levels": (found, TensorProto.INT64)})
    for length in (1, 2, 3, 31, 32, 33, 100, 192, 2304):
        expected = [-(-length // 2**level) for level in range(n_levels)]
        assert run.run(None, {"P": np.array([sum(expected)])})[0].tolist() == expected
