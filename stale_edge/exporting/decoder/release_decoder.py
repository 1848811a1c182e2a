"""The public inference script as ONNX nodes: decoding as in csrc/decode_release.cpp, inside the graph.

The C++ file gives the script's lines for each step; the steps here have the same names. The lists have a fixed size,
S snippets times 15 proposals. An entry that the script would not propose scores -1 and is never picked.
"""

from typing import NamedTuple

import numpy as np

from stale_edge.config import DecodeConfig
from stale_edge.exporting.decoder.building_blocks import Decoded, hulls, snippet_weights, thresholded_runs
from stale_edge.exporting.decoder.graph_builder import END, GraphBuilder, loop_body

_TOP_SNIPPETS = 10
_CLASS_THRESHOLDS = np.arange(10) / 10
_MASK_THRESHOLDS = (0.0, 0.2, 0.4, 0.6, 0.8)
_SHORTEST = 0.02
_DIVISOR = 0.6
_MAX_DETECTIONS = 100
_NOT_PROPOSED = -1.0
_PRIME = 46337
"""Same prime as in csrc/decode_release.cpp."""


class _Proposals(NamedTuple):
    """Arrays of equal shape: starts and lasts int64, class and mask scores float64, proposed by the script bool."""

    starts: str
    lasts: str
    class_scores: str
    mask_scores: str
    proposed: str


def release_decoder(g: GraphBuilder, class_logits: str, masks: str, config: DecodeConfig) -> Decoded:
    """Write the release policy.

    Args:
        g: the nodes are added to it.
        class_logits: (K+1, T) float32.
        masks: (T, T) float32.
        config: defaults only; the policy has no settings.
    """
    if config != DecodeConfig(policy="release"):
        raise ValueError("the release policy has no settings")
    proposals, video_class = _proposals(g, class_logits, masks)
    starts, lasts, scores = _sorted_candidates(g, proposals, video_class)
    n_snippets = g.cast(g.dim(masks, 1), np.float64)
    picks, picked = _soft_nms(g, starts, lasts, scores, n_snippets)
    labels = g.op("Expand", video_class, g.op("Shape", picks))
    return Decoded(g.op("Gather", starts, picks), g.op("Gather", lasts, picks), labels, picked)


def _proposals(g: GraphBuilder, class_logits: str, masks: str) -> tuple[_Proposals, str]:
    """Write `release_proposals`: proposals (S * 15,), and the class of the video (1,) int64."""
    T = g.dim(masks, 1)
    weights = snippet_weights(g, class_logits, axis=0)
    of_classes = g.slice(weights, 0, -1, axis=0)
    probabilities = g.op("Div", of_classes, g.op("ReduceSum", weights, g.ints(0), keepdims=1))  # (K, T)
    logits = g.cast(g.slice(class_logits, 0, -1, axis=0), np.float64)
    video_class = g.op("ArgMax", g.op("ReduceSum", logits, g.ints(1), keepdims=0), axis=0, keepdims=1)
    video_scores = g.op("Squeeze", g.op("Gather", probabilities, video_class), g.ints(0))  # (T,)
    best_scores = g.op("ReduceMax", probabilities, g.ints(0), keepdims=0)  # (T,)
    times = g.op("Range", g.constant(0, np.int64), g.op("Squeeze", T), g.constant(1, np.int64))

    def highest(values: str, starts: str, ends: str) -> str:
        """Find the highest of values (..., T) in each [start, end) (...); -1 where the interval is empty."""
        axis = g.ints(-1)
        inside = g.op(
            "And",
            g.op("GreaterOrEqual", times, g.op("Unsqueeze", starts, axis)),
            g.op("Less", times, g.op("Unsqueeze", ends, axis)),
        )
        return g.op("ReduceMax", g.op("Where", inside, values, g.constant(_NOT_PROPOSED, np.float32)), axis, keepdims=0)

    # release_class_regions: (R,), R = 10
    above = g.op("Greater", g.cast(best_scores, np.float64), g.constant(_CLASS_THRESHOLDS[:, None], np.float64))
    any_above, region_starts, region_lasts = hulls(g, above)
    one = g.ints(1)
    region = g.op("And", any_above, g.op("Greater", g.op("Sub", region_lasts, region_starts), one))
    region_scores = highest(best_scores, region_starts, region_lasts)

    wanted = g.op("Min", g.ints(_TOP_SNIPPETS), T)
    best_of_snippet, snippets = g.ops("TopK", best_scores, wanted, n_outputs=2)  # (S,)
    rows = g.op("Gather", masks, snippets)  # (S, T)
    by_row = g.op("Unsqueeze", rows, one)  # (S, 1, T)
    above = g.op("Greater", by_row, g.constant(np.array(_MASK_THRESHOLDS)[:, None], np.float32))  # (S, H, T)
    length, start = _longest_runs(g, above, rows, T)  # (S, H)
    last = g.op("Sub", g.op("Add", start, length), one)
    share = g.op("Div", g.cast(g.op("Sub", last, start), np.float64), g.cast(T, np.float64))
    counts = g.op("And", g.op("Greater", length, g.ints(0)), g.op("Greater", share, g.constant(_SHORTEST, np.float64)))
    shift = highest(video_scores, start, last)
    # release_mask_peak
    inner_start, inner_end = g.op("Add", start, one), g.op("Sub", last, one)
    cut = g.op("Less", inner_start, inner_end)
    peaks = highest(
        by_row, g.op("Where", cut, inner_start, start), g.op("Where", cut, inner_end, g.op("Add", last, one))
    )
    _, hull_starts, hull_lasts = hulls(g, above)
    whole = _Proposals(
        hull_starts,
        hull_lasts,
        _csv_numbers(g, g.op("Mul", shift, peaks)),
        _csv_numbers(g, g.op("Mul", shift, g.op("Unsqueeze", best_of_snippet, one))),
        counts,
    )
    regions_of = g.op("Concat", g.dim(rows, 0), g.ints(len(_CLASS_THRESHOLDS)), axis=0)  # (S, R)
    some = g.op("ReduceMax", g.cast(counts, np.int32), one, keepdims=1)
    regions = _Proposals(
        g.op("Expand", region_starts, regions_of),
        g.op("Expand", region_lasts, regions_of),
        _csv_numbers(g, highest(by_row, region_starts, region_lasts)),
        g.op("Expand", g.cast(region_scores, np.float64), regions_of),
        g.op("And", region, g.cast(some, np.bool_)),
    )
    flat = (g.op("Reshape", g.op("Concat", a, b, axis=1), g.ints(-1)) for a, b in zip(whole, regions, strict=True))
    return _Proposals(*flat), video_class


