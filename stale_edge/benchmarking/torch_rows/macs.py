"""Multiply-accumulates of a torch module, counted by fvcore on a traced forward pass.

One multiply-accumulate (MAC) is one product added to a sum inside a matrix product or a convolution. Normalisation,
softmax and other elementwise work are not counted: they are not matrix products, and utilization divides by a rate of
matrix products. fvcore counts a fused multiply-add as one, so its "flops" are MACs.
"""

import logging
import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from stale_edge.errors import MissingExtraError, StaleEdgeError

Handler = Callable[[list[Any], list[Any]], int]

# Operators with one of these in their names multiply matrices; this list finds those that have no handler.
_MULTIPLIES = (
    "mm",
    "matmul",
    "linear",
    "conv",
    "einsum",
    "attention",
    "bilinear",
    "encoder_layer",
    "lstm",
    "gru",
    "rnn",
)


def count_macs(module: nn.Module, inputs: Sequence[Tensor]) -> int:
    """Count the multiply-accumulates of one forward pass, attention included.

    Args:
        module: in eval mode; called as `module(*inputs)`.
        inputs: tensors; only their shapes affect the count.

    Raises:
        MissingExtraError: fvcore is not installed.
        StaleEdgeError: the module multiplies matrices with an operator that is not counted.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # fvcore scripts a loss when it is imported
            from fvcore.nn import FlopCountAnalysis
    except ImportError as error:
        raise MissingExtraError("counting multiply-accumulates needs fvcore: pip install stale-edge[train]") from error
    # torch's own attention layers have a fused inference path that hides its products in one operator.
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    trace_log = logging.getLogger("fvcore.nn.jit_analysis")
    level = trace_log.level
    trace_log.setLevel(logging.ERROR)  # it lists elementwise operators as unsupported, one line each
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # tracing warns about everything that depends on the traced shape
            analysis = FlopCountAnalysis(module, tuple(inputs)).clear_op_handles().set_op_handle(**_HANDLERS)
            analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).tracer_warnings("none")
            total = int(analysis.total())
            missed = sorted(
                name
                for name in analysis.unsupported_ops()
                if any(part in name.removeprefix("aten::") for part in _MULTIPLIES)
            )
    finally:
        trace_log.setLevel(level)
        torch.backends.mha.set_fastpath_enabled(fast_path)
    if missed:
        raise StaleEdgeError(
            f"multiply-accumulates of {', '.join(missed)} are not counted; add a handler in torch_rows/macs.py"
        )
    return total


def _shape(value: Any) -> list[int]:
    """Return the sizes of a traced tensor value."""
    return list(value.type().sizes())


def _product(inputs: list[Any], outputs: list[Any]) -> int:
    """Count `a @ b` of any rank: every output element sums over the last axis of `a`."""
    return math.prod(_shape(outputs[0])) * _shape(inputs[0])[-1]


def _added_product(inputs: list[Any], outputs: list[Any]) -> int:
    """Count `addmm` and `baddbmm`: the product of the second and third argument."""
    return math.prod(_shape(outputs[0])) * _shape(inputs[1])[-1]


def _convolution(inputs: list[Any], outputs: list[Any]) -> int:
    """Count a convolution, not transposed: every output element sums over one filter; filters are the first axis."""
    if len(inputs) > 6 and inputs[6].toIValue():
        raise StaleEdgeError("a transposed convolution is not counted; add a handler in torch_rows/macs.py")
    return math.prod(_shape(outputs[0])) * math.prod(_shape(inputs[1])[1:])


def _attention(inputs: list[Any], outputs: list[Any]) -> int:
    """Count `scaled_dot_product_attention`: queries @ keys, then weights @ values; padding and masks save nothing."""
    *batch, n_queries, width = _shape(inputs[0])
    n_keys = _shape(inputs[1])[-2]
    return math.prod(batch) * n_queries * n_keys * (width + _shape(outputs[0])[-1])


def _einsum(inputs: list[Any], _outputs: list[Any]) -> int:
    """Count a product over all indices of the equation; for two operands this equals a matrix product's count."""
    equation = inputs[0].toIValue().replace(" ", "")
    operands = list(inputs[1].node().inputs())
    if len(operands) != 2 or "." in equation:
        raise StaleEdgeError(f"einsum {equation!r} is not counted: only two operands with named axes are")
    sizes: dict[str, int] = {}
    for letters, operand in zip(equation.split("->")[0].split(","), operands, strict=True):
        sizes.update(zip(letters, _shape(operand), strict=True))
    return math.prod(sizes.values())


_HANDLERS: dict[str, Handler] = {
    "aten::mm": _product,
    "aten::bmm": _product,
    "aten::mv": _product,
    "aten::matmul": _product,
    "aten::linear": _product,
    "aten::addmm": _added_product,
    "aten::baddbmm": _added_product,
    "aten::_convolution": _convolution,
    "aten::convolution": _convolution,
    "aten::conv1d": _convolution,
    "aten::conv2d": _convolution,
    "aten::einsum": _einsum,
    "aten::scaled_dot_product_attention": _attention,
}
