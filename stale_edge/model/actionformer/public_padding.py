"""The network on videos that are padded as the public program pads them: the reference of time."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stale_edge.model.actionformer.network import ActionFormer
from stale_edge.model.actionformer.padding import padded_length, public_length
from stale_edge.model.pyramid.output import PointOutput


class PublicPadding(nn.Module):
    """Pad every video to the public length, run the network on all of it, and cut each level to the points it needs.

    The outputs are those of the network itself. The work is that of the public program: 2,304 snippets for a video of
    500 with the THUMOS14 network.
    """

    def __init__(self, network: ActionFormer) -> None:
        super().__init__()
        self.network = network
        self.config = network.config

    def forward(self, features: Tensor, class_embeddings: Tensor) -> PointOutput:
        """Run features (B, T, C) and class embeddings (K, 3 D + 1)."""
        n_videos, n_snippets = features.shape[:2]
        public, needed = public_length(self.config, n_snippets), padded_length(self.config, n_snippets)
        valid = F.pad(torch.ones(n_videos, n_snippets, device=features.device), (0, public - n_snippets))
        output = self.network(F.pad(features, (0, 0, 0, public - n_snippets)), class_embeddings, valid)
        starts, start = [], 0
        for level in range(self.config.n_levels):
            starts.append(torch.arange(start, start + (needed >> level), device=features.device))
            start += public >> level
        points = torch.cat(starts)
        return PointOutput(*(part.index_select(1, points) for part in output))
