"""The paper's inference (section 3.3) as ONNX nodes: decoding as in csrc/decode_paper.cpp, inside the graph.

The arithmetic has the same types and order as the core's, float32 or float64, so equal logits and masks give equal
picks. Candidates of all classes go through one soft-NMS; each class gets its own stretch of the time axis, so
candidates of two classes never overlap.
"""

import math
from typing import NamedTuple

import numpy as np

from stale_edge.config import DecodeConfig, RunsConfig
from stale_edge.exporting.decoder.building_blocks import (
    Decoded,
    distinct_neighbours,
    hulls,
    snippet_weights,
    thresholded_runs,
)
from stale_edge.exporting.decoder.graph_builder import GraphBuilder, loop_body

GONE = -np.inf
LOG_OF_ZERO = -1e300
LOWEST_KEY = float(np.finfo(np.float64).min)
SHARPEST = 1e290


class _Proposals(NamedTuple):
    """Arrays of equal length: starts, ends, labels and votes int64, scores float64."""

    starts: str
    ends: str
    labels: str
    votes: str
    scores: str


def paper_decoder(g: GraphBuilder, class_logits: str, masks: str, config: DecodeConfig) -> Decoded:
    """Write the paper policy.

    Args:
        g: the nodes are added to it.
        class_logits: (K+1, T) float32.
        masks: (T, T) float32.
        config: settings of the policy; baked in.
    """
    probability, snippet, label = _votes(g, class_logits, config)
    proposals = _proposals(g, masks, probability, snippet, label, config)
    starts, ends, labels, scores = _distinct(g, proposals, masks, n_votes=g.dim(probability, 0))
    picks, decayed = soft_nms_by_label(g, starts, ends, labels, scores, g.dim(masks, 1), config)
    starts, ends, labels = (g.op("Gather", value, picks) for value in (starts, ends, labels))
    return Decoded(starts, ends, labels, decayed)


def _votes(g: GraphBuilder, class_logits: str, config: DecodeConfig) -> tuple[str, str, str]:
    """Take the best (snippet, class) pairs, best first: probability float64, snippet and label int64, all (V,)."""
    rows = g.op("Transpose", class_logits, perm=[1, 0])  # (T, K+1): among equal pairs the earlier snippet comes first
    weights = g.cast(snippet_weights(g, rows, axis=1), np.float64)
    sums = g.op("ReduceSum", weights, g.ints(1), keepdims=1)
    of_classes = g.slice(weights, 0, -1, axis=1)  # (T, K)
    flat = g.op("Reshape", g.op("Div", of_classes, sums), g.ints(-1))
    wanted = g.op("Min", g.ints(config.top_snippets), g.dim(flat, 0))
    probability, pair = g.ops("TopK", flat, wanted, n_outputs=2)
    n_classes = g.dim(of_classes, 1)
    snippet = g.op("Div", pair, n_classes)
    return probability, snippet, g.op("Mod", pair, n_classes)


def _proposals(
    g: GraphBuilder, masks: str, probability: str, snippet: str, label: str, config: DecodeConfig
) -> _Proposals:
    """Threshold each vote's mask at every threshold.

    The last entry is a placeholder that scores -1, so that no list is ever empty.
    """
    counts = g.op("Greater", probability, g.constant(config.class_threshold, np.float64))
    rows = g.op("Gather", masks, snippet)  # (V, T)
    thresholds = np.unique(np.array(config.mask_thresholds, dtype=np.float32))
    above = g.op("Greater", g.op("Unsqueeze", rows, g.ints(1)), g.constant(thresholds[:, None], np.float32))
    above = g.op("And", above, g.op("Unsqueeze", counts, g.ints(1, 2)))  # (V, H, T)
    if config.regions == "runs":
        runs = thresholded_runs(g, above, rows)
        vote, starts, ends, peaks = runs.row, runs.starts, runs.ends, runs.peaks
    else:
        vote, starts, ends, peaks = _hulls(g, above, rows)
    scores = g.op("Mul", g.op("Gather", probability, vote), g.cast(peaks, np.float64))
    labels = g.op("Gather", label, vote)
    if config.min_snippets > 1:
        long = g.op("GreaterOrEqual", g.op("Sub", ends, starts), g.ints(config.min_snippets))
        kept = g.where_in_order(long)
        starts, ends, labels, vote, scores = (g.op("Gather", x, kept) for x in (starts, ends, labels, vote, scores))
    nowhere, nothing = g.ints(0), g.constant([-1.0], np.float64)
    starts, ends, labels, vote = (g.op("Concat", x, nowhere, axis=0) for x in (starts, ends, labels, vote))
    return _Proposals(starts, ends, labels, vote, g.op("Concat", scores, nothing, axis=0))


