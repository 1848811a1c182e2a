"""Proposals, soft-NMS and detections; torch-free, computed by the C++ core."""

from stale_edge.decoding.baseline import baseline_detections
from stale_edge.decoding.inference import (
    DecodedArrays,
    ReleaseProposal,
    decode,
    decode_arrays,
    paper_proposals,
    release_proposals,
)
from stale_edge.decoding.joining import joined_at_seam, suppressed
from stale_edge.decoding.mask_rows import masks_of, voting_snippets
from stale_edge.decoding.suppression import mask_segments, soft_nms

__all__ = [
    "DecodedArrays",
    "ReleaseProposal",
    "baseline_detections",
    "decode",
    "decode_arrays",
    "joined_at_seam",
    "mask_segments",
    "masks_of",
    "paper_proposals",
    "release_proposals",
    "soft_nms",
    "suppressed",
    "voting_snippets",
]
