"""Means of snippets over segments that start and end anywhere."""

import torch
from torch import Tensor


def pooled(snippets: Tensor, segments: Tensor) -> Tensor:
    """Average snippets over segments; each snippet counts by the part of it that lies inside.

    A segment shorter than a snippet is widened to one, and one beyond the video is moved into it. The mean changes
    continuously with the ends of a segment. With a rule such as "the middle of a snippet lies inside", a rounding
    error could add or remove a snippet.

    Args:
        snippets: (B, T, D); snippet i covers [i, i + 1).
        segments: (B, M, 2), start and end in snippets, end >= start.

    Returns:
        (B, M, D).
    """
    length = torch.ones_like(snippets[:, :, :1]).sum(dim=1, keepdim=True)  # (B, 1, 1); a tensor, so that T stays free
    middle = torch.minimum(segments.mean(dim=2, keepdim=True).clamp(min=0.5), length - 0.5)  # (B, M, 1)
    half = (0.5 * (segments[:, :, 1:] - segments[:, :, :1])).clamp(min=0.5)
    start, end = (middle - half).clamp(min=0.0), torch.minimum(middle + half, length)
    mean = snippets.mean(dim=1, keepdim=True)  # subtracted, so that sums over long videos stay small
    sums = torch.cumsum(snippets - mean, dim=1)
    sums = torch.cat([torch.zeros_like(mean), sums], dim=1)  # (B, T + 1, D), sums before each snippet
    return mean + (_sum_before(sums, end, length) - _sum_before(sums, start, length)) / (end - start)


def _sum_before(sums: Tensor, place: Tensor, length: Tensor) -> Tensor:
    """Sum the snippets before places (B, M, 1) inside the video."""
    lower = place.floor()
    dim = sums.shape[2]
    rows = (lower.long(), torch.minimum(lower + 1, length).long())
    below, above = (sums.gather(1, row.expand(-1, -1, dim)) for row in rows)
    return below + (place - lower) * (above - below)
