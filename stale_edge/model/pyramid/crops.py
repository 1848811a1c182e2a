"""Random parts of training videos, and the actions inside these parts."""

from typing import NamedTuple

import torch
from torch import Tensor

KEPT_SHARE = 0.5
"""An action stays in a crop if at least this share of it lies inside."""
CROP_RATIO = (0.9, 1.0)
"""Smallest and largest share that is kept of a video that fits as a whole."""
TRIES = 200
"""Crops drawn until one holds an action; the last one is taken as it is."""


class VideoSegments(NamedTuple):
    """The actions of one video, or of a part of it.

    segments: (N, 2) float32, start and end in snippets.
    labels: (N,) int64.
    n_snippets: T.
    margin: how far a snippet reaches beyond its place, to both sides, in snippets.
    """

    segments: Tensor
    labels: Tensor
    n_snippets: int
    margin: float = 0.0


def cut_segments(video: VideoSegments, *, start: int, length: int, kept_share: float = KEPT_SHARE) -> VideoSegments:
    """Give the actions of a part of a video, in snippets of that part.

    Args:
        video: all of it.
        start, length: the part, in snippets. Actions are cut off where they reach beyond it by more than the margin.
        kept_share: actions with less of their length inside are dropped, as are those without any length.
    """
    segments, labels, _, margin = video
    ends = torch.tensor([start - margin, start + length + margin], dtype=segments.dtype)
    cut = torch.stack([segments[:, 0].clamp(min=ends[0]), segments[:, 1].clamp(max=ends[1])], dim=1)
    inside = (cut[:, 1] - cut[:, 0]).clamp(min=0)
    kept = inside / (segments[:, 1] - segments[:, 0]).abs() >= kept_share  # 0 / 0 keeps nothing
    return VideoSegments(cut[kept] - start, labels[kept], length, margin)


def random_crop(video: VideoSegments, *, max_length: int, generator: torch.Generator) -> tuple[int, VideoSegments]:
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
        part = cut_segments(video, start=start, length=length)
        if len(part.labels) or not len(video.labels):
            break
    return start, part


def _uniform(least: int, greatest: int, generator: torch.Generator) -> int:
    """Draw an integer in [least, greatest]."""
    return int(torch.randint(least, greatest + 1, (), generator=generator))
