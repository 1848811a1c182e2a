"""Segments and their overlap: the numpy version, the compiled one and the oracle agree."""

import numpy as np
import oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st

import stale_edge._core as _core
from stale_edge.segments import Detection, tiou

SEGMENT = st.tuples(st.floats(-1e3, 1e3), st.floats(0, 1e3)).map(lambda pair: (pair[0], pair[0] + pair[1]))


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ((0, 10), (0, 10), 1.0),  # equal
        ((0, 10), (5, 15), 1 / 3),  # half of each
        ((0, 10), (2, 4), 0.2),  # one inside the other
        ((0, 10), (10, 20), 0.0),  # they touch
        ((0, 10), (11, 12), 0.0),  # apart
        ((3, 3), (0, 10), 0.0),  # zero length inside
        ((3, 3), (3, 3), 0.0),  # an empty union
    ],
)
def test_tiou_of_two(a: tuple[float, float], b: tuple[float, float], expected: float) -> None:
    first, second = np.array([a], dtype=np.float64), np.array([b], dtype=np.float64)
    assert tiou(first, second)[0, 0] == pytest.approx(expected, abs=1e-15)
    assert tiou(second, first)[0, 0] == pytest.approx(expected, abs=1e-15)
    assert _core.tiou(first, second)[0, 0] == pytest.approx(expected, abs=1e-15)


@given(st.lists(SEGMENT, max_size=6), st.lists(SEGMENT, max_size=6))
def test_tiou_agrees_with_the_oracle(a: list[tuple[float, float]], b: list[tuple[float, float]]) -> None:
    first, second = np.array(a).reshape(-1, 2), np.array(b).reshape(-1, 2)
    expected = np.array([[oracle.tiou(x, y) for y in b] for x in a]).reshape(len(a), len(b))
    np.testing.assert_allclose(tiou(first, second), expected, atol=1e-12)
    np.testing.assert_allclose(_core.tiou(first, second), expected, atol=1e-12)
    assert ((tiou(first, second) >= 0) & (tiou(first, second) <= 1 + 1e-12)).all()


@pytest.mark.parametrize("shape", [(2,), (3, 3), (2, 2, 2)])
def test_tiou_refuses_other_shapes(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="others must have shape"):
        tiou(np.zeros((1, 2)), np.zeros(shape))
    with pytest.raises(ValueError, match="segments must have shape"):
        _core.tiou(np.zeros(shape), np.zeros((1, 2)))


def test_the_core_refuses_reversed_segments() -> None:
    with pytest.raises(ValueError, match=r"others row 1 is \[2, 1\]"):
        _core.tiou(np.zeros((1, 2)), np.array([[0.0, 1.0], [2.0, 1.0]]))


def test_detection_is_a_plain_tuple() -> None:
    assert Detection("run", 0.5, 1.0, 2.0) == ("run", 0.5, 1.0, 2.0)
