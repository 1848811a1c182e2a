"""Proposals, soft-NMS and detections; torch-free, computed by the C++ core."""

from stale_edge.decoding.baseline import baseline_detections
from stale_edge.decoding.inference import DecodedArrays, ReleaseProposal, decode, decode_arrays, release_proposals
from stale_edge.decoding.mask_rows import masks_of, voting_snippets
from stale_edge.decoding.suppression import mask_segments, soft_nms

__all__ = [
    "DecodedArrays",
    "ReleaseProposal",
    "baseline_detections",
    "decode",
    "decode_arrays",
    "mask_segments",
    "masks_of",
    "release_proposals",
    "soft_nms",
    "voting_snippets",
]
