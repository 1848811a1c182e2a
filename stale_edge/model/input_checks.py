"""What a detector accepts."""

import torch
from torch import Tensor


def is_recording() -> bool:
    """Say whether a graph is being traced or exported, where every size is symbolic and nothing can be checked."""
    return bool(torch.jit.is_tracing()) or torch.compiler.is_compiling()  # type: ignore[attr-defined, no-untyped-call]


def check_inputs(
    features: Tensor, class_embeddings: Tensor, *, channels: int, dim: int, length: int | None = None
) -> None:
    """Refuse inputs of a detector whose shapes do not fit; while a graph is being recorded nothing is checked.

    Args:
        channels: C.
        dim: D.
        length: T where it is fixed, None where it is free.

    Raises:
        ValueError: features are not (B, T, C) with B, T >= 1, or class embeddings not (K, D) with K >= 1.
    """
    if is_recording():
        return
    t = "T" if length is None else length
    fits = features.ndim == 3 and features.shape[-1] == channels and length in (None, features.shape[1])
    if not fits or 0 in features.shape:
        fixed = "" if length is None else "; this network has a fixed T: resample the features to it"
        raise ValueError(f"features must be of shape (B, {t}, {channels}), B >= 1; got {tuple(features.shape)}{fixed}")
    if class_embeddings.ndim != 2 or class_embeddings.shape[-1] != dim or 0 in class_embeddings.shape:
        raise ValueError(f"class_embeddings must be of shape (K, {dim}), K >= 1; got {tuple(class_embeddings.shape)}")
