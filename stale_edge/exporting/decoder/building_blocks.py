"""Parts that several decode policies share when they are written as ONNX nodes."""

from typing import NamedTuple

import numpy as np

from stale_edge.exporting.decoder.graph_builder import END, GraphBuilder

_LOWEST = -87.0
"""Below this, the exponential is less than the smallest normal float32."""


class Decoded(NamedTuple):
    """Detections of one video, best first: segments in snippets and labels (N,) int64, scores (N,) float64."""

    starts: str
    ends: str
    labels: str
    scores: str


class Runs(NamedTuple):
    """Connected runs of all rows, in the order of row, threshold and time."""

    row: str
    """(R,) int64"""
    threshold: str
    """(R,) int64"""
    starts: str
    """(R,) int64"""
    ends: str
    """(R,) int64, one past the last snippet."""
    peaks: str
    """(R,) the highest value inside."""


def snippet_weights(g: GraphBuilder, class_logits: str, *, axis: int) -> str:
    """Compute exp(logits - their maximum along an axis), float32, equal to csrc/softmax.hpp to the last bit.

    exp(x) = 2^n * exp(r) with n = round(x / ln 2); the polynomial is that of Cephes' expf. The runtime's `Exp` would
    differ in the last bit; where two classes nearly tie, the detections would differ too.
    """

    def number(value: float) -> str:
        return g.constant(value, np.float32)

    x = g.op("Sub", class_logits, g.op("ReduceMax", class_logits, g.ints(axis), keepdims=1))
    x = g.op("Max", x, number(_LOWEST))
    n = g.op("Round", g.op("Mul", x, number(1.44269504)))
    r = g.op("Add", g.op("Sub", x, g.op("Mul", n, number(0.693359375))), g.op("Mul", n, number(2.12194440e-4)))
    y = number(1.9875691500e-4)
    for coefficient in (1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1):
        y = g.op("Add", g.op("Mul", y, r), number(coefficient))
    y = g.op("Add", g.op("Add", g.chain("Mul", y, r, r), r), number(1.0))
    powers = g.constant(2.0 ** np.arange(-126, 1), np.float32)
    scale = g.op("Gather", powers, g.op("Add", g.cast(n, np.int64), g.ints(126)))
    return g.op("Mul", y, scale)


def thresholded_runs(g: GraphBuilder, above: str, rows: str, dtype: type[np.floating] = np.float32) -> Runs:
    """Find every connected run of true values.

    Args:
        g: the nodes are added to it.
        above: (V, H, T) bool.
        rows: (V, T) of `dtype`, >= 0; the peaks are taken from these values.
        dtype: float32 or float64.
    """
    padding = g.op("Concat", g.op("Shape", above, start=0, end=2), g.ints(1), axis=0)
    outside = g.filled(padding, False, np.bool_)
    padded = g.op("Concat", outside, above, outside, axis=2)  # (V, H, T + 2)
    before, after = g.slice(padded, 0, -1, axis=2), g.slice(padded, 1, END, axis=2)
    changes = g.op("NonZero", g.op("Xor", before, after))  # (3, 2 R): a start, its end, the next start
    pairs = g.op("Reshape", changes, g.ints(3, -1, 2))
    row, threshold, starts = g.ops(
        "Split", g.op("Squeeze", g.slice(pairs, 0, 1, axis=2), g.ints(2)), n_outputs=3, num_outputs=3, axis=0
    )
    row, threshold, starts = (g.op("Squeeze", value, g.ints(0)) for value in (row, threshold, starts))
    ends = g.op("Squeeze", g.slice(g.slice(pairs, 1, 2, axis=2), 2, 3, axis=0), g.ints(0, 2))

    begins = g.op("And", above, g.op("Not", g.slice(before, 0, -1, axis=2)))
    number = g.op("CumSum", g.op("Reshape", g.cast(begins, np.int32), g.ints(-1)), g.constant(0, np.int64))
    # Group 0 lies before the first run. A snippet outside a run adds 0 to the run before it.
    values = g.op("Where", above, g.op("Unsqueeze", rows, g.ints(1)), g.constant(0.0, dtype))
    room = g.filled(g.op("Add", g.op("Shape", starts), g.ints(1)), 0.0, dtype)
    peaks = g.op("ScatterElements", room, number, g.op("Reshape", values, g.ints(-1)), axis=0, reduction="max")
    return Runs(row, threshold, starts, ends, g.slice(peaks, 1, END, axis=0))


def hulls(g: GraphBuilder, above: str) -> tuple[str, str, str]:
    """Reduce flags (..., T) to: whether any is set (bool), the first and the last set one (int64); all (...)."""
    numbers = g.cast(above, np.int32)
    any_above = g.cast(g.op("ReduceMax", numbers, g.ints(-1), keepdims=0), np.bool_)
    first = g.op("ArgMax", numbers, axis=-1, keepdims=0)
    return any_above, first, g.op("ArgMax", numbers, axis=-1, keepdims=0, select_last_index=1)


def distinct_neighbours(g: GraphBuilder, values: str) -> tuple[str, str]:
    """Number the stretches of equal values in (N,): the index where each begins, and the stretch of each value (N,)."""
    differs = g.op("Not", g.op("Equal", g.slice(values, 1, END, axis=0), g.slice(values, 0, -1, axis=0)))
    begins = g.op("Concat", g.constant([True], np.bool_), differs, axis=0)
    number = g.op("Sub", g.op("CumSum", g.cast(begins, np.int64), g.constant(0, np.int64)), g.ints(1))
    return g.where_in_order(begins), number
