"""The compiled core: C++ behind `stale_edge.decoding`, which converts arguments, documents them and holds the defaults.

Arrays must be contiguous, aligned and of exactly the type named here, and no other thread may rewrite them while a
call runs (csrc/stale_core.hpp, "Limits"). Every function releases the GIL while it computes and raises ValueError,
with the row named, for input it refuses.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Labelled = tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]
"""Segments (N, 2), labels (N,) and scores (N,)."""

def tiou(segments: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]: ...
def soft_nms(
    segments: NDArray[np.float64],
    scores: NDArray[np.float64],
    *,
    method: str,
    sigma: float,
    tiou_threshold: float,
    min_score: float,
    top_k: int | None,
    length_margin: float,
) -> tuple[NDArray[np.int64], NDArray[np.float32]]: ...
def mask_segments(
    mask: NDArray[np.float32], *, threshold: float, regions: str, min_snippets: int
) -> NDArray[np.int64]: ...
def decode_paper(
    class_logits: NDArray[np.float32],
    masks: NDArray[np.float32],
    *,
    class_threshold: float,
    top_snippets: int,
    mask_thresholds: Sequence[float],
    regions: str,
    min_snippets: int,
    soft_nms: str,
    sigma: float,
    tiou_threshold: float,
    min_score: float,
    max_detections: int,
) -> Labelled: ...
def paper_proposals(
    class_logits: NDArray[np.float32],
    masks: NDArray[np.float32],
    *,
    class_threshold: float,
    top_snippets: int,
    mask_thresholds: Sequence[float],
    regions: str,
    min_snippets: int,
    min_score: float,
) -> Labelled: ...
def soft_nms_by_label(
    candidates: Labelled,
    settled: Labelled,
    *,
    method: str,
    sigma: float,
    tiou_threshold: float,
    min_score: float,
    top_k: int | None,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]: ...
def join_at_seam(
    earlier: Labelled,
    later: Labelled,
    *,
    zone_start: float,
    zone_end: float,
    seam: float,
    final_until: float,
    same_action: float,
) -> Labelled: ...
def voting_snippets(class_logits: NDArray[np.float32], *, class_threshold: float, top_snippets: int) -> list[int]: ...
def mask_rows(
    networks: NDArray[np.float32], features: NDArray[np.float32], rows: Sequence[int]
) -> NDArray[np.float32]: ...
def decode_release(class_logits: NDArray[np.float32], masks: NDArray[np.float32]) -> Labelled: ...
def release_proposals(
    class_logits: NDArray[np.float32], masks: NDArray[np.float32]
) -> list[tuple[int, int, float, float, int]]: ...
def points_proposals(
    class_logits: NDArray[np.float32],
    offsets: NDArray[np.float32],
    valid: NDArray[np.bool_],
    level_lengths: Sequence[int],
    *,
    pre_nms_threshold: float,
    pre_nms_top_k: int,
    duration_threshold: float,
) -> Labelled: ...
def suppress_points(
    proposals: Labelled,
    *,
    multiclass: bool,
    method: str,
    sigma: float,
    tiou_threshold: float,
    min_score: float,
    voting_threshold: float,
    max_detections: int,
) -> Labelled: ...
def decode_runs(
    class_logits: NDArray[np.float32],
    attention: NDArray[np.float32] | None,
    *,
    suppress: bool,
    class_threshold: float,
    top_share: float,
    thresholds: Sequence[float],
    class_scores: str,
    threshold_scale: str,
    smoothing: float,
    run_score: str,
    surroundings: float,
    video_weight: float,
    length_power: float,
    min_snippets: int,
    soft_nms: str,
    sigma: float,
    tiou_threshold: float,
    min_score: float,
    max_detections: int,
) -> Labelled: ...
