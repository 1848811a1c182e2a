"""Padded length of a video: the public program's padding where outputs depend on it, and no more than needed.

A padded snippet is not zero after a normalisation, so the last points of a video depend on *whether* padding follows,
but not on how much. The public program pads to `max_length`; one spare point on every level is enough.
"""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor

from stale_edge.model.actionformer.settings import ActionFormerConfig


def public_length(config: ActionFormerConfig, n_snippets: int) -> int:
    """Give the length that the public program pads a video to."""
    return _public_units(config, n_snippets) * config.unit


def padded_length(config: ActionFormerConfig, n_snippets: int) -> int:
    """Give the shortest length with the outputs of the public program, a multiple of `config.unit`.

    With one spare point on every level the outputs equal those of any longer padding. Where the public program leaves
    less than that, as for a video of exactly `max_length`, its own length is needed.
    """
    spare = (n_snippets + config.unit - 1) // config.unit + 1
    return lesser(spare, _public_units(config, n_snippets)) * config.unit


def _public_units(config: ActionFormerConfig, n_snippets: int) -> int:
    """Give the public length in points of the coarsest level.

    Lengths are computed in these units so that a recorded graph can tell that every level's length is whole.
    """
    rounded = (n_snippets + config.divisor - 1) // config.divisor * (config.divisor // config.unit)
    return greater(config.max_length // config.unit, rounded)


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
