"""The places of a pyramid's points, and the targets of each point."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

SAME_LENGTH = 1e-3
"""Actions whose lengths differ by no more than this, in snippets, count as equally short: a point gets all of them."""


class Points(NamedTuple):
    """Every point of every level, fine to coarse; each (P,) float32, in snippets.

    place: its place in the video.
    least, greatest: range of the distances to start or end that it predicts.
    stride: distance between two points of its level.
    """

    place: Tensor
    least: Tensor
    greatest: Tensor
    stride: Tensor


def points_of(ranges: Sequence[tuple[float, float]], length: int) -> Points:
    """Place the points of levels with these ranges for a padded length, a multiple of the coarsest level's stride."""
    levels = []
    for level, (least, greatest) in enumerate(ranges):
        place = torch.arange(0, length, 1 << level, dtype=torch.float32)
        rest = torch.tensor([least, greatest, float(1 << level)]).expand(len(place), 3)
        levels.append(torch.cat([place[:, None], rest], dim=1))
    return Points(*torch.cat(levels).unbind(dim=1))


def assign_points(
    points: Points, segments: Tensor, labels: Tensor, *, n_classes: int, center_radius: float | None
) -> tuple[Tensor, Tensor]:
    """Assign an action to each point: the shortest of those that it lies in and whose size suits its level.

    Args:
        points: P points.
        segments: (N, 2) float32, start and end in snippets, N >= 0.
        labels: (N,) int64, in [0, n_classes).
        n_classes: K.
        center_radius: a point must lie this near the middle of an action, in strides; None: anywhere inside.

    Returns:
        Class targets (P, K), 1 for the classes of the action; several where actions are equally short.
        Offset targets (P, 2), distances to start and end in strides; 0 where there is no action.
    """
    if not len(segments):
        return torch.zeros(len(points.place), n_classes), torch.zeros(len(points.place), 2)
    start, end = segments[:, 0], segments[:, 1]  # (N,)
    place, stride = points.place[:, None], points.stride[:, None]  # (P, 1)
    distances = torch.stack([place - start, end - place], dim=2)  # (P, N, 2)
    if center_radius is None:
        inside = (place > start) & (place < end)
    else:
        middle, radius = 0.5 * (start + end), stride * center_radius
        inside = (place > torch.maximum(middle - radius, start)) & (place < torch.minimum(middle + radius, end))
    farthest = distances.amax(dim=2)
    suits = inside & (farthest >= points.least[:, None]) & (farthest <= points.greatest[:, None])  # (P, N)
    lengths = torch.where(suits, end - start, torch.inf)
    shortest, action = lengths.min(dim=1)  # (P,); the first of equals
    answers = suits & (lengths <= shortest[:, None] + SAME_LENGTH)
    classes = answers.float() @ torch.nn.functional.one_hot(labels, n_classes).float()
    offsets = distances[torch.arange(len(action)), action] / stride
    return classes.clamp(max=1.0), torch.where(suits.any(dim=1)[:, None], offsets, 0.0)
