"""Attention within a window, written with plain matrix products over blocks.

Views that overlap (`as_strided`), the usual way to write it, export to graphs that are wrong at other lengths than the
traced one. Here the queries are cut into blocks, and each block reads from itself and the nearest rows of its two
neighbours: no gather, no scatter, and any length.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from stale_edge.model.input_checks import is_recording
from stale_edge.model.pyramid.padding import greater

BLOCK = 32
"""Number of queries per block, unless the window is wider."""
OUTSIDE = -1e4
"""Added to the logits of keys beyond the window; finite in float16."""


def band_attention(
    q: Tensor, k: Tensor, v: Tensor, hidden: Tensor, *, n_heads: int, reach: int, relative: Tensor | None = None
) -> Tensor:
    """Let each query read from the keys at most `reach` places away.

    Args:
        q: (B, T, C), C a multiple of `n_heads`; divided by sqrt(C / n_heads) already.
        k, v: (B, T, C).
        hidden: (B, T), added to the logits of each key: 0, or a large negative number for a key not to be read.
        reach: half of the window, in points, >= 1.
        relative: (n_heads, 2 * reach + 1), added to the logits by head and distance; None: nothing is added.

    Returns:
        (B, T, C).
    """
    length = q.shape[1]
    block = max(BLOCK, reach)
    # At least two, so that a graph recorded for any T needs no branch for a single block.
    n_blocks = greater((length + block - 1) // block, 2)
    fill = n_blocks * block - length

    queries = _heads(
        torch.unflatten(F.pad(q, (0, 0, 0, fill)), 1, (-1, block)), n_heads
    )  # (B, blocks, heads, block, c)
    keys = _heads(_with_neighbours(F.pad(k, (0, 0, 0, fill)), block, reach), n_heads)  # (B, blocks, heads, near, c)
    values = _heads(_with_neighbours(F.pad(v, (0, 0, 0, fill)), block, reach), n_heads)
    unread = F.pad(hidden, (0, fill), value=OUTSIDE)[:, :, None]
    bias = _band(block, reach).to(q) + _with_neighbours(unread, block, reach, beyond=OUTSIDE).transpose(2, 3)
    logits = queries @ keys.transpose(3, 4) + bias[:, :, None]  # (B, blocks, heads, block, near)
    if relative is not None:
        logits = logits + _by_distance(relative, block)
    read: Tensor = logits.softmax(dim=-1) @ values  # (B, blocks, heads, block, c)
    rows = read.transpose(2, 3).flatten(3).flatten(1, 2)  # (B, blocks * block, C)
    if is_recording():  # a slice needs length < rows, which cannot be proved for every T
        return rows.index_select(1, torch.arange(length, device=rows.device))
    return rows[:, :length]


def _heads(blocks: Tensor, n_heads: int) -> Tensor:
    """Split (B, blocks, rows, C) into (B, blocks, heads, rows, C / heads)."""
    return torch.unflatten(blocks, 3, (n_heads, -1)).transpose(2, 3)


def _with_neighbours(rows: Tensor, block: int, reach: int, beyond: float = 0.0) -> Tensor:
    """Cut (B, T, C) into blocks, and join to each the nearest `reach` rows of both neighbours: (B, blocks, near, C)."""
    before = F.pad(rows, (0, 0, block, 0), value=beyond)[:, :-block]  # each row is the one a block earlier
    after = F.pad(rows, (0, 0, 0, block), value=beyond)[:, block:]
    blocks, before, after = (torch.unflatten(part, 1, (-1, block)) for part in (rows, before, after))
    return torch.cat([before[:, :, block - reach :], blocks, after[:, :, :reach]], dim=2)


def _band(block: int, reach: int) -> Tensor:
    """Give (block, near): 0 where a key lies within the window of a query, `OUTSIDE` elsewhere."""
    ahead = torch.arange(block + 2 * reach)[None, :] - torch.arange(block)[:, None]  # distance + reach
    return torch.where((ahead >= 0) & (ahead <= 2 * reach), 0.0, OUTSIDE)


def _by_distance(relative: Tensor, block: int) -> Tensor:
    """Lay (heads, window) out as (heads, block, near): the bias of each key by its distance from each query."""
    window = relative.shape[1]
    # A row of window + block numbers, repeated and read in rows one number shorter, moves one place on in every row.
    row = F.pad(relative, (0, block))  # (heads, window + block)
    repeated = row.repeat(1, block)[:, : block * (window + block - 1)]
    return torch.unflatten(repeated, 1, (block, window + block - 1))
