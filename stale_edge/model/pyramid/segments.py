"""Annotated actions on a video's grid of snippets."""

from collections.abc import Sequence

import torch
from torch import Tensor

from stale_edge.config import FrameGrid, TimeGrid
from stale_edge.model.pyramid.crops import VideoSegments
from stale_edge.model.targets import LabelledSpan


def video_segments(
    actions: Sequence[LabelledSpan], *, vocabulary: Sequence[str], grid: TimeGrid, n_snippets: int, others: bool = False
) -> VideoSegments:
    """Put the actions of one video on its grid of snippets.

    Args:
        actions: of the video.
        vocabulary: K class names.
        grid: of the video.
        n_snippets: T.
        others: whether actions of other classes are kept, with the label K; else they are left out.
    """
    rows = {name: row for row, name in enumerate(vocabulary)}
    kept = [action for action in actions if others or action.label in rows]
    seconds = torch.tensor([[a.start_s, a.end_s] for a in kept], dtype=torch.float64).reshape(-1, 2)
    labels = torch.tensor([rows.get(action.label, len(rows)) for action in kept], dtype=torch.int64)
    places = grid_places(seconds, grid, n_snippets=n_snippets).float()
    margin = 0.5 * grid.num_frames / grid.stride if isinstance(grid, FrameGrid) else 0.0
    return VideoSegments(places, labels, n_snippets, margin)


def grid_places(seconds: Tensor, grid: TimeGrid, *, n_snippets: int) -> Tensor:
    """Convert seconds to snippets of a grid: the inverse of `decoding.grid_seconds`, without its limits.

    Args:
        seconds: any shape, float64.
        grid: a `FrameGrid` or `RelativeGrid`.
        n_snippets: T of the video; only a `RelativeGrid` uses it.
    """
    if isinstance(grid, FrameGrid):
        return (seconds * grid.fps - 0.5 * grid.num_frames) / grid.stride
    return seconds / grid.duration_s * n_snippets
