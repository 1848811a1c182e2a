"""Pipelines of the policies points and runs: a detector by hand, its decoder behind it, the same as the core."""

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from stale_edge.config import FrameGrid, ModelConfig, PointsConfig, RelativeGrid, RunsConfig
from stale_edge.decoding import decode_outputs
from stale_edge.exporting.decoder.graph_builder import GraphBuilder
from stale_edge.exporting.decoder.pipeline_graph import pipeline_graph
from stale_edge.exporting.graph.recording import OPSET

CHANNELS, NAMES = 6, ("a", "b", "c", "d")
MODEL = ModelConfig(feature_channels=CHANNELS, embed_dim=CHANNELS, n_heads=2)
POINTS = PointsConfig(n_levels=1, pre_nms_threshold=0.1)
FRAMES = FrameGrid(fps=30.0, stride=4.0, num_frames=16.0, duration_s=1.0)


def detector(policy: str, *, attention: bool) -> onnx.ModelProto:
    """Similarity of features and class embeddings; each snippet is a point whose offsets are its first two channels."""
    g = GraphBuilder("detector_")
    similar = g.op("MatMul", "features", g.op("Transpose", "class_embeddings", perm=[1, 0]))  # (B, T, K)
    outputs = {"class_logits": similar}
    if policy == "points":
        outputs["offsets"] = g.op("Abs", g.slice("features", 0, 2, axis=2))
        outputs["valid"] = g.op(
            "Add", g.op("Mul", outputs["offsets"], g.constant(0.0, np.float32)), g.constant(1.0, np.float32)
        )
        outputs["valid"] = g.op("Squeeze", g.slice(outputs["valid"], 0, 1, axis=2), g.ints(2))
    else:
        background = g.op("Mul", g.slice(similar, 0, 1, axis=2), g.constant(0.5, np.float32))
        logits = g.op("Concat", similar, background, axis=2)
        outputs["class_logits"] = g.op("Transpose", logits, perm=[0, 2, 1])
        if attention:
            outputs["attention"] = g.op("Sigmoid", g.op("ReduceMean", "features", g.ints(2), keepdims=0))
    for name, value in outputs.items():
        g.nodes.append(helper.make_node("Identity", [value], [name]))
    graph = helper.make_graph(
        g.nodes,
        "detector",
        [
            helper.make_tensor_value_info("features", TensorProto.FLOAT, ["B", "T", CHANNELS]),
            helper.make_tensor_value_info("class_embeddings", TensorProto.FLOAT, ["K", CHANNELS]),
        ],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        g.initializers,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)


def opened(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("grid", [None, FRAMES], ids=["even", "frames"])
@pytest.mark.parametrize(
    ("config", "attention"),
    [(POINTS, False), (RunsConfig(class_threshold=0.0), False), (RunsConfig(), True)],
    ids=["points", "runs", "runs with attention"],
)
def test_a_pipeline_finds_what_detector_and_core_find(config: Any, attention: bool, grid: FrameGrid | None) -> None:
    plain = detector(config.policy, attention=attention)
    alone, whole = opened(plain), opened(pipeline_graph(plain, model=MODEL, decode=config, grid=grid))
    rng = np.random.default_rng(0)
    found = 0
    for length in (1, 9, 40):
        features = np.cumsum(rng.normal(0, 1, (1, length, CHANNELS)), axis=1).astype(np.float32)
        feeds = {"features": features, "class_embeddings": rng.normal(0, 1, (4, CHANNELS)).astype(np.float32)}
        names = [output.name for output in alone.get_outputs()]
        outputs = {name: value[0] for name, value in zip(names, alone.run(names, feeds), strict=True)}
        duration_s = 0.1 * length
        at = RelativeGrid(duration_s) if grid is None else FrameGrid(grid.fps, grid.stride, grid.num_frames, duration_s)
        wanted = decode_outputs(outputs, class_names=NAMES, grid=at, config=config)
        feeds["duration_s"] = np.array([duration_s], dtype=np.float32)
        segments, scores, labels = whole.run(["segments", "scores", "labels"], feeds)
        assert [NAMES[label] for label in labels] == [d.label for d in wanted]
        np.testing.assert_allclose(scores, [d.score for d in wanted], atol=1e-6)
        np.testing.assert_allclose(segments, np.array([d[2:] for d in wanted]).reshape(-1, 2), atol=1e-5 * duration_s)
        found += len(wanted)
    assert found > 10
