"""Whether what is about to be timed computes the detector at all: a wrong answer, however fast, is no row."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stale_edge.errors import StaleEdgeError


@dataclass(frozen=True)
class Limit:
    """How far outputs may be from those they are held against."""

    masks: float
    """Largest difference of a mask, which lies in [0, 1]."""
    logits: float
    """Difference of a snippet's logits above which it counts as apart, as a part of the largest logit (at least 1)."""
    apart: float
    """Share of the snippets that may be apart: the gate is discontinuous, and random weights leave it undecided."""


_EXACT = Limit(masks=1e-4, logits=1e-4, apart=0.01)
_COARSE = Limit(masks=0.05, logits=0.1, apart=0.25)
"""Far below another network's outputs, all of whose snippets are apart, and no judgement of decisions, which is
`--recommend`'s: bf16 and int8 move logits and flip gates."""


@dataclass(frozen=True)
class Agreement:
    """What was seen, each in [0, 1]."""

    mask_difference: float
    """Largest of all masks."""
    snippets_apart: float
    """Share of the snippets."""


def compare_outputs(
    expected: Sequence[NDArray[Any]], got: Sequence[NDArray[Any]], *, precision: str, what: str
) -> Agreement:
    """Hold class logits (B, K + 1, T) and masks (B, T, T) against those that they should be.

    Args:
        expected: logits and masks of what is trusted.
        got: logits and masks of what is to be timed.
        precision: fp32 has to agree but for rounding; the others coarsely.
        what: how the error calls it.

    Raises:
        StaleEdgeError: the shapes differ, a number is not finite, or the outputs are too far apart.
    """
    limit = _EXACT if precision == "fp32" else _COARSE
    shapes, expected_shapes = [x.shape for x in got], [x.shape for x in expected]
    if shapes != expected_shapes:
        raise StaleEdgeError(f"{what}: class logits and masks have shapes {shapes}; expected {expected_shapes}")
    if not all(np.isfinite(x).all() for x in got):
        raise StaleEdgeError(f"{what}: class logits or masks are not finite")
    logits = np.abs(expected[0] - got[0]).max(axis=1) / max(1.0, float(np.abs(expected[0]).max()))  # (B, T)
    seen = Agreement(float(np.abs(expected[1] - got[1]).max()), float((logits > limit.logits).mean()))
    if seen.mask_difference > limit.masks or seen.snippets_apart > limit.apart:
        raise StaleEdgeError(
            f"{what}: wrong outputs: masks differ by {seen.mask_difference:.2g} (allowed: {limit.masks:g}) and "
            f"{seen.snippets_apart:.1%} of the snippets have other class logits (allowed: {limit.apart:.0%})"
        )
    return seen
