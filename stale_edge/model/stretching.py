"""Tables of positions read at lengths that they were not made for."""

import torch
from torch import Tensor

from stale_edge.model.pyramid.padding import greater


def stretched_rows(table: Tensor, length: int, *, n_rows: int, stretched: int | None = None) -> Tensor:
    """Read the first `length` rows of a table (N, D) that is stretched linearly where it is too short.

    Args:
        table: (N, D).
        length: rows wanted, >= 1.
        n_rows: N, a plain number, as it must not become a symbol of a graph that is being recorded.
        stretched: length that the table is stretched to, N for none; None: the greater of `length` and N.

    Returns:
        (length, D).
    """
    wide = greater(length, n_rows) if stretched is None else stretched
    places = torch.arange(length, device=table.device, dtype=torch.float32)
    # Middles of equal cells, held at the first and last row: linear interpolation with align_corners = False.
    places = ((places + 0.5) * (n_rows / wide) - 0.5).clamp(0.0, float(n_rows - 1))
    lower = places.floor()
    share = (places - lower)[:, None]
    rows = lower.long()
    after = (rows + 1).clamp(max=n_rows - 1)
    return table[rows] * (1 - share) + table[after] * share
