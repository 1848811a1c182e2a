"""Check of a detector's outputs before it is timed: a detector with wrong outputs gets no row."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stale_edge.bundle import TensorSpec
from stale_edge.errors import StaleEdgeError


@dataclass(frozen=True)
class Limit:
    """Allowed difference of outputs from the expected ones."""

    others: float
    """Largest difference of an output other than class logits, relative to its largest value (at least 1)."""
    logits: float
    """Difference of logits above which a snippet counts as apart, relative to the largest logit (at least 1)."""
    apart: float
    """Largest share of snippets apart: the gate is discontinuous, and with random weights it is near its threshold."""


_EXACT = Limit(others=1e-4, logits=1e-4, apart=0.01)
_COARSE = Limit(others=0.05, logits=0.1, apart=0.25)
"""Limits for other precisions than fp32. Another network fails them clearly: all its snippets are apart. Decisions are
compared by `--recommend`, not here: bf16 and int8 move logits and flip the gate."""


@dataclass(frozen=True)
class Agreement:
    """Measured differences, each in [0, 1]."""

    mask_difference: float
    """Largest difference of all outputs except class logits: STALE's masks, or a detector's offsets or attention."""
    snippets_apart: float
    """Share of the snippets, or of the points, that are apart."""


def class_axis(outputs: Iterable[TensorSpec]) -> int:
    """Find the class axis of `class_logits`; its other axes are videos, and snippets or points.

    Raises:
        StaleEdgeError: no output has one.
    """
    for spec in outputs:
        if spec.name == "class_logits":
            for axis, size in enumerate(spec.shape):
                if str(size).startswith("K"):
                    return axis
    raise StaleEdgeError("outputs are compared by class_logits with an axis K of classes; this detector has none")


def compare_outputs(
    expected: Mapping[str, NDArray[Any]], got: Mapping[str, NDArray[Any]], *, axis: int, precision: str, what: str
) -> Agreement:
    """Compare the outputs that decoding reads, for B videos, with the expected ones.

    Args:
        expected: outputs by name, including `class_logits`, of a trusted detector.
        got: the same outputs of the detector that will be timed.
        axis: the class axis of `class_logits`, see `class_axis`.
        precision: fp32 must agree except for rounding; the others coarsely.
        what: name of the compared detector in an error.

    Raises:
        StaleEdgeError: names or shapes differ, a number is not finite, or the outputs are too far apart.
    """
    limit = _EXACT if precision == "fp32" else _COARSE
    shapes, expected_shapes = ({name: x.shape for name, x in outputs.items()} for outputs in (got, expected))
    if shapes != expected_shapes:
        raise StaleEdgeError(f"{what}: the outputs have shapes {shapes}; expected {expected_shapes}")
    not_finite = [name for name, x in got.items() if not np.isfinite(x).all()]
    if not_finite:
        raise StaleEdgeError(f"{what}: {' and '.join(not_finite)} must be finite; got infinity or NaN")
    apart = {name: np.abs(expected[name] - got[name]) / _scale(expected[name]) for name in expected}
    logits = apart.pop("class_logits").max(axis=axis)  # (B, T) or (B, P)
    found = Agreement(max((float(x.max()) for x in apart.values()), default=0.0), float((logits > limit.logits).mean()))
    if found.mask_difference > limit.others or found.snippets_apart > limit.apart:
        raise StaleEdgeError(
            f"{what}: wrong outputs: {' and '.join(apart) or 'others'} differ by {found.mask_difference:.2g} (allowed: "
            f"{limit.others:g}) and {found.snippets_apart:.1%} of the snippets have other class logits (allowed: "
            f"{limit.apart:.0%})"
        )
    return found


def _scale(values: NDArray[Any]) -> float:
    return max(1.0, float(np.abs(values).max()))
