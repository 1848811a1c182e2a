"""Class banks of closed vocabularies: the rows of a network's last layer, with the names of its classes."""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from stale_edge.bundle import ClassBank
from stale_edge.model.fingerprint import hash_tensors


class HasRows(Protocol):
    """A detector whose classes are rows of its last layer."""

    def class_bank(self) -> Tensor:
        """Give the rows (K, D)."""
        ...

    def state_dict(self) -> dict[str, Tensor]:
        """Give all weights."""
        ...


def row_bank(detector: HasRows, names: Sequence[str]) -> ClassBank:
    """Name the rows of a detector.

    Args:
        detector: with `class_bank()`.
        names: K distinct names, row by row.

    Raises:
        ValueError: there are more or fewer names than rows.
    """
    with torch.no_grad():
        rows = detector.class_bank().float().cpu()
    if len(names) != len(rows):
        raise ValueError(f"the network has {len(rows)} classes; got {len(names)} names")
    return ClassBank(tuple(names), rows.numpy(), hash_tensors(detector.state_dict(), b"rows"), space="rows")


class RowClasses(nn.Module):
    """Give the rows of a detector as class embeddings in training, so that they are trained with it."""

    def __init__(self, detector: HasRows) -> None:
        super().__init__()
        self._detector = (detector,)  # in a tuple: its weights are the detector's and must not be counted twice

    def forward(self) -> Tensor:
        """Give the (K, D) embeddings."""
        return self._detector[0].class_bank()
