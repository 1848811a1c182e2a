"""Proposals, soft-NMS and detections; torch-free, computed by the C++ core."""

from stale_edge.config import FrameGrid, PointsConfig, RelativeGrid, RunsConfig
from stale_edge.decoding.inference import (
    DecodedArrays,
    ReleaseProposal,
    decode_arrays,
    paper_proposals,
    release_proposals,
)
from stale_edge.decoding.joining import joined_at_seam, suppressed
from stale_edge.decoding.mask_rows import masks_of, voting_snippets
from stale_edge.decoding.points import (
    decode_points,
    fused_with_video_scores,
    grid_seconds,
    points_candidates,
    suppressed_points,
)
from stale_edge.decoding.policies import POLICIES, Decoder, decode, decode_outputs, decoder_of, missing_outputs
from stale_edge.decoding.runs import decode_runs, decode_runs_arrays, runs_candidates
from stale_edge.decoding.suppression import mask_segments, soft_nms
from stale_edge.decoding.training_free import training_free_detections, training_free_logits

__all__ = [
    "POLICIES",
    "DecodedArrays",
    "Decoder",
    "FrameGrid",
    "PointsConfig",
    "RelativeGrid",
    "ReleaseProposal",
    "RunsConfig",
    "decode",
    "decode_arrays",
    "decode_outputs",
    "decode_points",
    "decode_runs",
    "decode_runs_arrays",
    "decoder_of",
    "fused_with_video_scores",
    "grid_seconds",
    "joined_at_seam",
    "mask_segments",
    "masks_of",
    "missing_outputs",
    "paper_proposals",
    "points_candidates",
    "release_proposals",
    "runs_candidates",
    "soft_nms",
    "suppressed",
    "suppressed_points",
    "training_free_detections",
    "training_free_logits",
    "voting_snippets",
]
