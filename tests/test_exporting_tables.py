"""In an int8 file, large tables that are only added take two bytes per number, other tables do not."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

pytest.importorskip("torch")

from stale_edge.exporting.graph.precision import quantize_weights

ROWS, COLUMNS = 256, 128


def _graph() -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    constants = {
        "positions": rng.standard_normal((ROWS, COLUMNS)),
        "few": rng.standard_normal((4, COLUMNS)),
        "kept": rng.standard_normal((COLUMNS, ROWS + 1)) / 10,
        "weight": rng.standard_normal((COLUMNS, COLUMNS)) / 10,
    }
    nodes = [
        helper.make_node("MatMul", ["x", "weight"], ["mixed"], name="mixing"),
        helper.make_node("Add", ["mixed", "positions"], ["placed"]),
        helper.make_node("MatMul", ["placed", "kept"], ["y"], name="keeping"),
        helper.make_node("Neg", ["few"], ["other"]),
    ]
    shapes = {"y": [ROWS, ROWS + 1], "placed": [ROWS, COLUMNS], "other": [4, COLUMNS]}
    graph = helper.make_graph(
        nodes,
        "tables",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [ROWS, COLUMNS])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def test_tables_are_halved_and_weights_in_float32_are_not() -> None:
    quantized = quantize_weights(_graph(), keep_nodes=["keeping"])
    onnx.checker.check_model(quantized, full_check=True)
    kinds = {tensor.name: tensor.data_type for tensor in quantized.graph.initializer}
    assert kinds["positions_fp16"] == TensorProto.FLOAT16
    assert kinds["few"] == kinds["kept"] == TensorProto.FLOAT
    assert kinds["weight_int8"] == TensorProto.INT8
    assert "positions" not in kinds


def test_what_is_added_is_the_table_to_half_precision() -> None:
    tables = {tensor.name: numpy_helper.to_array(tensor) for tensor in _graph().graph.initializer}
    session = onnxruntime.InferenceSession(
        quantize_weights(_graph(), keep_nodes=["keeping"]).SerializeToString(), providers=["CPUExecutionProvider"]
    )
    placed = session.run(["placed"], {"x": np.zeros((ROWS, COLUMNS), np.float32)})[0]
    np.testing.assert_allclose(placed, tables["positions"], rtol=2**-10, atol=1e-6)
