"""The inference of point detectors as ONNX nodes: decoding as in csrc/decode_points.cpp, inside the graph.

The arithmetic has the same types and order as the core's: float64 from the logits and offsets on. Candidates of all
classes go through one suppression, ordered by class; each decays only candidates of its own class.
"""

import math
from typing import NamedTuple

import numpy as np

from stale_edge.config import PointsConfig
from stale_edge.exporting.decoder.building_blocks import Decoded
from stale_edge.exporting.decoder.graph_builder import END, GraphBuilder, loop_body
from stale_edge.exporting.decoder.paper_decoder import GONE, LOG_OF_ZERO, LOWEST_KEY, SHARPEST, logarithms

_NOT_PROPOSED = -1.0
_LENGTH_MARGIN = 1e-6
"""Added to lengths by ActionFormer; same value as in csrc/stale_core.hpp."""


class _Candidates(NamedTuple):
    """Arrays of equal length: starts, ends and scores float64, labels int64."""

    starts: str
    ends: str
    labels: str
    scores: str


def points_decoder(g: GraphBuilder, class_logits: str, offsets: str, valid: str, config: PointsConfig) -> Decoded:
    """Write the points policy.

    Args:
        g: the nodes are added to it.
        class_logits: (P, K) float32.
        offsets: (P, 2) float32.
        valid: (P,) float32, 0 or 1.
        config: settings of the policy; baked in.

    Returns:
        Starts and ends float64, in points of the first level.
    """
    proposals = _proposals(g, class_logits, offsets, valid, config)
    if config.soft_nms == "none":
        sorted_rows = _sorted(g, _sorted(g, proposals, "labels", largest=0), "scores", largest=1)
        kept = _Candidates(*(g.slice(value, 0, -1, axis=0) for value in sorted_rows))  # the placeholder is last
        return Decoded(kept.starts, kept.ends, kept.labels, kept.scores)
    candidates = _sorted(g, proposals, "labels", largest=0) if config.multiclass else proposals
    picks, scores = _suppressed(g, candidates, config)
    starts, ends, labels = (g.op("Gather", value, picks) for value in candidates[:3])
    if not config.multiclass and config.voting_threshold > 0:
        starts, ends = _voted(g, starts, ends, proposals, config.voting_threshold)
    return Decoded(starts, ends, labels, scores)


def _sorted(g: GraphBuilder, rows: _Candidates, column: str, *, largest: int) -> _Candidates:
    """Sort rows by one column, falling (`largest` 1) or rising (0); TopK keeps the order of equal values."""
    by = getattr(rows, column)
    _, order = g.ops("TopK", by, g.dim(by, 0), n_outputs=2, largest=largest)
    return _Candidates(*(g.op("Gather", value, order) for value in rows))


def level_lengths(g: GraphBuilder, n_points: str, *, n_levels: int) -> str:
    """Write `stale_edge.decoding.points.level_lengths`: P (1,) int64 to the number of points per level (L,) int64."""
    strides = 2 ** np.arange(n_levels)
    whole = int(strides[-1])
    # A level has less than a point more than its share, so the length is among the L + 1 numbers up to this one.
    most = g.op("Div", g.op("Mul", n_points, g.ints(whole)), g.ints(2 * whole - 1))
    lengths = g.op("Sub", most, g.ints(*range(n_levels + 1)))
    rounded = g.op("Add", g.op("Unsqueeze", lengths, g.ints(1)), g.constant(strides - 1, np.int64))
    levels = g.op("Div", rounded, g.constant(strides, np.int64))  # (L + 1, L)
    fits = g.op("Equal", g.op("ReduceSum", levels, g.ints(1), keepdims=0), n_points)
    found = g.op("ArgMax", g.cast(fits, np.int32), axis=0, keepdims=0)
    return g.op("Gather", levels, found, axis=0)


