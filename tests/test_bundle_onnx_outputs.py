"""ONNX files with fewer outputs: values stay, unused nodes are removed, and errors name bad files."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import tiny
from onnx import TensorProto, helper, numpy_helper

from stale_edge.bundle.onnx_graph import Graph
from stale_edge.bundle.onnx_outputs import with_outputs
from stale_edge.errors import BundleError


@pytest.fixture
def detector(tmp_path: Path) -> Path:
    path = tmp_path / "detector.onnx"
    onnx.save(tiny.model(metadata={"stale_edge.format": "x"}), path)
    return path


def _run(model: bytes, feed: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, feed), strict=True))


def test_kept_outputs_answer_alike_and_the_rest_is_gone(detector: Path) -> None:
    feed = {"features": tiny.features(9, batch=2), "class_embeddings": tiny.bank().embeddings}
    pruned = with_outputs(Graph(detector), ["class_logits", "masks"])
    whole, some = _run(detector.read_bytes(), feed), _run(pruned, feed)
    assert list(some) == ["class_logits", "masks"]
    for name, value in some.items():
        np.testing.assert_array_equal(value, whole[name])
    model = onnx.load_from_string(pruned)
    onnx.checker.check_model(model, full_check=True)
    assert {node.op_type for node in model.graph.node} == {"MatMul", "Transpose", "Sub", "Add", "Concat", "Sigmoid"}
    assert [(entry.key, entry.value) for entry in model.metadata_props] == [("stale_edge.format", "x")]


def test_weights_that_only_a_dropped_output_reads_go(detector: Path) -> None:
    model = onnx.load_from_string(with_outputs(Graph(detector), ["masks"]))
    assert [tensor.name for tensor in model.graph.initializer] == ["projection"]


def test_all_outputs_give_the_file_itself(detector: Path) -> None:
    assert with_outputs(Graph(detector), ["class_logits", "masks", "foreground"]) == detector.read_bytes()


def test_what_the_body_of_a_loop_reads_stays(tmp_path: Path) -> None:
    def constant(name: str, value: np.ndarray) -> onnx.TensorProto:
        return numpy_helper.from_array(value, name)

    body = helper.make_graph(
        [helper.make_node("Add", ["sum", "step"], ["next"]), helper.make_node("Identity", ["go"], ["still"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("sum", TensorProto.FLOAT, [1]),
        ],
        [
            helper.make_tensor_value_info("still", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, [1]),
        ],
    )
    graph = helper.make_graph(
        [
            helper.make_node("Mul", ["x", "three"], ["step"]),
            helper.make_node("Loop", ["trips", "yes", "x"], ["total"], body=body),
            helper.make_node("Neg", ["x"], ["other"]),
        ],
        "loop",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("total", "other")],
        [
            constant("three", np.array([3], np.float32)),
            constant("trips", np.array(4, np.int64)),
            constant("yes", np.array(True)),
        ],
    )
    path = tmp_path / "loop.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    found = _run(with_outputs(Graph(path), ["total"]), {"x": np.array([2], np.float32)})
    assert {name: value.tolist() for name, value in found.items()} == {"total": [2.0 + 4 * 6]}


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", "holds no graph"), (b"PK\x03\x04 not a model", "not an ONNX model|cut short"), (None, "cut short")],
)
def test_bad_files_are_named(detector: Path, content: bytes | None, said: str) -> None:
    detector.write_bytes(detector.read_bytes()[:-3] if content is None else content)
    with pytest.raises(BundleError, match=said):
        with_outputs(Graph(detector), ["masks"])


def test_an_output_that_is_not_there_is_named(detector: Path) -> None:
    with pytest.raises(BundleError, match="no output boxes; it has class_logits, foreground, masks"):
        with_outputs(Graph(detector), ["masks", "boxes"])


def test_values_inside_the_graph_become_outputs(detector: Path) -> None:
    assert {"embedding", "class_columns"} <= Graph(detector).computed
    pruned = with_outputs(Graph(detector), ["masks", "embedding"])
    got = _run(pruned, {"features": tiny.features(9, batch=2)})  # what only classes need is gone, the input too
    assert list(got) == ["masks", "embedding"]
    np.testing.assert_allclose(got["embedding"], tiny.features(9, batch=2) @ tiny.weights()["projection"], rtol=1e-5)


def test_constants_take_the_place_of_what_computed_them(detector: Path) -> None:
    feed = {"features": tiny.features(9, batch=2), "class_embeddings": tiny.bank().embeddings}
    whole = _run(detector.read_bytes(), feed)
    columns = np.ascontiguousarray(tiny.bank().embeddings.T)
    fixed = with_outputs(Graph(detector), ["class_logits", "masks"], constants={"class_columns": columns})
    model = onnx.load_from_string(fixed)
    onnx.checker.check_model(model, full_check=True)
    assert [value.name for value in model.graph.input] == ["features"]
    some = _run(fixed, {"features": feed["features"]})
    for name in ("class_logits", "masks"):
        np.testing.assert_array_equal(some[name], whole[name])


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64", "int8", "uint8", "int32", "int64", "bool"])
def test_constants_of_every_type_are_stored_as_they_are(tmp_path: Path, dtype: str) -> None:
    value = np.arange(6).reshape(2, 3).astype(dtype)
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["inner"]), helper.make_node("Identity", ["inner"], ["y"])],
        "copy",
        [helper.make_tensor_value_info("x", kind, [2, 3])],
        [helper.make_tensor_value_info("y", kind, [2, 3])],
    )
    path = tmp_path / "copy.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), path)
    got = _run(with_outputs(Graph(path), ["y"], constants={"inner": value}), {})["y"]
    assert got.dtype == value.dtype
    np.testing.assert_array_equal(got, value)


def test_constants_that_cannot_be_are_refused(detector: Path) -> None:
    with pytest.raises(BundleError, match="the graph has no output nowhere"):
        with_outputs(Graph(detector), ["masks"], constants={"nowhere": np.zeros(2, np.float32)})
    with pytest.raises(BundleError, match="class_columns is complex64; constants of a graph are float32, uint8"):
        with_outputs(Graph(detector), ["class_logits"], constants={"class_columns": np.zeros((6, 3), np.complex64)})
