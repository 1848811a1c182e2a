"""Runs of snippets above thresholds as ONNX nodes: decoding as in csrc/decode_runs.cpp, inside the graph."""

from typing import NamedTuple

import numpy as np

from stale_edge.config import RunsConfig
from stale_edge.exporting.decoder.building_blocks import (
    Decoded,
    distinct_neighbours,
    snippet_weights,
    thresholded_runs,
)
from stale_edge.exporting.decoder.graph_builder import END, GraphBuilder
from stale_edge.exporting.decoder.paper_decoder import soft_nms_by_label

_NO_CHANGE = 1e-9
"""Scores with a smaller range count as constant; same value as in csrc/decode_runs.cpp."""


class _Runs(NamedTuple):
    """Arrays of equal length: label, start, end int64, and the highest score inside float64."""

    labels: str
    starts: str
    ends: str
    peaks: str


def runs_decoder(g: GraphBuilder, class_logits: str, attention: str | None, config: RunsConfig) -> Decoded:
    """Write the runs policy.

    Args:
        g: the nodes are added to it.
        class_logits: (K+1, T) float32.
        attention: (T,) float32; None: 1 everywhere.
        config: settings of the policy; baked in.
    """
    T = g.dim(class_logits, 1)
    focus = None if attention is None else g.cast(attention, np.float64)
    video = _video_probabilities(g, class_logits, focus, config)  # (K,)
    scores = _class_scores(g, class_logits, config)  # (K, T)
    if focus is not None:
        scores = g.op("Mul", scores, focus)
    cut = _cut_scores(g, scores, T, config)
    runs = _distinct_runs(g, scores, cut, _counted(g, video, config), T, config)
    rated = _rated(g, runs, scores, cut, video, T, config)
    # The last candidate is a placeholder that scores -1, so that no list is ever empty.
    starts, ends, labels = (g.op("Concat", x, g.ints(0), axis=0) for x in (runs.starts, runs.ends, runs.labels))
    rated = g.op("Concat", rated, g.constant([-1.0], np.float64), axis=0)
    picks, decayed = soft_nms_by_label(g, starts, ends, labels, rated, T, config)
    starts, ends, labels = (g.op("Gather", value, picks) for value in (starts, ends, labels))
    return Decoded(starts, ends, labels, decayed)


def _class_scores(g: GraphBuilder, class_logits: str, config: RunsConfig) -> str:
    """Compare each class with all rows, or with the background alone: (K, T) float64."""
    logits = class_logits
    if config.class_scores == "sigmoid":
        classes, background = g.slice(class_logits, 0, -1, axis=0), g.slice(class_logits, -1, END, axis=0)
        zeros = g.op("Mul", classes, g.constant(0.0, np.float32))
        pairs = [g.op("Unsqueeze", rows, g.ints(0)) for rows in (classes, g.op("Add", zeros, background))]
        logits = g.op("Concat", *pairs, axis=0)  # (2, K, T)
    weights = g.cast(snippet_weights(g, logits, axis=0), np.float64)
    shares = g.op("Div", g.slice(weights, 0, -1, axis=0), g.op("ReduceSum", weights, g.ints(0), keepdims=1))
    return g.op("Squeeze", shares, g.ints(0)) if config.class_scores == "sigmoid" else shares


def _video_probabilities(g: GraphBuilder, class_logits: str, focus: str | None, config: RunsConfig) -> str:
    """Average each class's highest logits, then take the softmax over classes: (K,) float64."""
    logits = g.cast(g.slice(class_logits, 0, -1, axis=0), np.float64)
    if focus is not None:
        logits = g.op("Mul", logits, focus)
    length = g.cast(g.dim(class_logits, 1), np.float64)
    n_top = g.cast(g.op("Floor", g.op("Mul", length, g.constant(config.top_share, np.float64))), np.int64)
    n_top = g.op("Max", n_top, g.ints(1))
    highest, _ = g.ops("TopK", logits, n_top, n_outputs=2, axis=1)
    means = g.op("Div", g.op("ReduceSum", highest, g.ints(1), keepdims=0), g.cast(n_top, np.float64))
    powers = g.op("Exp", g.op("Sub", means, g.op("ReduceMax", means, g.ints(0), keepdims=1)))
    return g.op("Div", powers, g.op("ReduceSum", powers, g.ints(0), keepdims=1))