def _proposals(g: GraphBuilder, class_logits: str, offsets: str, valid: str, config: PointsConfig) -> _Candidates:
    """Write `points_proposals`, by level; the last entry is a placeholder that scores -1, so no list is empty."""
    n_classes = g.dim(class_logits, 1)
    levels = level_lengths(g, g.dim(class_logits, 0), n_levels=config.n_levels)
    stops = g.op("CumSum", levels, g.constant(0, np.int64))
    one, axis = g.constant(1.0, np.float64), g.ints(0)
    none = g.constant([_NOT_PROPOSED], np.float64)
    found: list[_Candidates] = []
    for level in range(config.n_levels):
        stop = g.slice(stops, level, level + 1, axis=0)
        first = g.op("Sub", stop, g.slice(levels, level, level + 1, axis=0))
        logits, distances, there = (g.op("Slice", value, first, stop, axis) for value in (class_logits, offsets, valid))
        powers = g.op("Exp", g.op("Neg", g.cast(logits, np.float64)))
        scores = g.op("Div", one, g.op("Add", one, powers))  # (N, K)
        counts = g.op("Greater", scores, g.constant(config.pre_nms_threshold, np.float64))
        counts = g.op("And", counts, g.op("Unsqueeze", g.cast(there, np.bool_), g.ints(1)))
        flat = g.op("Reshape", g.op("Where", counts, scores, none), g.ints(-1))
        wanted = g.op("Min", g.ints(config.pre_nms_top_k), g.dim(flat, 0))
        best, pair = g.ops("TopK", flat, wanted, n_outputs=2)
        point, label = g.op("Div", pair, n_classes), g.op("Mod", pair, n_classes)
        stride = g.constant(2.0**level, np.float64)
        reach = g.op("Mul", g.cast(g.op("Gather", distances, point), np.float64), stride)  # (M, 2)
        before, after = (
            g.op("Squeeze", g.slice(reach, side, end, axis=1), g.ints(1)) for side, end in ((0, 1), (1, END))
        )
        time = g.op("Mul", g.cast(point, np.float64), stride)
        found.append(_Candidates(g.op("Sub", time, before), g.op("Add", time, after), label, best))
    dummy = _Candidates(g.constant([0.0], np.float64), g.constant([0.0], np.float64), g.ints(0), none)
    starts, ends, labels, scores = (g.op("Concat", *column, axis=0) for column in zip(*found, strict=True))
    long = g.op("Greater", g.op("Sub", ends, starts), g.constant(config.duration_threshold, np.float64))
    there = g.op("And", long, g.op("GreaterOrEqual", scores, g.constant(0.0, np.float64)))
    kept = g.where_in_order(there)
    columns = (g.op("Gather", value, kept) for value in (starts, ends, labels, scores))
    return _Candidates(*(g.op("Concat", *pair, axis=0) for pair in zip(columns, dummy, strict=True)))


def _suppressed(g: GraphBuilder, candidates: _Candidates, config: PointsConfig) -> tuple[str, str]:
    """Write `suppress_points` up to voting: picks int64 and scores float64, best first."""
    starts, ends, labels, scores = candidates
    gaussian = config.soft_nms == "gaussian"
    gone, least = g.constant(GONE, np.float64), g.constant(config.min_score, np.float64)
    floor = g.constant(GONE, np.float64)
    if gaussian:
        low = math.log(config.min_score) if config.min_score > 0 else LOWEST_KEY
        # The best candidate of a suppression stays, however low its score.
        alone = _best_below(g, candidates, least, multiclass=config.multiclass)
        keys = logarithms(g, g.op("Max", scores, g.constant(0.0, np.float64)))
        keys = g.op("Max", keys, g.constant(LOG_OF_ZERO, np.float64))
        there = g.op("Or", g.op("GreaterOrEqual", scores, least), alone)
        floor = g.op("Where", alone, g.constant(LOWEST_KEY, np.float64), g.constant(low, np.float64))  # (N,)
    else:
        keys, there = scores, g.op("Greater", scores, least)
    there = g.op("And", there, g.op("GreaterOrEqual", scores, g.constant(0.0, np.float64)))
    keys = g.op("Where", there, keys, gone)
    margin = 2.0 * _LENGTH_MARGIN
    lengths = g.op("Sub", ends, starts)
    value, at = g.ops("TopK", keys, g.ints(1), n_outputs=2)
    alive = g.op("Greater", value, g.constant([GONE], np.float64))

    b = GraphBuilder(f"{g.prefix}nms_")
    iteration, condition, key_in, value_in, at_in = (
        f"{b.prefix}{name}" for name in ("iteration", "condition", "keys", "value", "at")
    )
    pick = b.op("Squeeze", at_in)
    begin, stop, length, label = (b.op("Gather", whole, pick) for whole in (starts, ends, lengths, labels))
    shared = b.op("Sub", b.op("Clip", ends, begin, stop), b.op("Clip", starts, begin, stop))
    longer = b.op("Add", length, b.constant(margin, np.float64))
    tiou = b.op("Div", shared, b.op("Sub", b.op("Add", lengths, longer), shared))
    if config.multiclass:
        tiou = b.op("Where", b.op("Equal", labels, label), tiou, b.constant(0.0, np.float64))
    if gaussian:
        sharpness = b.constant(min(1.0 / config.sigma, SHARPEST), np.float64)
        left = b.op("Sub", key_in, b.op("Mul", b.op("Mul", tiou, tiou), sharpness))
        left = b.op("Where", b.op("GreaterOrEqual", left, floor), left, b.constant(GONE, np.float64))
    else:
        reached = b.op("GreaterOrEqual", tiou, b.constant(config.tiou_threshold, np.float64))
        if config.multiclass:
            reached = b.op("And", reached, b.op("Equal", labels, label))
        left = b.op("Where", reached, b.constant(GONE, np.float64), key_in)
    left = b.op("ScatterElements", left, at_in, b.constant([GONE], np.float64), axis=0)
    next_value, next_at = b.ops("TopK", left, b.ints(1), n_outputs=2)
    go_on = b.op("Squeeze", b.op("Greater", next_value, b.constant([GONE], np.float64)))
    body = loop_body(
        b,
        [
            (iteration, np.int64, []),
            (condition, np.bool_, []),
            (key_in, np.float64, ["N"]),
            (value_in, np.float64, [1]),
            (at_in, np.int64, [1]),
        ],
        [go_on, left, next_value, next_at, pick, b.op("Squeeze", value_in)],
    )
    *_, picks, picked = g.loop(
        g.constant(config.max_detections, np.int64), g.op("Squeeze", alive), [keys, value, at], body, n_scans=2
    )
    return picks, g.op("Exp", picked) if gaussian else picked


