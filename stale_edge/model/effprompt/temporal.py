"""The temporal transformer of EffPrompt: learned positions, then attention over all frames."""

import torch
from torch import Tensor, nn

from stale_edge.model.actionformer.layers import HIDDEN
from stale_edge.model.effprompt.prompt_table import TABLE_STD
from stale_edge.model.input_checks import is_recording
from stale_edge.model.layers import EncoderLayer
from stale_edge.model.stretching import stretched_rows


class QuickGELU(nn.Module):
    """Approximate GELU as CLIP does: x * sigmoid(1.702 x)."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


class TemporalTransformer(nn.Module):
    """Add positions to features (B, T, D) and let the snippets of a video read each other; gives (B, T, D).

    Args:
        dim: D.
        n_positions: N, length of the table of positions.
        n_layers: transformer layers, >= 0; with 0 features stay as they are, positions included.
        n_heads: heads of every attention.
        interpolate: whether videos longer than N stretch the table; if not they are refused.
    """

    def __init__(self, dim: int, *, n_positions: int, n_layers: int, n_heads: int, interpolate: bool = True) -> None:
        super().__init__()
        self.n_positions = n_positions
        self.interpolate = interpolate
        self.layers = nn.ModuleList(
            EncoderLayer(dim, n_heads=n_heads, feedforward_dim=4 * dim, dropout=0.0, activation=QuickGELU())
            for _ in range(n_layers)
        )
        self.positions = nn.Parameter(TABLE_STD * torch.randn(n_positions, dim)) if n_layers else None

    def forward(self, features: Tensor, valid: Tensor | None = None) -> Tensor:
        """Refine features; `valid` (B, T) is 1 for the snippets of a video and 0 for filling, None: all are snippets.

        Raises:
            ValueError: the video is longer than the table of positions and may not stretch it.
        """
        if self.positions is None:
            return features
        length, n_positions = features.shape[1], self.n_positions
        if not self.interpolate and not is_recording() and length > n_positions:
            raise ValueError(
                f"videos must have at most {n_positions} snippets, the length of the table of positions, where "
                f"model.interpolate_positions is off; got {length}; use windows, or resample the features"
            )
        x = features + stretched_rows(self.positions, length, n_rows=n_positions)
        hidden = None if valid is None else (1 - valid) * HIDDEN  # (B, T)
        for layer in self.layers:
            x = layer(x, hidden)
        return x
