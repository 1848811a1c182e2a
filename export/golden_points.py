"""Write golden bundles of the decode policy `points`: a tiny detector whose graph is put together by hand.

Its pyramid has two levels, the snippets and the maxima of pairs of them. Nothing is trained: the logits of a point
compare its features with the class embeddings, its distances are drawn projections of them.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from stale_edge import load_bundle
from stale_edge.bundle import ClassBank, FeatureContract, TensorSpec, detector_inputs, write_bundle
from stale_edge.bundle.onnx_metadata import graph_metadata
from stale_edge.config import PointsConfig
from stale_edge.exporting.graph.recording import save_onnx

N_LEVELS = 2
SETTINGS = {
    "multiclass": PointsConfig(n_levels=N_LEVELS, pre_nms_threshold=0.05),
    "voting": PointsConfig(n_levels=N_LEVELS, pre_nms_threshold=0.05, multiclass=False, max_detections=30),
    "hard": PointsConfig(n_levels=N_LEVELS, pre_nms_threshold=0.05, soft_nms="hard", tiou_threshold=0.3),
}
FRAMES = FeatureContract("toy", 16, 8.0, 16, None, "none", num_frames=20)
"""Features as they are, of windows of frames: snippets are placed by frames."""
SHARES = FeatureContract("toy", 16, 8.0, 16, None, "linear", resample_to=30)
"""Resampled features: snippets share the video evenly."""
CONTRACTS = {"multiclass": FRAMES, "voting": FRAMES, "hard": SHARES}


def points_cases(out: Path, bank: ClassBank, features: Path) -> Iterator[dict[str, Any]]:
    """Write a bundle for each of the settings and say what the Python package finds in a video with it."""
    values = np.load(out / features)
    for name, settings in SETTINGS.items():
        bundle = Path("bundles") / f"points-{name}"
        _write(out / bundle, bank, CONTRACTS[name], settings)
        duration_s = 60.0
        found = load_bundle(out / bundle).detect(values, duration_s=duration_s)
        if len(found) < 3:
            raise SystemExit(f"{bundle}: {len(found)} detections compare nothing")
        rows = [{"label": d.label, "score": d.score, "segment": [d.start_s, d.end_s]} for d in found]
        yield {
            "name": f"points-{name}",
            "bundle": str(bundle),
            "features": str(features),
            "duration_s": duration_s,
            "graph": "detector",
            "policy": "points",
            "expected": {"onnxruntime": {"fp32": rows}},
        }


def _write(folder: Path, bank: ClassBank, contract: FeatureContract, settings: PointsConfig) -> None:
    metadata = graph_metadata(
        architecture="hand-made-points", feature_contract=contract, decode=settings, class_names=bank.names
    )
    with write_bundle(folder) as writer:
        save_onnx(_detector(bank.width), writer.folder / "detector-fp32.onnx", metadata=metadata)
        writer.add_file(
            "detector-fp32.onnx",
            role="detector",
            runtime="onnxruntime",
            precision="fp32",
            inputs=detector_inputs(channels=contract.channels, embed_dim=bank.width, length=None),
            outputs=(
                TensorSpec("class_logits", "float32", ("B", "P", "K")),
                TensorSpec("offsets", "float32", ("B", "P", 2)),
                TensorSpec("valid", "float32", ("B", "P")),
            ),
        )
        writer.set_class_bank(bank)
        writer.commit(architecture="hand-made-points", feature_contract=contract, decode=settings)


def _detector(width: int) -> onnx.ModelProto:
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
    shapes = {"features": ["B", "T", width], "class_embeddings": ["K", width]}
    made = {"class_logits": ["B", "P", "K"], "offsets": ["B", "P", 2], "valid": ["B", "P"]}
    graph = helper.make_graph(
        nodes,
        "detector",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in made.items()],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
