"""Soft-NMS of the compiled core: the golden case, the oracle, and what must hold for every input."""

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import oracle
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stale_edge.config import DecodeConfig
from stale_edge.decoding import DecodedArrays, soft_nms, suppressed

METHODS = ("gaussian", "linear", "hard")
TIE = 1e-9
"""Scores closer than this may come in either order: sums and products of the same numbers round differently."""


@st.composite
def candidates(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Segments on a grid of sixteenths, so that ties, touching and zero lengths are common and shifts are exact."""
    n = draw(st.integers(0, 40))
    starts = draw(st.lists(st.integers(0, 512), min_size=n, max_size=n))
    lengths = draw(st.lists(st.integers(0, 256), min_size=n, max_size=n))
    scores = draw(st.lists(st.integers(0, 64), min_size=n, max_size=n))
    begin = np.array(starts, dtype=np.float64) / 16
    segments = np.stack([begin, begin + np.array(lengths, dtype=np.float64) / 16], axis=1)
    return segments, np.array(scores, dtype=np.float64) / 64


RULES = st.fixed_dictionaries(
    {
        "method": st.sampled_from(METHODS),
        "sigma": st.sampled_from((0.1, 0.5, 2.0)),
        "tiou_threshold": st.sampled_from((0.0, 0.25, 0.5, 1.0)),
    }
)


def test_golden_case(golden: Path) -> None:
    for case in json.loads((golden / "soft_nms.json").read_text()):
        kept, decayed = soft_nms(
            np.array(case["segments"], dtype=np.float32),
            np.array(case["scores"], dtype=np.float32),
            **{name: case[name] for name in ("method", "sigma", "tiou_threshold", "min_score")},
        )
        expected = np.array(case["decayed"])
        n_alive = int((expected > 0).sum())  # rows decayed to 0 may come in any order
        assert kept[:n_alive].tolist() == case["kept"][:n_alive]
        assert sorted(kept.tolist()) == sorted(case["kept"])
        np.testing.assert_allclose(decayed, expected, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("top_k", [None, 7])
def test_agrees_with_the_oracle(method: Any, top_k: int | None) -> None:
    rng = np.random.default_rng(3)
    for n in (1, 2, 50, 300):
        starts = rng.uniform(0, 50, n)
        segments = np.stack([starts, starts + rng.exponential(5, n)], axis=1)
        scores = rng.uniform(0, 1, n)
        rule = {"method": method, "sigma": 0.4, "tiou_threshold": 0.3, "min_score": 0.01, "top_k": top_k}
        kept, decayed = soft_nms(segments, scores, **rule)
        expected = oracle.soft_nms(segments, scores, **rule)
        assert kept.tolist() == [row for row, _ in expected]
        np.testing.assert_allclose(decayed, [score for _, score in expected], rtol=1e-6)


@given(candidates(), RULES, st.sampled_from((0.0, 0.001, 0.3)), st.none() | st.integers(0, 10))
def test_every_pick_is_the_best_that_is_left(
    given_candidates: tuple[np.ndarray, np.ndarray], rule: dict[str, Any], min_score: float, top_k: int | None
) -> None:
    segments, scores = given_candidates
    kept, decayed = soft_nms(segments, scores, min_score=min_score, top_k=top_k, **rule)
    assert kept.dtype == np.int64
    assert decayed.dtype == np.float32
    assert len(set(kept.tolist())) == len(kept) == len(decayed)
    assert (np.diff(decayed) <= TIE).all(), "picks must come in falling order"
    assert (decayed <= scores[kept].astype(np.float32) + TIE).all(), "scores only fall"
    steps, left = oracle.soft_nms_replay(segments, scores, kept.tolist(), **rule)
    for value, (own, best) in zip(decayed, steps, strict=True):
        assert value == pytest.approx(own, rel=1e-6, abs=TIE)
        assert own >= best - TIE, "a better candidate was left"
        assert own >= min_score - TIE
    if top_k is None or len(kept) < top_k:
        assert all(score < min_score + TIE for score in left.values()), "a candidate above min_score is missing"


@given(candidates(), RULES, st.integers(-(2**20), 2**20), st.integers(-30, 30))
def test_shift_and_scale_of_time_change_nothing(
    given_candidates: tuple[np.ndarray, np.ndarray], rule: dict[str, Any], shift: int, power: int
) -> None:
    segments, scores = given_candidates
    kept, decayed = soft_nms(segments, scores, **rule)
    moved_kept, moved = soft_nms((segments + shift) * 2.0**power, scores, **rule)
    assert moved_kept.tolist() == kept.tolist()
    assert moved.tolist() == decayed.tolist()


@pytest.mark.parametrize("method", METHODS)
def test_small_inputs(method: Any) -> None:
    for empty in (np.zeros((0, 2)), []):
        kept, decayed = soft_nms(empty, [], method=method)
        assert kept.shape == decayed.shape == (0,)
    kept, decayed = soft_nms([[2.0, 3.0]], [0.25], method=method)
    assert (kept.tolist(), decayed.tolist()) == ([0], [0.25])
    kept, decayed = soft_nms([[2.0, 2.0], [2.0, 2.0]], [0.5, 0.5], method=method)  # zero length, no overlap
    assert (kept.tolist(), decayed.tolist()) == ([0, 1], [0.5, 0.5])
    kept, _ = soft_nms(np.array([[0.0, 1.0], [5.0, 6.0], [9.0, 10.0]]), np.full(3, 0.5), method=method)
    assert kept.tolist() == [0, 1, 2]  # of equal scores the earlier row
    assert soft_nms([[0, 1]], [1], method=method)[0].tolist() == [0]  # lists of Python integers are numbers too


def test_top_k_and_min_score() -> None:
    segments = np.array([[0, 1], [2, 3], [4, 5]], dtype=np.float32)
    scores = np.array([0.1, 0.3, 0.2], dtype=np.float32)
    assert soft_nms(segments, scores, top_k=2)[0].tolist() == [1, 2]
    assert soft_nms(segments, scores, top_k=0)[0].tolist() == []
    assert soft_nms(segments, scores, min_score=0.2)[0].tolist() == [1, 2]  # not below: 0.2 as float32 is above 0.2


@pytest.mark.parametrize("sigma", [1e-300, 5.6e-309, 5e-324])
def test_a_tiny_sigma_drops_only_what_overlaps(sigma: float) -> None:
    segments = [[0.0, 10.0], [12.0, 30.0], [5.0, 15.0]]
    kept, decayed = soft_nms(segments, [0.75, 0.5, 0.25], sigma=sigma)
    assert (kept.tolist(), decayed.tolist()) == ([0, 1], [0.75, 0.5])


@pytest.mark.parametrize("method", ["linear", "hard"])
def test_a_margin_moves_a_tiou_at_the_threshold_below_it(method: Any) -> None:
    segments, scores = [[0.0, 2.0], [1.0, 3.0], [0.0, 4.0]], [0.9, 0.8, 0.7]  # tIoU with the first: 1/3, 1/2
    for threshold, row in ((1 / 3, 1), (0.5, 2)):
        for margin, acts in ((0.0, True), (1e-6, False)):
            picks = [segments[0], segments[row]]
            kept, decayed = soft_nms(
                picks, [scores[0], scores[row]], method=method, tiou_threshold=threshold, length_margin=margin
            )
            assert (len(kept) == 2 and decayed[1] == np.float32(scores[row])) != acts


def misaligned(values: np.ndarray) -> np.ndarray:
    """The same numbers, one byte past an aligned address."""
    room = np.zeros(values.nbytes + 1, dtype=np.uint8)
    array = room[1:].view(values.dtype).reshape(values.shape)
    array[:] = values
    assert not array.flags.aligned
    return array


def test_misaligned_arrays_are_copied() -> None:
    segments, scores = np.array([[0.0, 2.0], [1.0, 3.0], [9.0, 10.0]]), np.array([0.5, 0.25, 0.75])
    kept, decayed = soft_nms(misaligned(segments), misaligned(scores))
    expected = soft_nms(segments, scores)
    assert (kept.tolist(), decayed.tolist()) == (expected[0].tolist(), expected[1].tolist())


def test_the_core_itself_refuses_misaligned_arrays() -> None:
    segments, labels, scores = np.array([[0.0, 2.0]]), np.array([0]), np.array([0.5])
    for bad, name in (
        ((misaligned(segments), labels, scores), "segments"),
        ((segments, misaligned(labels), scores), "labels"),
        ((segments, labels, misaligned(scores)), "scores"),
    ):
        with pytest.raises(ValueError, match=f"{name} is misaligned; its address must be a multiple of 8: copy it"):
            suppressed(DecodedArrays(*bad), config=DecodeConfig())


def test_any_memory_layout_and_float_type() -> None:
    rng = np.random.default_rng(0)
    wide = rng.uniform(0, 1, (20, 4))
    segments = np.sort(wide[:, ::3], axis=1)
    scores = wide[::-1, 1]
    expected = soft_nms(np.ascontiguousarray(segments), np.ascontiguousarray(scores))
    for variant in (np.asfortranarray(segments), segments[:, ::-1][:, ::-1], segments.astype(np.longdouble)):
        kept, decayed = soft_nms(variant, scores)
        assert kept.tolist() == expected[0].tolist()
        assert decayed.tolist() == expected[1].tolist()


@pytest.mark.parametrize(
    ("segments", "scores", "message"),
    [
        ([[0.0, 1.0], [0.0, np.nan]], [0.5, 0.5], "segments row 1"),
        ([[0.0, 1.0], [-np.inf, 1.0]], [0.5, 0.5], "segments row 1"),
        ([[0.0, 1.0], [2.0, 1.0]], [0.5, 0.5], "segments row 1"),
        ([[0.0, 1.0]], [np.nan], "scores row 0"),
        ([[0.0, 1.0]], [np.inf], "scores row 0"),
        ([[0.0, 1.0]], [-0.5], "scores row 0"),
        ([[0.0, 1.0], [2.0, 3.0]], [0.5, 1e300], r"scores row 1 is 1e\+300; scores must be at most 3.40282e\+38"),
        ([[0.0, 1.6e308]], [0.5], r"segments row 0 is \[0, 1.6e\+308\]; its length must be at most 4.49423e\+307"),
        ([[0.0, 1.0]], [0.5, 0.5], r"scores must have shape .* \(1,\)"),
        ([[0.0, 1.0, 2.0]], [0.5], r"segments must have shape \(N, 2\)"),
        ([0.0, 1.0], [0.5], r"segments must have shape \(N, 2\)"),
        ([[0.0, 1.0], [0.0]], [0.5, 0.5], "segments must be an array or a list of rows"),
        (np.array([[0, 1]]), np.array([0.5]), "segments must be of a floating type; got int64"),
        (np.array([[0.0, 1.0]]), np.array(["a"]), "scores must be of a floating type"),
        (np.array([[0.0, 1.0]]), np.array([None]), "scores must be of a floating type; got object"),
        (np.array([[0.0, 1.0]]), np.array([True]), "scores must be of a floating type; got bool"),
    ],
)
def test_bad_candidates_are_named(segments: Any, scores: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        soft_nms(segments, scores)


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("method", "softest"),
        ("sigma", 0.0),
        ("sigma", float("nan")),
        ("tiou_threshold", -0.1),
        ("tiou_threshold", 1.1),
        ("min_score", -1.0),
        ("min_score", float("inf")),
        ("top_k", -1),
        ("length_margin", -1e-6),
        ("length_margin", float("nan")),
    ],
)
def test_bad_parameters_are_named(argument: str, value: Any) -> None:
    arguments: dict[str, Any] = {argument: value}
    with pytest.raises(ValueError, match=argument):
        soft_nms([[0.0, 1.0]], [0.5], **arguments)


def test_eight_threads_get_what_one_gets() -> None:
    rng = np.random.default_rng(1)
    starts = rng.uniform(0, 100, 2000)
    segments = np.stack([starts, starts + rng.uniform(1, 20, 2000)], axis=1)
    scores = rng.uniform(0, 1, 2000)
    expected = soft_nms(segments, scores)
    with ThreadPoolExecutor(8) as pool:
        for kept, decayed in pool.map(lambda _: soft_nms(segments, scores), range(32)):
            assert kept.tolist() == expected[0].tolist()
            assert decayed.tolist() == expected[1].tolist()


def test_the_gil_is_released() -> None:
    """Another thread must get to run in the middle of a long call, not only at its ends."""
    n = 40_000
    segments = np.stack([np.arange(n) * 3.0, np.arange(n) * 3.0 + 1], axis=1)
    scores = np.random.default_rng(0).uniform(0.5, 1, n)
    ticks: list[float] = []
    done = threading.Event()

    def tick() -> None:
        while not done.wait(0.002):
            ticks.append(time.perf_counter())

    ticker = threading.Thread(target=tick)
    ticker.start()
    start = time.perf_counter()
    kept, _ = soft_nms(segments, scores)
    end = time.perf_counter()
    done.set()
    ticker.join()
    assert len(kept) == n
    quarter = (end - start) / 4
    assert any(start + quarter < moment < end - quarter for moment in ticks)
