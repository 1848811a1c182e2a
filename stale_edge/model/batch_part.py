"""Sums over the videos of a batch that several processes may share."""

from dataclasses import dataclass

import torch
import torch.distributed
from torch import Tensor


@dataclass(frozen=True)
class BatchPart:
    """One process' part of a batch.

    n_videos: videos of the whole batch.
    counted: (b,) bool, False for a video that only fills up this part.
    n_snippets: T of the longest video of the whole batch, which all its videos are filled up to.
    """

    n_videos: int
    counted: Tensor
    n_snippets: int


@torch.no_grad()
def batch_sum(values: Tensor, part: BatchPart | None) -> Tensor:
    """Add a value of every video of the batch; has no gradient.

    Args:
        values: (b,) of this process' videos.
        part: None: this process has the whole batch.
    """
    if part is None:
        return values.sum()
    total = torch.where(part.counted.to(values.device), values, 0).sum()
    torch.distributed.all_reduce(total)
    return total


def longest_of_batch(n_snippets: int) -> int:
    """Compare the longest video of this process with those of the others."""
    device = "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
    longest = torch.tensor(n_snippets, device=device)
    torch.distributed.all_reduce(longest, torch.distributed.ReduceOp.MAX)
    return int(longest)


def batch_size(values: Tensor, part: BatchPart | None) -> int:
    """Count the videos of the batch, of which `values` (b,) are those of this process."""
    return len(values) if part is None else part.n_videos