def _longest_runs(g: GraphBuilder, above: str, rows: str, T: str) -> tuple[str, str]:
    """Find the longest run of flags (S, H, T), the first among equals: length (0: none) and start, both (S, H)."""
    runs = thresholded_runs(g, above, rows)
    n_thresholds = g.ints(len(_MASK_THRESHOLDS))
    beyond = g.op("Add", T, g.ints(1))
    cell = g.op("Add", g.op("Mul", runs.row, n_thresholds), runs.threshold)
    rank = g.op(
        "Add", g.op("Mul", g.op("Sub", runs.ends, runs.starts), beyond), g.op("Sub", T, runs.starts)
    )  # the longer first, then the earlier
    cells = g.op("Concat", g.dim(rows, 0), n_thresholds, axis=0)
    nothing = g.filled(g.op("Mul", g.dim(rows, 0), n_thresholds), 0, np.int64)
    best = g.op("ScatterElements", nothing, cell, rank, axis=0, reduction="max")
    best = g.op("Reshape", best, cells)
    return g.op("Div", best, beyond), g.op("Sub", T, g.op("Mod", best, beyond))


def _csv_numbers(g: GraphBuilder, values: str) -> str:
    """Write `release_csv_number`: float32 (S, M) to the float64 of its shortest decimal of at most nine digits."""
    value = g.op("Unsqueeze", values, g.ints(-1))
    powers = np.cumprod([1.0, *[10.0] * 22])
    digits = g.op("Round", g.op("Mul", g.cast(value, np.float64), g.constant(powers, np.float64)))
    decimals = g.op("Div", digits, g.constant(powers, np.float64))
    found = g.chain(
        "And",
        g.op("Equal", g.cast(decimals, np.float32), value),
        g.op("Less", digits, g.constant(1e9, np.float64)),
        g.op("Greater", digits, g.constant(0.0, np.float64)),
    )
    numbers = g.cast(found, np.int32)
    first = g.op("ArgMax", numbers, axis=-1, keepdims=1)
    shortest = g.op("GatherElements", decimals, first, axis=-1)
    any_found = g.cast(g.op("ReduceMax", numbers, g.ints(-1), keepdims=1), np.bool_)
    chosen = g.op("Where", any_found, shortest, g.cast(value, np.float64))
    return g.op("Squeeze", chosen, g.ints(-1))


def _release_order(g: GraphBuilder, starts: str, lasts: str, video_class: str) -> str:
    """Write `release_order`: (N,) int64. All intermediate numbers fit 32 bits, for runtimes without 64."""
    prime = g.constant(_PRIME, np.int64)

    def times(value: str, factor: str, *terms: str) -> str:
        return g.op("Mod", g.chain("Add", g.op("Mul", value, factor), *terms), prime)

    start, last, label = (g.op("Mod", value, prime) for value in (starts, lasts, video_class))
    x = times(start, g.constant(28657, np.int64), last)
    x = times(x, g.constant(17711, np.int64), label, g.constant(12345, np.int64))
    return times(times(x, x), x)


