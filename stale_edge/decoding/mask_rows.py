"""Compute the masks of only those snippets that decoding reads.

Section 3.3 of the paper reads the masks of at most `top_snippets` snippets, those with a class above the threshold.
Each snippet's mask comes from a tiny network of its own (equation 8), so the others need not be computed: at T = 3000
all masks together are nine million values with 27 channels each.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

import stale_edge._core as _core
from stale_edge.config import DecodeConfig
from stale_edge.decoding.arrays import float_array
from stale_edge.segments import FloatArray


def voting_snippets(class_logits: ArrayLike, *, config: DecodeConfig) -> list[int]:
    """List the snippets whose masks `decode` reads under the paper policy.

    Args:
        class_logits: (K+1, T) floats, background last.
        config: only `class_threshold` and `top_snippets` are read.

    Returns:
        At most `top_snippets` numbers in [0, T), ascending.

    Raises:
        ValueError: the shape is wrong, or a logit is not finite (the row is named).
    """
    logits = float_array(class_logits, "class_logits", np.float32)
    return _core.voting_snippets(logits, class_threshold=config.class_threshold, top_snippets=config.top_snippets)


def masks_of(snippets: Sequence[int], *, networks: ArrayLike, features: ArrayLike) -> FloatArray:
    """Compute the masks of some snippets; all others are 0.

    Args:
        snippets: numbers in [0, T).
        networks: (T, n) floats, the weights of each snippet's network, layer by layer as described at `mask_rows`
            in csrc/stale_core.hpp.
        features: (width + 2, T) floats, input of all networks: channels, the snippets' positions, ones.

    Returns:
        (T, T) float32 in [0, 1], row i predicted by snippet i.

    Raises:
        ValueError: shapes disagree, or a snippet is not in [0, T).
    """
    read = float_array(features, "features", np.float32)
    rows = _core.mask_rows(float_array(networks, "networks", np.float32), read, snippets)
    masks: FloatArray = np.zeros((rows.shape[1], rows.shape[1]), dtype=np.float32)
    masks[list(snippets)] = rows
    return masks