def _counted(g: GraphBuilder, video: str, config: RunsConfig) -> str:
    """Select the classes whose runs count: (K,) bool."""
    if config.class_threshold <= 0:
        return g.op("GreaterOrEqual", video, g.constant(0.0, np.float64))
    above = g.op("Greater", video, g.constant(config.class_threshold, np.float64))
    some = g.cast(g.op("ReduceMax", g.cast(above, np.int32), g.ints(0), keepdims=1), np.bool_)
    best = g.op("ArgMax", video, axis=0, keepdims=1)  # the first of equal ones
    n_classes = g.op("Squeeze", g.dim(video, 0))
    rows = g.op("Range", g.constant(0, np.int64), n_classes, g.constant(1, np.int64))
    return g.op("Or", above, g.op("And", g.op("Not", some), g.op("Equal", rows, best)))


def _cut_scores(g: GraphBuilder, scores: str, T: str, config: RunsConfig) -> str:
    """Smooth and scale scores (K, T)."""
    one = g.ints(1)
    cut = scores
    if config.smoothing > 0:
        share = g.op("Mul", g.cast(T, np.float64), g.constant(config.smoothing, np.float64))
        width = g.cast(g.op("Round", share), np.int64)
        places = g.op("Range", g.constant(0, np.int64), g.op("Squeeze", T), g.constant(1, np.int64))
        half, rest = g.op("Div", width, g.ints(2)), g.op("Div", g.op("Add", width, one), g.ints(2))
        starts = g.op("Max", g.op("Sub", places, half), g.ints(0))
        stops = g.op("Min", g.op("Add", places, rest), T)
        sums = _cumulative(g, scores)
        total = g.op("Sub", g.op("Gather", sums, stops, axis=1), g.op("Gather", sums, starts, axis=1))
        # A width of 0 has no snippets; then the scores stay as they are.
        count = g.cast(g.op("Max", g.op("Sub", stops, starts), one), np.float64)
        cut = g.op("Where", g.op("Greater", width, one), g.op("Div", total, count), scores)
    if config.threshold_scale == "none":
        return cut
    low = g.op("ReduceMin", cut, one, keepdims=1)
    width = g.op("Sub", g.op("ReduceMax", cut, one, keepdims=1), low)
    varies = g.op("Greater", width, g.constant(_NO_CHANGE, np.float64))
    scaled = g.op("Div", g.op("Sub", cut, low), g.op("Where", varies, width, g.constant(1.0, np.float64)))
    return g.op("Where", varies, scaled, g.constant(0.0, np.float64))


def _distinct_runs(g: GraphBuilder, scores: str, cut: str, counted: str, T: str, config: RunsConfig) -> _Runs:
    """Find each run above a threshold once, in the core's order: by label, the longest first, then the earlier."""
    limits = g.constant(np.array(config.thresholds)[:, None], np.float64)
    above = g.op("Greater", g.op("Unsqueeze", cut, g.ints(1)), limits)  # (K, H, T)
    above = g.op("And", above, g.op("Unsqueeze", counted, g.ints(1, 2)))
    found = thresholded_runs(g, above, scores, np.float64)
    runs = _Runs(found.row, found.starts, found.ends, found.peaks)
    if config.min_snippets > 1:
        long = g.op("GreaterOrEqual", g.op("Sub", runs.ends, runs.starts), g.ints(config.min_snippets))
        kept = g.where_in_order(long)
        runs = _Runs(*(g.op("Gather", value, kept) for value in runs))
    beyond = g.op("Add", T, g.ints(1))
    shorter = g.op("Sub", T, g.op("Sub", runs.ends, runs.starts))
    rank = g.op("Add", g.op("Mul", runs.labels, beyond), shorter)
    rank = g.op("Add", g.op("Mul", rank, beyond), runs.starts)
    # The last key keeps the list from being empty; it belongs to no run.
    beyond_all = g.constant([np.iinfo(np.int64).max], np.int64)
    rank = g.op("Concat", rank, beyond_all, axis=0)
    in_order, order = g.ops("TopK", rank, g.dim(rank, 0), n_outputs=2, largest=0)
    places, _ = distinct_neighbours(g, in_order)
    first = g.op("Gather", order, g.slice(places, 0, -1, axis=0))
    return _Runs(*(g.op("Gather", value, first) for value in runs))