def _hulls(g: GraphBuilder, above: str, rows: str) -> tuple[str, str, str, str]:
    """Find the first and the last snippet above each threshold (V, H, T): row, start, end int64, peak float32."""
    any_above, first, last = hulls(g, above)  # (V, H)
    found = g.op("NonZero", any_above)  # (2, R)
    row = g.op("Squeeze", g.slice(found, 0, 1, axis=0), g.ints(0))
    pairs = g.op("Transpose", found, perm=[1, 0])
    starts, lasts = (g.op("GatherND", places, pairs) for places in (first, last))
    peaks = g.op("Gather", g.op("ReduceMax", rows, g.ints(1), keepdims=0), row)
    return row, starts, g.op("Add", lasts, g.ints(1)), peaks


def _distinct(g: GraphBuilder, proposals: _Proposals, masks: str, *, n_votes: str) -> tuple[str, str, str, str]:
    """Keep each segment of a label once, with its best score, in the order of the core's candidates.

    That order breaks ties of scores: by label, then by the first vote for the segment, then by its end, then the
    shorter first. The integer keys that sort like these tuples fit 64 bits while K * V * T**2 is below 9e18.
    """
    starts, ends, labels, votes, scores = proposals
    beyond = g.op("Add", g.dim(masks, 1), g.ints(1))  # T + 1: more than any start or end

    def packed(value: str, *digits: tuple[str, str]) -> str:
        for digit, base in digits:
            value = g.op("Add", g.op("Mul", value, base), digit)
        return value

    segment = packed(labels, (starts, beyond), (ends, beyond), (votes, n_votes))
    in_order, order = g.ops("TopK", segment, g.dim(segment, 0), n_outputs=2, largest=0)
    same = g.op("Div", in_order, n_votes)
    places, group = distinct_neighbours(g, same)
    none = g.filled(g.op("Shape", places), -1.0, np.float64)
    best = g.op("ScatterElements", none, group, g.op("Gather", scores, order), axis=0, reduction="max")
    first = g.op("Gather", order, places)
    starts, ends, labels, votes = (g.op("Gather", value, first) for value in (starts, ends, labels, votes))

    rank = packed(labels, (votes, n_votes), (ends, beyond), (g.op("Sub", g.dim(masks, 1), starts), beyond))
    _, order = g.ops("TopK", rank, g.dim(rank, 0), n_outputs=2, largest=0)
    starts, ends, labels, best = (g.op("Gather", value, order) for value in (starts, ends, labels, best))
    return starts, ends, labels, best


