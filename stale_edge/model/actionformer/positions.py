"""Absolute positions: sinusoids added to the embedded snippets."""

import torch
from torch import Tensor, nn

from stale_edge.model.actionformer.padding import public_length
from stale_edge.model.actionformer.settings import ActionFormerConfig

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
        last = self.config.max_length - 1
        places = torch.arange(length, device=self.table.device, dtype=torch.float32)
        # Middles of equal cells, held at the first and last row: linear interpolation with align_corners = False.
        places = ((places + 0.5) * (self.config.max_length / stretched) - 0.5).clamp(0.0, float(last))
        lower = places.floor()
        share = (places - lower)[:, None]
        rows = lower.long()
        after = (rows + 1).clamp(max=last)
        positions: Tensor = self.table[rows] * (1 - share) + self.table[after] * share
        return positions
