"""Which videos make up which batch, and how processes share a batch: functions of the seed alone.

Nothing here keeps state, so a resumed run gets the batches of an uninterrupted one, and any number of processes
gets the same global batches.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.nn.utils.rnn import pad_sequence

from stale_edge.data.dataset import Item

SMALLEST_SHARE = 2
"""Smallest number of videos per process; a smaller share is filled up with videos of weight 0."""


class Share(NamedTuple):
    """One process' part of a global batch.

    items: places in the dataset.
    rows: each item's row in the global batch.
    weights: weight of each item's loss; 0 for a filler, so the sum over all processes is the mean over the batch.
    batch_size: videos of the global batch.
    """

    items: tuple[int, ...]
    rows: tuple[int, ...]
    weights: tuple[float, ...]
    batch_size: int


class Batch(NamedTuple):
    """What one training step of one process reads; `features` is (B, T, C), `weights` is (B,)."""

    videos: tuple[str, ...]
    features: Tensor
    targets: Any
    weights: Tensor
    share: Share


def epoch_batches(n_videos: int, *, batch_size: int, seed: int, epoch: int) -> list[tuple[int, ...]]:
    """Shuffle the videos of one epoch into global batches; the last may be smaller, none is empty.

    Args:
        n_videos: number of training videos, >= 1.
        batch_size: videos a global batch, >= 1.
        seed, epoch: they determine the order.
    """
    generator = torch.Generator().manual_seed(mix_seed(seed, epoch))
    order = torch.randperm(n_videos, generator=generator).tolist()
    return [tuple(order[start : start + batch_size]) for start in range(0, n_videos, batch_size)]


def share_of(batch: Sequence[int], *, rank: int, n_processes: int) -> Share:
    """Take one process' part of a global batch: every `n_processes`-th video.

    Several processes compute at least `SMALLEST_SHARE` videos each, so that all of them take part in every step.
    """
    rows = list(range(rank, len(batch), n_processes))
    n_fillers = max(0, SMALLEST_SHARE - len(rows)) if n_processes > 1 else 0
    weights = [1.0 / len(batch)] * len(rows) + [0.0] * n_fillers
    rows += [0] * n_fillers
    return Share(tuple(batch[row] for row in rows), tuple(rows), tuple(weights), len(batch))


def collate(
    items: Sequence[Item[Any]],
    share: Share,
    *,
    stack: Callable[[Sequence[Any]], Any],
    n_snippets: int | None = None,
) -> Batch:
    """Put the items of a share into tensors, shorter videos filled up with zeros.

    Args:
        items: the videos.
        share: this process' part of the global batch.
        stack: method of the `Objective` that made the targets.
        n_snippets: T of all videos; None: that of the longest one here.
    """
    features = pad_sequence([item.features for item in items], batch_first=True)
    if n_snippets is not None:
        features = pad(features, (0, 0, 0, n_snippets - features.shape[1]))
    return Batch(
        videos=tuple(item.video for item in items),
        features=features,
        targets=stack([item.targets for item in items]),
        weights=torch.tensor(share.weights),
        share=share,
    )


def mix_seed(seed: int, epoch: int) -> int:
    """Give every (seed, epoch) a seed of its own, in [0, 2**63)."""
    return ((seed + 1) * 0x9E3779B97F4A7C15 + epoch * 0xBF58476D1CE4E5B9) % (1 << 63)