def _rated(g: GraphBuilder, runs: _Runs, scores: str, cut: str, video: str, T: str, config: RunsConfig) -> str:
    """Score runs (R,) float64."""
    zero, one = g.constant(0.0, np.float64), g.constant(1.0, np.float64)
    length = g.op("Sub", runs.ends, runs.starts)
    if config.run_score == "maximum":
        rated = runs.peaks
    else:
        contrast = _contrast(g, runs, cut, T, config.surroundings)
        if config.run_score == "contrast":
            known = g.op("Mul", g.op("Gather", video, runs.labels), g.constant(config.video_weight, np.float64))
            rated = g.op("Clip", g.op("Add", contrast, known), zero, one)
        else:
            inside = _between(g, _cumulative(g, scores), runs.labels, runs.starts, runs.ends)
            mean = g.op("Div", inside, g.cast(length, np.float64))
            rated = g.op("Mul", mean, g.op("Clip", contrast, zero, one))
    if config.length_power > 0:
        share = g.op("Div", g.cast(length, np.float64), g.cast(T, np.float64))
        power = g.op("Exp", g.op("Mul", g.op("Log", share), g.constant(config.length_power, np.float64)))
        rated = g.op("Mul", rated, power)
    return g.op("Clip", rated, zero, one)


def _contrast(g: GraphBuilder, runs: _Runs, cut: str, T: str, surroundings: float) -> str:
    """Subtract the mean of `cut` around each run from its mean inside; the mean of no snippets is 0."""
    sums = _cumulative(g, cut)
    length = g.op("Sub", runs.ends, runs.starts)
    part = g.op("Mul", g.cast(length, np.float64), g.constant(surroundings, np.float64))
    margin = g.op("Max", g.cast(g.op("Round", part), np.int64), g.ints(1))
    before = g.op("Max", g.op("Sub", runs.starts, margin), g.ints(0))
    after = g.op("Min", g.op("Add", runs.ends, margin), T)
    inside = _between(g, sums, runs.labels, runs.starts, runs.ends)
    around = g.op(
        "Add",
        _between(g, sums, runs.labels, before, runs.starts),
        _between(g, sums, runs.labels, runs.ends, after),
    )
    n_around = g.op("Sub", g.op("Sub", after, before), length)  # 0 only where `around` is 0 too
    n_around = g.cast(g.op("Max", n_around, g.ints(1)), np.float64)
    return g.op("Sub", g.op("Div", inside, g.cast(length, np.float64)), g.op("Div", around, n_around))


def _cumulative(g: GraphBuilder, values: str) -> str:
    """Sum (K, T) from the start of the video: (K, T + 1), beginning with 0."""
    sums = g.op("CumSum", values, g.constant(1, np.int64))
    nothing = g.filled(g.op("Concat", g.dim(values, 0), g.ints(1), axis=0), 0.0, np.float64)
    return g.op("Concat", nothing, sums, axis=1)


def _between(g: GraphBuilder, sums: str, labels: str, starts: str, ends: str) -> str:
    """Sum rows `labels` from `starts` to `ends`, all (R,)."""

    def at(places: str) -> str:
        pair = g.op("Concat", *(g.op("Unsqueeze", x, g.ints(1)) for x in (labels, places)), axis=1)
        return g.op("GatherND", sums, pair)

    return g.op("Sub", at(ends), at(starts))
