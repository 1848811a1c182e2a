"""Write golden bundles of the policies `points` and `runs`: tiny detectors whose graphs are put together by hand.

Nothing is trained: class logits compare features with the class embeddings. The pyramid of `points` has two levels, the
snippets and the maxima of pairs of them, and distances are drawn projections. `runs` has an attention or none.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from stale_edge import load_bundle
from stale_edge.bundle import (
    ClassBank,
    FeatureContract,
    TensorSpec,
    detector_inputs,
    localizer_inputs,
    localizer_outputs,
    write_bundle,
)
from stale_edge.bundle.onnx_metadata import graph_metadata
from stale_edge.config import DecodeSettings, LinearConfig, PointsConfig, RunsConfig
from stale_edge.exporting.decoder.pipeline_graph import pipeline_graph
from stale_edge.exporting.graph.recording import save_onnx
from stale_edge.runtime.contract import time_grid

CHANNELS = 16
N_LEVELS = 2
DURATION_S = 60.0
FRAMES = FeatureContract("toy", CHANNELS, 8.0, 16, None, "none", num_frames=20)
"""Features as they are, of windows of frames: snippets are placed by frames."""
SHARES = FeatureContract("toy", CHANNELS, 8.0, 16, None, "linear", resample_to=30)
"""Resampled features: snippets share the video evenly."""
POINTS = PointsConfig(n_levels=N_LEVELS, pre_nms_threshold=0.05)
CASES: Mapping[str, tuple[FeatureContract, DecodeSettings]] = {
    "points-multiclass": (FRAMES, POINTS),
    "points-voting": (FRAMES, replace(POINTS, multiclass=False, max_detections=30)),
    "points-hard": (SHARES, replace(POINTS, soft_nms="hard", tiou_threshold=0.3)),
    "runs-attention": (FRAMES, RunsConfig(class_threshold=0.0, smoothing=0.1, run_score="mean-contrast")),
    "runs-plain": (SHARES, RunsConfig(threshold_scale="none", max_detections=30)),
}


def hand_made_cases(out: Path, bank: ClassBank, features: Path) -> Iterator[dict[str, Any]]:
    """Write a bundle for each of the settings and say what the Python package finds in a video with it."""
    values = np.load(out / features)
    for name, (contract, settings) in CASES.items():
        bundle = Path("bundles") / name
        _write(out / bundle, bank, contract, settings, _network(name))
        found = load_bundle(out / bundle).detect(values, duration_s=DURATION_S)
        if len(found) < 3:
            raise SystemExit(f"{bundle}: {len(found)} detections compare nothing")
        rows = [{"label": d.label, "score": d.score, "segment": [d.start_s, d.end_s]} for d in found]
        yield {
            "name": name,
            "bundle": str(bundle),
            "features": str(features),
            "duration_s": DURATION_S,
            "expected": {"onnxruntime": {"fp32": rows}},
        }


def _write(
    folder: Path, bank: ClassBank, contract: FeatureContract, settings: DecodeSettings, network: onnx.ModelProto
) -> None:
    """Write a bundle with a detector, and a pipeline that decodes as the settings say."""
    metadata = graph_metadata(
        architecture="hand-made", feature_contract=contract, decode=settings, class_names=bank.names
    )
    model = LinearConfig(feature_channels=CHANNELS, embed_dim=bank.width)  # says the sizes and that any T will do
    pipeline = pipeline_graph(network, model=model, decode=settings, grid=time_grid(contract, duration_s=1.0))
    sizes = {"channels": CHANNELS, "embed_dim": bank.width, "length": None}
    with write_bundle(folder) as writer:
        save_onnx(network, writer.folder / "detector-fp32.onnx", metadata=metadata)
        save_onnx(pipeline, writer.folder / "localizer-fp32.onnx", metadata=metadata, graph_name="localizer")
        made = {"runtime": "onnxruntime", "precision": "fp32"}
        outputs = tuple(TensorSpec(value.name, "float32", _shape(value)) for value in network.graph.output)
        writer.add_file("detector-fp32.onnx", role="detector", inputs=detector_inputs(**sizes), outputs=outputs, **made)
        writer.add_file(
            "localizer-fp32.onnx",
            role="localizer",
            inputs=localizer_inputs(**sizes),
            outputs=localizer_outputs(),
            **made,
        )
        writer.set_class_bank(bank)
        writer.commit(architecture="hand-made", feature_contract=contract, decode=settings)


def _shape(value: onnx.ValueInfoProto) -> tuple[int | str, ...]:
    return tuple(axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim)


def _network(name: str) -> onnx.ModelProto:
    if name.startswith("points"):
        return _pyramid(CHANNELS)
    return _snippets(CHANNELS, attention=name == "runs-attention")


def _pyramid(width: int) -> onnx.ModelProto:
    """Compare points with the class embeddings, and project them to distances."""
    weights = {
        "scale": np.float32(0.4),
        "bias": np.float32(-4.0),
        "distances": (0.05 * np.random.default_rng(0).standard_normal((width, 2))).astype(np.float32),
        "last_axis": np.array([2]),
        "zero": np.float32(0.0),
        "one": np.float32(1.0),
    }
    nodes = [
        helper.make_node("Transpose", ["features"], ["channels_first"], perm=[0, 2, 1]),
        helper.make_node(
            "MaxPool", ["channels_first"], ["pooled"], kernel_shape=[2], strides=[2], ceil_mode=1
        ),  # (B, C, ceil(T / 2))
        helper.make_node("Concat", ["channels_first", "pooled"], ["both"], axis=2),
        helper.make_node("Transpose", ["both"], ["points"], perm=[0, 2, 1]),  # (B, P, C)
        helper.make_node("Transpose", ["class_embeddings"], ["by_class"], perm=[1, 0]),
        helper.make_node("MatMul", ["points", "by_class"], ["products"]),
        helper.make_node("Mul", ["products", "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "bias"], ["class_logits"]),
        helper.make_node("MatMul", ["points", "distances"], ["raw"]),
        helper.make_node("Add", ["raw", "one"], ["shifted"]),
        helper.make_node("Softplus", ["shifted"], ["offsets"]),
        helper.make_node("ReduceMax", ["offsets", "last_axis"], ["largest"], keepdims=0),
        helper.make_node("Mul", ["largest", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "one"], ["valid"]),
    ]
    made = {"class_logits": ["B", "P", "K"], "offsets": ["B", "P", 2], "valid": ["B", "P"]}
    return _model(nodes, width, made, weights)


def _snippets(width: int, *, attention: bool) -> onnx.ModelProto:
    """Compare snippets with the class embeddings; background has the logit 0."""
    weights = {
        "scale": np.float32(0.4),
        "bias": np.float32(-1.0),
        "zero": np.float32(0.0),
        "last_axis": np.array([2]),
        "attended": (0.2 * np.random.default_rng(1).standard_normal((width, 1))).astype(np.float32),
    }
    nodes = [
        helper.make_node("Transpose", ["class_embeddings"], ["by_class"], perm=[1, 0]),
        helper.make_node("MatMul", ["features", "by_class"], ["products"]),
        helper.make_node("Mul", ["products", "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "bias"], ["of_classes"]),
        helper.make_node("ReduceMax", ["of_classes", "last_axis"], ["largest"], keepdims=1),
        helper.make_node("Mul", ["largest", "zero"], ["background"]),
        helper.make_node("Concat", ["of_classes", "background"], ["by_snippet"], axis=2),
        helper.make_node("Transpose", ["by_snippet"], ["class_logits"], perm=[0, 2, 1]),
    ]
    made: dict[str, list[int | str]] = {"class_logits": ["B", "K+1", "T"]}
    if attention:
        nodes += [
            helper.make_node("MatMul", ["features", "attended"], ["attention_logits"]),
            helper.make_node("Sigmoid", ["attention_logits"], ["attention_column"]),
            helper.make_node("Squeeze", ["attention_column", "last_axis"], ["attention"]),
        ]
        made["attention"] = ["B", "T"]
    else:
        del weights["attended"]
    return _model(nodes, width, made, weights)


def _model(
    nodes: Sequence[onnx.NodeProto],
    width: int,
    outputs: Mapping[str, Sequence[int | str]],
    weights: Mapping[str, np.ndarray | np.float32],
) -> onnx.ModelProto:
    shapes = {"features": ["B", "T", width], "class_embeddings": ["K", width]}
    graph = helper.make_graph(
        list(nodes),
        "detector",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
