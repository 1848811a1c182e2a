"""Writing an ONNX graph by hand: nodes with fresh names, constants kept once, bodies of loops.

onnxscript has a builder too. It makes graphs of `onnx_ir`, so a detector would be converted to that and back. It also
chooses the types of constants itself, but decoding needs exactly the types of the C++ core.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike, DTypeLike
from onnx import helper, numpy_helper


class GraphBuilder:
    """Nodes and constants of an unfinished graph; a value is the name of a tensor.

    nodes, initializers: those made so far, in topological order.

    Args:
        prefix: start of every name made here, so that two graphs can be merged.
    """

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    def op(self, op_type: str, *inputs: str, **attributes: Any) -> str:
        """Add a node with one output; returns the output."""
        return self.ops(op_type, *inputs, n_outputs=1, **attributes)[0]

    def ops(self, op_type: str, *inputs: str, n_outputs: int, **attributes: Any) -> tuple[str, ...]:
        """Add a node; returns its outputs."""
        name = f"{self.prefix}{op_type.lower()}_{len(self.nodes)}"
        outputs = [name] if n_outputs == 1 else [f"{name}_{i}" for i in range(n_outputs)]
        self.nodes.append(helper.make_node(op_type, list(inputs), outputs, name=name, **attributes))
        return tuple(outputs)

    def constant(self, value: ArrayLike, dtype: DTypeLike) -> str:
        """Add a constant; equal ones share one name."""
        array = np.asarray(value, dtype=dtype)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            name = f"{self.prefix}constant_{len(self._constants)}"
            self.initializers.append(numpy_helper.from_array(array, name))
            self._constants[key] = name
        return self._constants[key]

    def ints(self, *values: int) -> str:
        """Add a constant (n,) int64, such as axes or a shape."""
        return self.constant(values, np.int64)

    def cast(self, value: str, to: DTypeLike) -> str:
        """Convert to another type."""
        return self.op("Cast", value, to=helper.np_dtype_to_tensor_dtype(np.dtype(to)))

    def chain(self, op_type: str, first: str, *others: str) -> str:
        """Apply an operator of two inputs from left to right."""
        for other in others:
            first = self.op(op_type, first, other)
        return first

    def dim(self, value: str, axis: int) -> str:
        """Read one size: (1,) int64."""
        return self.op("Shape", value, start=axis, end=axis + 1)

    def filled(self, shape: str, value: ArrayLike, dtype: DTypeLike) -> str:
        """Make a tensor of one repeated value."""
        return self.op("ConstantOfShape", shape, value=numpy_helper.from_array(np.asarray([value], dtype=dtype)))

    def slice(self, value: str, start: int, end: int, *, axis: int) -> str:
        """Slice one axis, as `value[start:end]` does; `END` means the end of the axis."""
        return self.op("Slice", value, *(self.ints(number) for number in (start, end, axis)))

    def where_in_order(self, flags: str) -> str:
        """Find the true elements of bool flags (n,): their places (m,) int64."""
        return self.op("Squeeze", self.op("NonZero", flags), self.ints(0))

    def loop(
        self,
        trips: str,
        condition: str,
        states: Sequence[str],
        body: onnx.GraphProto,
        *,
        n_scans: int,
    ) -> tuple[str, ...]:
        """Add a Loop; returns its last states, then the stacked scan outputs."""
        return self.ops("Loop", trips, condition, *states, n_outputs=len(states) + n_scans, body=body)


END = np.iinfo(np.int64).max
"""The end of an axis, in `GraphBuilder.slice`."""


def loop_body(
    builder: GraphBuilder, inputs: Sequence[tuple[str, DTypeLike, Sequence[int | str]]], outputs: Sequence[str]
) -> onnx.GraphProto:
    """Finish a loop's body: inputs (iteration, condition, states), outputs (condition, states, scans).

    Args:
        builder: its nodes and constants become the body, which may read values of the graph around it.
        inputs: names, types and shapes.
        outputs: values made inside.
    """
    values = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), list(shape))
        for name, dtype, shape in inputs
    ]
    results = [helper.make_value_info(name, onnx.TypeProto()) for name in outputs]
    return helper.make_graph(builder.nodes, f"{builder.prefix}body", values, results, builder.initializers)