def _sorted_candidates(g: GraphBuilder, proposals: _Proposals, video_class: str) -> tuple[str, str, str]:
    """Sort as `decode_release` does, without duplicates: starts, lasts int64, scores float64, -1 for no proposal."""
    scores = g.op("Mul", proposals.mask_scores, proposals.class_scores)
    scores = g.op("Where", proposals.proposed, scores, g.constant(_NOT_PROPOSED, np.float64))
    columns = [proposals.starts, proposals.lasts, proposals.class_scores, proposals.mask_scores, scores]
    columns.append(_release_order(g, proposals.starts, proposals.lasts, video_class))
    # TopK keeps the order of equal values, so the least important key comes first.
    for column, largest in ((3, 0), (2, 0), (1, 0), (0, 0), (5, 0), (4, 1)):
        _, order = g.ops("TopK", columns[column], g.dim(scores, 0), n_outputs=2, largest=largest)
        columns = [g.op("Gather", values, order) for values in columns]
    same = [g.op("Equal", g.slice(values, 1, END, axis=0), g.slice(values, 0, -1, axis=0)) for values in columns[:4]]
    again = g.op("Concat", g.constant([False], np.bool_), g.chain("And", *same), axis=0)
    scores = g.op("Where", again, g.constant(_NOT_PROPOSED, np.float64), columns[4])
    return columns[0], columns[1], scores


def _soft_nms(g: GraphBuilder, starts: str, lasts: str, scores: str, n_snippets: str) -> tuple[str, str]:
    """Write `release_soft_nms` and the sort after it: picks int64 and scores float64, best first."""
    decays = _decays(
        g, g.op("Div", g.cast(starts, np.float64), n_snippets), g.op("Div", g.cast(lasts, np.float64), n_snippets)
    )
    zero, one = g.constant(0.0, np.float64), g.constant(1, np.int64)
    there = g.op("GreaterOrEqual", scores, zero)
    count = g.op("ReduceSum", g.cast(there, np.int64), keepdims=0)
    alone = g.op("Equal", count, one)
    # The last candidate is never picked, unless it is the only one.
    trips = g.op(
        "Min", g.op("Max", g.op("Sub", count, one), g.cast(alone, np.int64)), g.constant(_MAX_DETECTIONS, np.int64)
    )
    at = g.op("ArgMax", scores, axis=0, keepdims=1)
    go_on = g.op("Or", alone, g.op("Squeeze", g.op("Greater", g.op("Gather", scores, at), zero)))

    b = GraphBuilder(f"{g.prefix}nms_")
    iteration, condition, scores_in, at_in = (
        f"{b.prefix}{name}" for name in ("iteration", "condition", "scores", "at")
    )
    picked = b.op("Gather", scores_in, at_in)
    row = b.op("Squeeze", b.op("Gather", decays, at_in), b.ints(0))
    left = b.op("ScatterElements", b.op("Mul", scores_in, row), at_in, b.constant([_NOT_PROPOSED], np.float64), axis=0)
    next_at = b.op("ArgMax", left, axis=0, keepdims=1)
    more = b.op("Squeeze", b.op("Greater", b.op("Gather", left, next_at), b.constant(0.0, np.float64)))
    pick = b.op("Squeeze", at_in)
    body = loop_body(
        b,
        [(iteration, np.int64, []), (condition, np.bool_, []), (scores_in, np.float64, ["N"]), (at_in, np.int64, [1])],
        [more, left, next_at, pick, b.op("Squeeze", picked)],
    )
    *_, picks, decayed = g.loop(trips, go_on, [scores, at], body, n_scans=2)
    # Decay can raise a score, so the picks are not sorted. The extra last row keeps the list from being empty.
    rows = g.op("Concat", decayed, g.constant([_NOT_PROPOSED], np.float64), axis=0)
    falling, order = g.ops("TopK", rows, g.dim(rows, 0), n_outputs=2)
    order = g.slice(order, 0, -1, axis=0)
    return g.op("Gather", picks, order), g.slice(falling, 0, -1, axis=0)


def _decays(g: GraphBuilder, starts: str, ends: str) -> str:
    """Write `release_overlap` and `release_decay` for all pairs: (N, N), rows: the pick, columns: the other."""
    start, end = (g.op("Unsqueeze", values, g.ints(1)) for values in (starts, ends))
    latest, earliest = g.op("Max", end, ends), g.op("Min", start, starts)
    shared = g.op("Sub", g.op("Min", end, ends), earliest)
    union = g.op("Add", g.op("Sub", g.op("Sub", latest, earliest), shared), g.op("Sub", ends, starts))
    apart = g.op("Or", g.op("Greater", starts, end), g.op("Greater", start, ends))
    apart = g.op("Or", apart, g.op("LessOrEqual", union, g.constant(0.0, np.float64)))
    overlap = g.op("Div", shared, g.op("Where", apart, g.constant(1.0, np.float64), union))
    exponent = g.op("Mul", g.op("Neg", g.op("Mul", overlap, overlap)), g.constant(10.0, np.float64))
    decay = g.op("Div", g.op("Exp", exponent), g.constant(_DIVISOR, np.float64))
    touching = g.op("Greater", overlap, g.constant(0.0, np.float64))
    some = g.op("And", g.op("Not", apart), touching)
    return g.op("Where", some, decay, g.constant(1.0, np.float64))
