"""Thresholded masks to segments."""

from typing import Any

import numpy as np
import oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stale_edge.decoding import mask_segments

MASKS = st.lists(st.integers(0, 10), max_size=40).map(lambda values: np.array(values, dtype=np.float32) / 10)


@given(MASKS, st.sampled_from((0.0, 0.1, 0.3, 0.5, 0.9)), st.sampled_from(("runs", "hull")), st.integers(1, 4))
def test_agrees_with_the_oracle(mask: np.ndarray, threshold: float, regions: Any, min_snippets: int) -> None:
    found = mask_segments(mask, threshold, regions=regions, min_snippets=min_snippets)
    assert found.dtype == np.int64
    assert found.shape == (len(found), 2)
    expected = oracle.mask_segments(mask, threshold, regions=regions, min_snippets=min_snippets)
    assert [tuple(row) for row in found.tolist()] == expected


def test_runs_and_hull() -> None:
    mask = [0.9, 0.1, 0.6, 0.7, 0.1, 0.8]
    assert mask_segments(mask, 0.5).tolist() == [[0, 1], [2, 4], [5, 6]]
    assert mask_segments(mask, 0.5, min_snippets=2).tolist() == [[2, 4]]
    assert mask_segments(mask, 0.5, regions="hull").tolist() == [[0, 6]]
    assert mask_segments([], 0.5).tolist() == []
    assert mask_segments([0.1], 0.1).tolist() == []  # strictly above, in float32


@pytest.mark.parametrize(
    ("mask", "arguments", "message"),
    [
        ([0.5, np.nan], {}, "mask row 1"),
        ([np.inf], {}, "mask row 0"),
        ([[0.5]], {}, r"mask must have shape \(T,\); got \(1, 1\)"),
        (np.array([1, 0]), {}, "mask must be of a floating type"),
        ([0.5, 1e300], {}, "mask row 1 holds a number too large"),
        ([0.5], {"threshold": np.nan}, "threshold must be finite"),
        ([0.5], {"regions": "holes"}, "regions must be 'runs' or 'hull'"),
        ([0.5], {"min_snippets": 0}, "min_snippets"),
    ],
)
def test_bad_arguments_are_named(mask: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mask_segments(mask, arguments.pop("threshold", 0.5), **arguments)
