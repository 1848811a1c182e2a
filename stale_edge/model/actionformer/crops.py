"""Random parts of training videos, and what becomes of the actions in them."""

import torch
from torch import Tensor

from stale_edge.model.actionformer.objective import VideoSegments

KEPT_SHARE = 0.5
"""An action stays in a crop if at least this share of it lies inside."""
CROP_RATIO = (0.9, 1.0)
"""Least and greatest share of a video that fits as a whole."""
TRIES = 200
"""Crops drawn until one holds an action; the last one is taken as it is."""


def cut_segments(
    segments: Tensor, labels: Tensor, *, start: int, length: int, margin: float, kept_share: float = KEPT_SHARE
) -> VideoSegments:
    """Give the actions of a part of a video, in snippets of that part.

    Args:
        segments: (N, 2) float32, in snippets of the video.
        labels: (N,) int64.
        start, length: the part, in snippets.
        margin: how far around the part actions may reach, in snippets; beyond it they are cut off.
        kept_share: actions with less of their length inside are dropped, as are those without any length.
    """
    ends = torch.tensor([start - margin, start + length + margin], dtype=segments.dtype)
    cut = torch.stack([segments[:, 0].clamp(min=ends[0]), segments[:, 1].clamp(max=ends[1])], dim=1)
    inside = (cut[:, 1] - cut[:, 0]).clamp(min=0)
    kept = inside / (segments[:, 1] - segments[:, 0]).abs() >= kept_share  # 0 / 0 keeps nothing
    return VideoSegments(cut[kept] - start, labels[kept], length)


def random_crop(
    video: VideoSegments, *, max_length: int, margin: float, generator: torch.Generator
) -> tuple[int, VideoSegments]:
    """Draw a part of a video that holds an action, if `TRIES` draws find one.

    A video that fits into `max_length` loses up to a tenth of its snippets; a longer one is cut to `max_length`.

    Returns:
        The part's first snippet, and its actions.
    """
    n_snippets = video.n_snippets
    length = max_length
    if n_snippets <= max_length:
        least, greatest = (max(round(ratio * n_snippets), 1) for ratio in CROP_RATIO)
        length = _uniform(least, greatest, generator)
        if length == n_snippets:
            return 0, video
    for _ in range(TRIES):
        start = _uniform(0, n_snippets - length, generator)
        part = cut_segments(video.segments, video.labels, start=start, length=length, margin=margin)
        if len(part.labels) or not len(video.labels):
            break
    return start, part


def _uniform(least: int, greatest: int, generator: torch.Generator) -> int:
    """Draw an integer in [least, greatest]."""
    return int(torch.randint(least, greatest + 1, (), generator=generator))
