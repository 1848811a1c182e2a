"""What single snippets say: whether something happens, and how much each is like what happens in its video."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from stale_edge.model.layers import l2_normalize


class Evidence(NamedTuple):
    """Of B videos with T snippets.

    actionness: (B, T, 1), logits.
    weights: (B, T, 1), the share of each snippet in its video's summary, not normalised.
    projected: (B, T, D), snippets in the text space.
    video: (B, 1, D), their weighted mean, of length 1.
    cues: (B, T, 4), numbers that localization reads.
    """

    actionness: Tensor
    weights: Tensor
    projected: Tensor
    video: Tensor
    cues: Tensor


N_CUES = 4


class SnippetEvidence(nn.Module):
    """Two linear maps, to actionness and to the text space, and the likeness of snippets to their video's actions.

    A video's action is the mean of its snippets weighted by actionness squared. The likeness needs no training for a
    class, so it serves unseen ones as well.
    """

    cue_scales: Tensor

    def __init__(self, channels: int, embed_dim: int) -> None:
        super().__init__()
        self.project = nn.Linear(channels, embed_dim, bias=False)
        start = nn.init.eye_ if channels == embed_dim else nn.init.orthogonal_
        start(self.project.weight)
        self.actionness = nn.Linear(channels, 1)
        nn.init.zeros_(self.actionness.weight)
        nn.init.zeros_(self.actionness.bias)

        # Lengths per channel's deviation; actionness stays as it is.
        scales = [1.0, embed_dim**-0.5, embed_dim**-0.5, channels**-0.5]
        self.register_buffer("cue_scales", torch.tensor(scales), persistent=False)

    def forward(self, snippets: Tensor, text: Tensor, scale: Tensor) -> Evidence:
        """Read normalised snippets (B, T, C).

        Args:
            text: (K, D), class embeddings of length 1.
            scale: of cosines, for the probability of each class in the whole video.
        """
        actionness = self.actionness(snippets)  # (B, T, 1)
        weights = torch.sigmoid(actionness).square()
        projected = self.project(snippets)  # (B, T, D)
        shares = (weights / weights.sum(dim=1, keepdim=True)).transpose(1, 2)  # (B, 1, T)
        video = l2_normalize(shares @ projected)  # (B, 1, D)
        action = l2_normalize(shares @ snippets)  # (B, 1, C)
        named = torch.softmax(video @ text.T * scale, dim=-1) @ text  # (B, 1, D)
        likeness = projected @ torch.cat([video, named], dim=1).transpose(1, 2)  # (B, T, 2)
        cues = torch.cat([actionness, likeness, snippets @ action.transpose(1, 2)], dim=-1)
        return Evidence(actionness, weights, projected, video, cues * self.cue_scales)