def _best_below(g: GraphBuilder, candidates: _Candidates, least: str, *, multiclass: bool) -> str:
    """Mark the first best candidate of each suppression whose scores are all below `min_score`: (N,) bool."""
    scores, labels = candidates.scores, candidates.labels
    if multiclass:
        room = g.op("Add", g.op("ReduceMax", labels, g.ints(0), keepdims=1), g.ints(1))
        groups = labels
    else:
        room, groups = g.ints(1), g.op("Mul", labels, g.ints(0))
    best = g.op("ScatterElements", g.filled(room, -1.0, np.float64), groups, scores, axis=0, reduction="max")
    is_best = g.op("Equal", scores, g.op("Gather", best, groups))
    n_rows = g.dim(scores, 0)
    zero, step = g.constant(0, np.int64), g.constant(1, np.int64)
    rows = g.op("Range", zero, g.op("Squeeze", n_rows), step)
    ranks = g.op("Where", is_best, g.op("Sub", n_rows, rows), g.ints(0))  # an earlier row ranks higher
    first = g.op("ScatterElements", g.filled(room, 0, np.int64), groups, ranks, axis=0, reduction="max")
    is_first = g.op("And", is_best, g.op("Equal", ranks, g.op("Gather", first, groups)))
    return g.op("And", is_first, g.op("Less", scores, least))


def _voted(g: GraphBuilder, starts: str, ends: str, proposals: _Candidates, threshold: float) -> tuple[str, str]:
    """Replace segments (M,) by the mean of all proposals that overlap them enough, weighted by score times tIoU."""
    column = g.ints(1)
    start, end = g.op("Unsqueeze", starts, column), g.op("Unsqueeze", ends, column)
    zero = g.constant(0.0, np.float64)
    shared = g.op("Sub", g.op("Min", end, proposals.ends), g.op("Max", start, proposals.starts))
    shared = g.op("Max", shared, zero)
    union = g.op("Add", g.op("Sub", end, start), g.op("Sub", proposals.ends, proposals.starts))
    tiou = g.op("Div", shared, g.op("Sub", union, shared))  # detections have a length, so no union is empty
    there = g.op("GreaterOrEqual", proposals.scores, zero)  # False for the placeholder
    counts = g.op("And", g.op("GreaterOrEqual", tiou, g.constant(threshold, np.float64)), there)
    weights = g.op("Where", counts, g.op("Mul", proposals.scores, tiou), zero)  # (M, N)
    total = g.op("ReduceSum", weights, column, keepdims=0)
    some = g.op("Greater", total, zero)
    safe = g.op("Where", some, total, g.constant(1.0, np.float64))

    def mean(places: str, own: str) -> str:
        voted = g.op("Div", g.op("ReduceSum", g.op("Mul", weights, places), column, keepdims=0), safe)
        return g.op("Where", some, voted, own)

    return mean(proposals.starts, starts), mean(proposals.ends, ends)
