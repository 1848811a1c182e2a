"""Candidates of many labels: soft-NMS next to settled ones, and joining at a seam, against the oracle."""

import dataclasses
from typing import Any

import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stale_edge.config import DecodeConfig
from stale_edge.decoding import DecodedArrays, joined_at_seam, suppressed

Row = tuple[int, float, float, float]

CONFIGS = [
    DecodeConfig(),
    DecodeConfig(soft_nms="linear", tiou_threshold=0.3, min_score=0.1),
    DecodeConfig(soft_nms="hard", tiou_threshold=0.4),
    DecodeConfig(sigma=0.1, max_detections=3),
]


def arrays(rows: list[Row]) -> DecodedArrays:
    return DecodedArrays(
        np.array([row[2:] for row in rows], dtype=np.float64).reshape(-1, 2),
        np.array([row[0] for row in rows], dtype=np.int64),
        np.array([row[1] for row in rows], dtype=np.float64),
    )


def rows_of(found: DecodedArrays) -> list[Row]:
    return [
        (label, score, *segment)
        for label, score, segment in zip(
            found.labels.tolist(), found.scores.tolist(), found.segments.tolist(), strict=True
        )
    ]


def made(seed: int, n: int, *, labels: int = 3, span: float = 60.0) -> list[Row]:
    """Rows with distinct scores, so that rounding makes no ties."""
    rng = np.random.default_rng(seed)
    scores = rng.permutation(n) / (n + 1) + rng.uniform(0, 1 / (2 * n + 2), n)
    starts, lengths = rng.uniform(0, span, n), rng.exponential(12, n)
    return [
        (int(rng.integers(labels)), float(s), float(t), float(t + length))
        for s, t, length in zip(scores, starts, lengths, strict=True)
    ]


@pytest.mark.parametrize("config", CONFIGS, ids=range(len(CONFIGS)))
@pytest.mark.parametrize("n", [0, 1, 30, 200])
def test_soft_nms_beside_settled_segments_agrees_with_the_oracle(config: DecodeConfig, n: int) -> None:
    for seed in range(5):
        candidates, settled = made(seed, n), made(seed + 100, 20)
        for beside in ([], settled):
            kept, found = suppressed(arrays(candidates), settled=arrays(beside), config=config)
            wanted = oracle.suppressed(candidates, beside, config)
            assert [(d[0], *d[2:]) for d in rows_of(found)] == [(d[0], *d[2:]) for d in wanted]
            np.testing.assert_allclose(found.scores, [d[1] for d in wanted], rtol=1e-12)
            assert [(candidates[row][0], *candidates[row][2:]) for row in kept] == [(d[0], *d[2:]) for d in wanted]


@pytest.mark.parametrize("config", CONFIGS[:3], ids=range(3))
def test_what_settles_early_leaves_the_rest_as_it_was(config: DecodeConfig) -> None:
    """Settle some of a pass's picks with their scores and run again on the others: the same scores, to the last bit."""
    for seed in range(20):
        candidates = arrays(made(seed, 80))
        kept, whole = suppressed(candidates, config=config)
        early = np.random.default_rng(seed).uniform(size=len(kept)) < 0.5
        rest = np.setdiff1d(np.arange(80), kept[early])
        _, again = suppressed(
            DecodedArrays(*(part[rest] for part in candidates)),
            settled=DecodedArrays(*(part[early] for part in whole)),
            config=config,
        )
        assert rows_of(again) == rows_of(DecodedArrays(*(part[~early] for part in whole)))


@st.composite
def windows(draw: st.DrawFn) -> tuple[list[Row], list[Row], dict[str, Any]]:
    """Two windows on a grid, so that ties, equal segments and zero lengths are common."""
    times = st.integers(0, 40)
    row = st.tuples(st.integers(0, 2), st.integers(0, 8), times, st.integers(0, 20))
    both = [
        [(label, score / 8, float(t), float(t + n)) for label, score, t, n in draw(st.lists(row, max_size=15))]
        for _ in range(2)
    ]
    start, length = draw(times), draw(st.integers(1, 20))
    at = {"zone": (float(start), float(start + length)), "seam": start + length / 2, "final_until": draw(times)}
    return both[0], both[1], {**at, "same_action": draw(st.sampled_from((0.3, 0.5, 1.0)))}


@settings(max_examples=500)
@given(windows())
def test_joining_agrees_with_the_oracle(case: tuple[list[Row], list[Row], dict[str, Any]]) -> None:
    earlier, later, at = case
    assert rows_of(joined_at_seam(arrays(earlier), arrays(later), **at)) == oracle.joined_at_seam(earlier, later, **at)


AT: dict[str, Any] = {"zone": (0.0, 1.0), "seam": 0.5, "final_until": 0.0, "same_action": 0.5}


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (arrays([(0, 0.5, 2.0, 1.0)]), r"row 0 is \[2, 1\]; the end must not precede"),
        (arrays([(0, 0.5, 0.0, 1.0), (0, float("nan"), 0.0, 1.0)]), "scores row 1 is nan"),
        (DecodedArrays(np.zeros((2, 2)), np.zeros(2, np.int64), np.zeros(3)), r"here \(2,\); got \(2,\) and \(3,\)"),
        (DecodedArrays(np.zeros((2, 3)), np.zeros(2, np.int64), np.zeros(2)), r"must have shape \(N, 2\)"),
    ],
)
def test_what_cannot_be_is_named(broken: DecodedArrays, message: str) -> None:
    fine = arrays([(0, 0.5, 0.0, 1.0)])
    for pair in ((broken, fine), (fine, broken)):
        with pytest.raises(ValueError, match=message):
            suppressed(pair[0], settled=pair[1], config=DecodeConfig())
        with pytest.raises(ValueError, match=message):
            joined_at_seam(*pair, **AT)
    with pytest.raises(ValueError, match="same_action must be > 0; got 0"):
        joined_at_seam(fine, fine, **{**AT, "same_action": 0.0})
    with pytest.raises(ValueError, match="sigma must be a finite number > 0"):
        suppressed(fine, config=dataclasses.replace(DecodeConfig(), sigma=float("inf")))


@pytest.mark.parametrize("name", ["zone_start", "zone_end", "seam", "final_until"])
def test_times_of_a_seam_are_numbers(name: str) -> None:
    times: dict[str, float] = {"zone_start": 4.0, "zone_end": 8.0, "seam": 6.0, "final_until": -np.inf, name: np.nan}
    zone = (times.pop("zone_start"), times.pop("zone_end"))
    one = arrays([(0, 0.5, 0.0, 10.0)])
    with pytest.raises(ValueError, match=f"{name} must be a number, infinity too; got nan"):
        joined_at_seam(one, one, zone=zone, same_action=0.5, **times)