def soft_nms_by_label(
    g: GraphBuilder,
    starts: str,
    ends: str,
    labels: str,
    scores: str,
    n_snippets: str,
    config: DecodeConfig | RunsConfig,
) -> tuple[str, str]:
    """Write soft-NMS of Bodla et al. as csrc/soft_nms.cpp computes it: picks int64 and scores float64, best first."""
    gaussian = config.soft_nms == "gaussian"
    keys = g.op("Max", logarithms(g, scores), g.constant(LOG_OF_ZERO, np.float64)) if gaussian else scores
    enough = g.op("GreaterOrEqual", scores, g.constant(config.min_score, np.float64))
    keys = g.op("Where", enough, keys, g.constant(GONE, np.float64))
    floor = config.min_score
    if gaussian:
        floor = math.log(config.min_score) if config.min_score > 0 else LOWEST_KEY
    stretch = g.op("Mul", labels, g.op("Add", n_snippets, n_snippets))  # each label's part of the time axis
    begins, stops = (g.cast(g.op("Add", place, stretch), np.float64) for place in (starts, ends))
    lengths = g.op("Sub", stops, begins)
    least = g.constant([floor], np.float64)
    value, at = g.ops("TopK", keys, g.ints(1), n_outputs=2)
    alive = g.op("GreaterOrEqual", value, least)

    b = GraphBuilder(f"{g.prefix}nms_")
    iteration, condition, key_in, value_in, at_in = (
        f"{b.prefix}{name}" for name in ("iteration", "condition", "keys", "value", "at")
    )
    pick = b.op("Squeeze", at_in)
    begin, stop, length = (b.op("Gather", whole, pick) for whole in (begins, stops, lengths))
    # Both ends of every candidate are clipped to the pick; the length between them is the intersection.
    shared = b.op("Sub", b.op("Clip", stops, begin, stop), b.op("Clip", begins, begin, stop))
    either = b.op("Sub", b.op("Add", lengths, length), shared)
    tiou = b.op("Div", shared, either)
    if gaussian:
        sharpness = b.constant(min(1.0 / config.sigma, SHARPEST), np.float64)
        left = b.op("Sub", key_in, b.op("Mul", b.op("Mul", tiou, tiou), sharpness))
    elif config.soft_nms == "linear":
        lost = b.op(
            "Where",
            b.op("GreaterOrEqual", tiou, b.constant(config.tiou_threshold, np.float64)),
            tiou,
            b.constant(0.0, np.float64),
        )
        left = b.op("Mul", key_in, b.op("Sub", b.constant(1.0, np.float64), lost))
    else:
        # Every pair of one label reaches a threshold of zero, even without overlap.
        reached = (
            b.op("GreaterOrEqual", tiou, b.constant(config.tiou_threshold, np.float64))
            if config.tiou_threshold > 0
            else b.op("Equal", labels, b.op("Gather", labels, at_in))
        )
        left = b.op("Where", reached, b.op("Min", key_in, b.constant(0.0, np.float64)), key_in)
    left = b.op("ScatterElements", left, at_in, b.constant([GONE], np.float64), axis=0)
    next_value, next_at = b.ops("TopK", left, b.ints(1), n_outputs=2)
    go_on = b.op("Squeeze", b.op("GreaterOrEqual", next_value, b.constant([floor], np.float64)))
    pick_value = b.op("Squeeze", value_in)
    body = loop_body(
        b,
        [
            (iteration, np.int64, []),
            (condition, np.bool_, []),
            (key_in, np.float64, ["N"]),
            (value_in, np.float64, [1]),
            (at_in, np.int64, [1]),
        ],
        [go_on, left, next_value, next_at, pick, pick_value],
    )
    *_, picks, picked = g.loop(
        g.constant(config.max_detections, np.int64),
        g.op("Squeeze", alive),
        [keys, value, at],
        body,
        n_scans=2,
    )
    return picks, g.op("Exp", picked) if gaussian else picked


def logarithms(g: GraphBuilder, scores: str) -> str:
    """Take logarithms (N,); equal scores get equal logarithms.

    Vectorised and scalar logarithms differ in the last bit, and runtimes use both in one array; so the logarithm of
    each distinct score is computed once.
    """
    falling, order = g.ops("TopK", scores, g.dim(scores, 0), n_outputs=2)
    places, group = distinct_neighbours(g, falling)
    logarithms = g.op("Gather", g.op("Log", g.op("Gather", falling, places)), group)
    return g.op("ScatterElements", scores, order, logarithms, axis=0)
