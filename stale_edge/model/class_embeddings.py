"""Class embeddings: a bank of those of a text encoder, or free ones, learned without reading names."""

import json
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from stale_edge.bundle import ClassBank
from stale_edge.model.fingerprint import hash_tensors
from stale_edge.model.text import TextEncoder

NAMES_PER_BATCH = 64


class FreeClassEmbeddings(nn.Module):
    """Learn one free embedding per class instead of reading its name: "No encoder" in Table 5. Knows no unseen class.

    Args:
        names: the K training classes.
        dim: D.
    """

    def __init__(self, names: Sequence[str], *, dim: int) -> None:
        super().__init__()
        self.names = tuple(names)
        self.embeddings = nn.Parameter(torch.randn(len(self.names), dim))

    @property
    def dim(self) -> int:
        """D, width of the embeddings."""
        return self.embeddings.shape[1]

    def encode(self, names: Sequence[str]) -> Tensor:
        """Look up (K, D) embeddings of training classes.

        Raises:
            ValueError: a name was not trained on.
        """
        unknown = sorted(set(names) - set(self.names))
        if unknown:
            raise ValueError(
                "without a text encoder (model.text.encoder = 'none') only training classes have embeddings; "
                f"unknown: {unknown}"
            )
        return self.embeddings[[self.names.index(name) for name in names]]

    def fingerprint(self) -> str:
        """Hash embeddings and names; `sha256:` and hexadecimal."""
        return hash_tensors(self.state_dict(), json.dumps(self.names).encode())


def class_bank(encoder: TextEncoder | FreeClassEmbeddings, names: Sequence[str]) -> ClassBank:
    """Encode class names once and for all, as a device keeps them.

    Args:
        encoder: the one that the detector was trained with.
        names: K distinct class names.

    Returns:
        Names, (K, D) float32 embeddings and the encoder's fingerprint. The encoder's mode is left as it was.
    """
    was_training = encoder.training
    encoder.eval()
    try:
        with torch.no_grad():
            batches = [names[i : i + NAMES_PER_BATCH] for i in range(0, len(names), NAMES_PER_BATCH)]
            embeddings = (
                torch.cat([encoder.encode(batch) for batch in batches]) if batches else torch.empty(0, encoder.dim)
            )
    finally:
        encoder.train(was_training)
    return ClassBank(tuple(names), embeddings.float().cpu().numpy(), encoder.fingerprint())
