"""Learned vectors around a class name, one for each place of the text tower."""

import torch
from torch import Tensor, nn

TABLE_STD = 0.01
"""Spread of fresh rows, as in the public code of Efficient-Prompt (commit 1f69a18)."""


class PromptTable(nn.Module):
    """Put learned vectors before and after each class name; the vector at a place is the row of that place.

    A name of n tokens takes the places prefix + 1 ... prefix + n, so which rows stand after a name depends on its
    length, and a name longer than those of training reads rows that were never trained. The first row, and rows that
    no name reads, change by weight decay alone.

    Args:
        n_places: places of the text tower, 77 in CLIP.
        dim: width of its token embeddings.
        prefix, postfix: number of vectors before and after the name, >= 0.

    Raises:
        ValueError: no place is left for a name.
    """

    decayed = ("weight",)
    """Names of the parameters with weight decay."""

    def __init__(self, n_places: int, dim: int, *, prefix: int, postfix: int) -> None:
        super().__init__()
        if prefix < 0 or postfix < 0 or prefix + postfix > n_places - 3:
            raise ValueError(
                f"prefix and postfix must be >= 0 and leave a place for the name between start and end, at most "
                f"{n_places - 3} together for this text tower; got {prefix} and {postfix}"
            )
        self.prefix, self.postfix = prefix, postfix
        self.weight = nn.Parameter(TABLE_STD * torch.randn(n_places, dim))

    def forward(self, embedded: Tensor, end: Tensor) -> Tensor:
        """Fill the places around the names.

        Args:
            embedded: (K, L, H) token embeddings; what stands in the places to fill is not read.
            end: (K,) place of each row's end token.
        """
        place = torch.arange(embedded.shape[1], device=embedded.device)
        before = (place >= 1) & (place <= self.prefix)
        after = (place >= end[:, None] - self.postfix) & (place < end[:, None])  # (K, L)
        rows = self.weight[: embedded.shape[1]].to(embedded.dtype)
        return torch.where((before | after)[:, :, None], rows, embedded)
