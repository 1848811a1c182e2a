"""Absolute positions: sinusoids added to the embedded snippets."""

import torch
from torch import Tensor, nn

from stale_edge.model.actionformer.padding import public_length
from stale_edge.model.actionformer.settings import ActionFormerConfig
from stale_edge.model.stretching import stretched_rows

BASE = 10000.0


class AbsolutePositions(nn.Module):
    """Give the position of every snippet as D sinusoids, divided by sqrt(D).

    Videos up to `max_length` read the table; longer ones stretch it linearly, as the public program does.
    """

    table: Tensor

    def __init__(self, config: ActionFormerConfig) -> None:
        super().__init__()
        self.config = config
        channels = torch.arange(config.pyramid_dim, dtype=torch.float64)
        wavelengths = BASE ** (2 * (channels // 2) / config.pyramid_dim)
        angles = torch.arange(config.max_length, dtype=torch.float64)[:, None] / wavelengths
        table = torch.where(channels % 2 == 0, angles.sin(), angles.cos()) / config.pyramid_dim**0.5
        self.register_buffer("table", table.float(), persistent=False)

    def forward(self, length: int, n_snippets: int) -> Tensor:
        """Give (length, D) for a video of T = `n_snippets`, padded to `length`."""
        stretched = public_length(self.config, n_snippets)
        return stretched_rows(self.table, length, n_rows=self.config.max_length, stretched=stretched)
