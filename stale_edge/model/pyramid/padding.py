"""Padding of videos, also while a graph is being recorded for any length."""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor


def greater(a: int, b: int) -> int:
    """Give the greater of two lengths: plain numbers, or symbols of a graph that is being recorded."""
    if torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
        return cast(int, torch.maximum(torch.as_tensor(a), torch.as_tensor(b)))
    return cast(int, torch.sym_max(a, b))  # type: ignore[no-untyped-call]


def lesser(a: int, b: int) -> int:
    """Give the lesser of two lengths, see `greater`."""
    if torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]
        return cast(int, torch.minimum(torch.as_tensor(a), torch.as_tensor(b)))
    return cast(int, torch.sym_min(a, b))  # type: ignore[no-untyped-call]


def pad(features: Tensor, valid: Tensor | None, length: int) -> tuple[Tensor, Tensor]:
    """Pad features (B, T, C) with zeros to (B, length, C).

    Args:
        valid: (B, T), 1 for the snippets of a video, 0 for the filling of shorter videos in a batch;
            None: all are snippets of the video.

    Returns:
        Features, and which of them lie in the video, (B, length, 1).
    """
    n_videos, n_snippets = features.shape[:2]
    if valid is None:
        inside = torch.ones((n_videos, n_snippets), dtype=features.dtype, device=features.device)
    else:
        inside = valid.to(features.dtype)
        features = features * inside[:, :, None]
    fill = length - n_snippets
    return F.pad(features, (0, 0, 0, fill)), F.pad(inside, (0, fill))[:, :, None]
