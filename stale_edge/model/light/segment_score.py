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
        means, length = segment_means(evidence, segments, surroundings=self.surroundings)
        inside = means[:, :, :1]  # (B, P, 1, E)
        everywhere = evidence.mean(dim=1)[:, None, None]  # (B, 1, 1, E)
        contrasts = torch.cat([inside - everywhere, inside - means[:, :, 1:]], dim=2).flatten(2)  # (B, P, 3 E)
        hidden = torch.relu(self.hidden(torch.cat([contrasts, point_logits, length.log()], dim=-1)) + level_bias)
        return self.score(hidden)  # type: ignore[no-any-return]


def segment_means(evidence: Tensor, segments: Tensor, *, surroundings: float) -> tuple[Tensor, Tensor]:
    """Average evidence inside, before and after segments; outside the video there is nothing.

    Args:
        evidence: (B, T, E), constant over each snippet.
        segments: (B, P, 2), start and end in snippets; they are kept in [0, T].
        surroundings: part of the length before and after; at least `LEAST_MARGIN`.

    Returns:
        The three means (B, P, 3, E), and the length (B, P, 1) in snippets, at least `SHORTEST`.
    """
    end_of_video = torch.ones_like(evidence[:1, :, :1]).sum(dim=1)  # (1, 1), T

    def kept(places: Tensor) -> Tensor:
        return torch.minimum(torch.relu(places), end_of_video)

    bounds = kept(segments)
    length = (bounds[..., 1:] - bounds[..., :1]).clamp(min=SHORTEST)
    margin = (surroundings * length).clamp(min=LEAST_MARGIN)
    places = torch.cat([bounds, kept(bounds + margin * margin.new_tensor([-1.0, 1.0]))], dim=-1)  # (B, P, 4)
    sums = _sums_up_to(evidence, places, torch.minimum(places.floor(), end_of_video - 1))  # (B, P, 4, E)
    start, end, early, late = range(4)
    above, below = [end, start, late], [start, early, end]  # inside, before, after
    lengths = (places[..., above] - places[..., below]).clamp(min=SHORTEST)
    return (sums[:, :, above] - sums[:, :, below]) / lengths[..., None], length


def _sums_up_to(evidence: Tensor, places: Tensor, snippets: Tensor) -> Tensor:
    """Sum evidence (B, T, E) before places (B, P, N), each in or at the end of the snippet of that number.

    One gather of whole rows reads the sum up to the end of that snippet and what it adds.
    """
    n_videos, n_snippets = evidence.shape[:2]
    rows = torch.cat([evidence.cumsum(dim=1), evidence], dim=-1).flatten(0, 1)  # (B T, 2 E)
    first_rows = torch.arange(n_videos, device=evidence.device)[:, None, None] * n_snippets
    total, added = F.embedding(snippets.long() + first_rows, rows).chunk(2, dim=-1)
    return total - added * (snippets + 1 - places)[..., None]
