"""The score of a segment by what lies inside it and what surrounds it."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SHORTEST = 0.5
"""Length that shorter segments and surroundings count with, in snippets."""
LEAST_MARGIN = 1.0
"""Shortest surroundings, in snippets."""


class SegmentScore(nn.Module):
    """Compare the means of evidence inside a segment with those before it, after it and in the whole video.

    The idea of score calibration by the surroundings of a segment is TF-CADE's; here two linear layers learn it.
    Means come from cumulative sums, so the cost is linear in T.

    Args:
        n_evidence: channels of the evidence.
        hidden_dim: hidden layer.
        surroundings: part of a segment's length that counts as before and after it.
    """

    def __init__(self, n_evidence: int, *, hidden_dim: int, surroundings: float) -> None:
        super().__init__()
        self.surroundings = surroundings
        self.hidden = nn.Linear(3 * n_evidence + 2, hidden_dim)
        self.score = nn.Linear(hidden_dim, 1)

    def forward(self, evidence: Tensor, segments: Tensor, point_logits: Tensor, level_bias: Tensor) -> Tensor:
        """Give logits (B, P, 1).

        Args:
            evidence: (B, T, E).
            segments: (B, P, 2), start and end in snippets.
            point_logits: (B, P, 1), what the pyramid says.
            level_bias: (P, hidden_dim), of the level of each point.
        """
        inside, before, after, length = segment_means(evidence, segments, surroundings=self.surroundings)
        everywhere = evidence.mean(dim=1, keepdim=True)
        seen = [inside - everywhere, inside - before, inside - after, point_logits, length.log()]
        hidden = torch.relu(self.hidden(torch.cat(seen, dim=-1)) + level_bias)
        return self.score(hidden)  # type: ignore[no-any-return]


def segment_means(evidence: Tensor, segments: Tensor, *, surroundings: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Average evidence inside, before and after segments, each (B, P, E); outside the video there is nothing.

    Args:
        evidence: (B, T, E), constant over each snippet.
        segments: (B, P, 2), start and end in snippets; they are kept in [0, T].
        surroundings: part of the length before and after; at least `LEAST_MARGIN`.

    Returns:
        The three means, and the length (B, P, 1) in snippets, at least `SHORTEST`.
    """
    total = F.pad(evidence.cumsum(dim=1), (0, 0, 1, 0))  # (B, T + 1, E)
    end_of_video = torch.ones_like(evidence[:1, :, :1]).sum(dim=1, keepdim=True)  # (1, 1, 1), T
    zero = torch.zeros_like(end_of_video)

    def kept(places: Tensor) -> Tensor:
        return torch.minimum(torch.maximum(places, zero), end_of_video)

    def up_to(places: Tensor) -> Tensor:
        """Sum the evidence before places (B, P, 1)."""
        first = torch.minimum(places.floor(), end_of_video - 1)
        share = places - first
        row = first.long().expand(-1, -1, total.shape[2])
        return torch.gather(total, 1, row) * (1 - share) + torch.gather(total, 1, row + 1) * share

    start, end = kept(segments[..., :1]), kept(segments[..., 1:])
    length = (end - start).clamp(min=SHORTEST)
    margin = (surroundings * length).clamp(min=LEAST_MARGIN)
    early, late = kept(start - margin), kept(end + margin)
    at_early, at_start, at_end, at_late = up_to(early), up_to(start), up_to(end), up_to(late)
    inside = (at_end - at_start) / length
    before = (at_start - at_early) / (start - early).clamp(min=SHORTEST)
    after = (at_late - at_end) / (late - end).clamp(min=SHORTEST)
    return inside, before, after, length
