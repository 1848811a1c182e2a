"""Nodes that depend on the classes alone are found and computed once, without a change of outputs."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tiny
from onnx import TensorProto, helper, numpy_helper

from stale_edge.bundle.onnx_graph import Graph
from stale_edge.bundle.onnx_outputs import with_outputs
from stale_edge.bundle.onnx_vocabulary import ClassAttention, class_attentions, class_values
from stale_edge.errors import BundleError
from stale_edge.runtime import reduced_model as reducing
from stale_edge.runtime.onnx_session import open_session
from stale_edge.runtime.reduced_model import reduced_model

K, D, C = 3, 4, 5
SCALE = np.float32(0.05)
_RNG = np.random.default_rng(0)
_W1_INT8 = _RNG.integers(-9, 9, (D, D)).astype(np.int8)
WEIGHTS = {"W0": _RNG.standard_normal((C, D)).astype(np.float32), "W1": _W1_INT8 * SCALE}


def _graph(path: Path, *, rounded: bool = False, product: bool = True) -> Path:
    """scores = features W0 (relu(class_embeddings W1))^T, W1 stored as int8; perhaps rounded to int8 before."""
    constants = {"W0": WEIGHTS["W0"], "W1_int8": _W1_INT8, "scale": np.array(SCALE), "zero": np.array(0, np.int8)}
    nodes = [
        helper.make_node("MatMul", ["features", "W0"], ["embedding"]),
        helper.make_node("DequantizeLinear", ["W1_int8", "scale", "zero"], ["W1"]),
        helper.make_node("MatMul", ["class_embeddings", "W1"], ["mixed"])
        if product
        else helper.make_node("Neg", ["class_embeddings"], ["mixed"]),
        helper.make_node("Relu", ["mixed"], ["positive"]),
        helper.make_node("Transpose", ["positive"], ["columns"], perm=[1, 0]),
    ]
    last = "columns"
    if rounded:
        nodes += [
            helper.make_node("QuantizeLinear", ["columns", "scale", "zero"], ["columns_int8"]),
            helper.make_node("DequantizeLinear", ["columns_int8", "scale", "zero"], ["columns_rounded"]),
        ]
        last = "columns_rounded"
    nodes += [
        helper.make_node("MatMul", ["embedding", last], ["scores"]),
        helper.make_node("Neg", [last], ["unused"]),
    ]
    graph = helper.make_graph(
        nodes,
        "classes",
        [
            helper.make_tensor_value_info("features", TensorProto.FLOAT, ["T", C]),
            helper.make_tensor_value_info("class_embeddings", TensorProto.FLOAT, ["K", D]),
        ],
        [
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["T", "K"]),
            helper.make_tensor_value_info("unused", TensorProto.FLOAT, [D, "K"]),
        ],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    return path


def test_the_last_values_of_classes_alone_are_named(tmp_path: Path) -> None:
    path = _graph(tmp_path / "a.onnx")
    assert class_values(Graph(path), ["scores"]) == ("columns",)


def test_rounding_before_a_product_stays_in_the_graph(tmp_path: Path) -> None:
    path = _graph(tmp_path / "a.onnx", rounded=True)
    assert class_values(Graph(path), ["scores"]) == ("columns",)
    classes = np.random.default_rng(1).standard_normal((K, D)).astype(np.float32)
    reduced = reduced_model(path, outputs=["scores"], class_embeddings=classes, threads=1)
    assert isinstance(reduced, bytes)
    operators = [node.op_type for node in onnx.load_from_string(reduced).graph.node]
    assert operators == ["MatMul", "QuantizeLinear", "DequantizeLinear", "MatMul"]


def test_nothing_is_named_where_no_product_is_saved(tmp_path: Path) -> None:
    assert class_values(Graph(_graph(tmp_path / "a.onnx", product=False)), ["scores"]) == ()


def test_a_detector_whose_classes_meet_features_first_has_none(tmp_path: Path) -> None:
    path = tmp_path / "detector.onnx"
    onnx.save(tiny.model(), path)
    assert class_values(Graph(path), ["class_logits", "masks"]) == ()


@pytest.mark.parametrize("rounded", [False, True])
def test_reduced_to_one_vocabulary_it_answers_alike(tmp_path: Path, rounded: bool) -> None:
    path = _graph(tmp_path / "a.onnx", rounded=rounded)
    rng = np.random.default_rng(2)
    features = rng.standard_normal((7, C)).astype(np.float32)
    classes = rng.standard_normal((K, D)).astype(np.float32)
    columns = np.maximum(classes @ WEIGHTS["W1"], 0).T
    if rounded:
        columns = np.clip(np.round(columns / SCALE), -128, 127) * SCALE
    reduced = reduced_model(path, outputs=["scores"], class_embeddings=classes, threads=1)
    session = open_session(reduced, threads=1)
    assert [value.name for value in session.get_inputs()] == ["features"]
    scores = session.run(["scores"], {"features": features})[0]
    # By a constant operand that comes from eight bits ONNX Runtime multiplies in eight bits.
    tolerance = 0.02 if rounded else 1e-5
    np.testing.assert_allclose(scores, features @ WEIGHTS["W0"] @ columns, atol=tolerance)


def test_a_file_that_is_no_model_is_named(tmp_path: Path) -> None:
    path = tmp_path / "no.onnx"
    path.write_bytes(b"\x0a\x02hi")
    with pytest.raises(BundleError, match=r"no\.onnx: not an ONNX model: it holds no graph"):
        class_values(Graph(path), ["scores"])


def _attention_graph(path: Path) -> Path:
    """scores = features (softmax(-E E^T) relu(E) + E)^T, E the class embeddings; weights in eight bits."""
    constants = {"scale": np.array(1 / 255, np.float32), "zero": np.array(0, np.uint8)}
    nodes = [
        helper.make_node("Transpose", ["class_embeddings"], ["keys"], perm=[1, 0]),
        helper.make_node("Neg", ["class_embeddings"], ["queries"]),
        helper.make_node("MatMul", ["queries", "keys"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["weights"], axis=-1),
        helper.make_node("QuantizeLinear", ["weights", "scale", "zero"], ["weights_int8"]),
        helper.make_node("DequantizeLinear", ["weights_int8", "scale", "zero"], ["weights_rounded"]),
        helper.make_node("Relu", ["class_embeddings"], ["of_keys"]),
        helper.make_node("MatMul", ["weights_rounded", "of_keys"], ["attended"]),
        helper.make_node("Add", ["attended", "class_embeddings"], ["mixed"]),
        helper.make_node("Transpose", ["mixed"], ["columns"], perm=[1, 0]),
        helper.make_node("MatMul", ["features", "columns"], ["scores"]),
    ]
    graph = helper.make_graph(
        nodes,
        "classes",
        [
            helper.make_tensor_value_info("features", TensorProto.FLOAT, ["T", D]),
            helper.make_tensor_value_info("class_embeddings", TensorProto.FLOAT, ["K", D]),
        ],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["T", "K"])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    return path


def test_attention_among_many_classes_is_computed_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _attention_graph(tmp_path / "a.onnx")
    values = class_values(Graph(path), ["scores"])
    assert values == ("columns",)
    assert class_attentions(Graph(path), values) == (ClassAttention("queries", "keys", "of_keys", "attended"),)
    rng = np.random.default_rng(3)
    classes, features = (rng.standard_normal((n, D)).astype(np.float32) for n in (7, 9))
    (expected,) = open_session(path, threads=1).run(None, {"features": features, "class_embeddings": classes})
    asking = []

    def watched(*args: Any, constants: dict[str, Any], **kwargs: Any) -> bytes:
        asking.append(len(constants.get("queries", ())))
        return with_outputs(*args, constants=constants, **kwargs)

    monkeypatch.setattr(reducing, "with_outputs", watched)
    monkeypatch.setattr(reducing, "MANY_CLASSES", 6)
    monkeypatch.setattr(reducing, "CLASSES_AT_ONCE", 2)
    model = reducing.reduced_model(path, outputs=["scores"], class_embeddings=classes, threads=1)
    (found,) = open_session(model, threads=1).run(None, {"features": features})
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert asking == [0, 2, 2, 2, 1, 0, 0]


def test_no_attention_where_there_is_no_softmax(tmp_path: Path) -> None:
    graph = Graph(_graph(tmp_path / "a.onnx"))
    assert class_attentions(graph, class_values(graph, ["scores"])) == ()
