"""Streams end with the segments of the windowed pass, report each once, in time, and never grow."""

import gc
import tracemalloc

import numpy as np
import pytest
import tiny
from hypothesis import given, settings
from hypothesis import strategies as st

from stale_edge import Localizer, load_bundle
from stale_edge.errors import FeatureContractError
from stale_edge.runtime.streaming import StreamingLocalizer
from stale_edge.segments import Detection

ROUNDING_S = 1e-9
"""A stream multiplies snippets by seconds, a file divides its duration: the last bits may differ."""


@pytest.fixture(scope="module")
def localizer(tmp_path_factory) -> Localizer:
    return load_bundle(tiny.write(tmp_path_factory.mktemp("stream") / "bundle"))


@pytest.fixture(scope="module")
def fixed(tmp_path_factory) -> Localizer:
    return load_bundle(tiny.write(tmp_path_factory.mktemp("stream") / "fixed", length=16))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 150), st.integers(2, 50), st.data())
def test_a_stream_ends_with_the_segments_of_the_windowed_pass(localizer, fixed, n_snippets, window, data) -> None:
    overlap = data.draw(st.none() | st.integers(1, window // 2))
    chosen = data.draw(st.sampled_from([localizer, fixed]))
    x = tiny.features(n_snippets, seed=n_snippets)
    stream = StreamingLocalizer(chosen, window=window, overlap=overlap, snippet_s=0.7)
    found, place = [], 0
    while place < n_snippets:
        size = data.draw(st.integers(1, 20))
        found += stream.push(x[place] if size == 1 else x[place : place + size])
        place += size
        if data.draw(st.booleans()):
            stream.tentative()
    found += stream.finish()
    _assert_same(found, chosen.detect(x, duration_s=0.7 * n_snippets, window=window, overlap=overlap))
    assert stream.n_snippets == n_snippets
    assert stream.finish() == []


def test_every_segment_is_final_within_the_stated_delay_and_once(localizer) -> None:
    stream = StreamingLocalizer(localizer, window=30, overlap=10)
    assert stream.snippet_s == 5 / 25.0  # of the contract
    assert stream.delay_s == pytest.approx(30 * 5 / 25.0)
    seen: list[Detection] = []
    for row in tiny.features(200):
        for d in stream.push(row):
            assert stream.time_s - d.end_s <= stream.delay_s + ROUNDING_S
            seen.append(d)
    assert len(seen) > 20
    assert len(set(seen)) == len(seen)
    last = stream.finish()
    assert last
    assert not set(seen) & set(last)


def test_tentative_segments_are_what_the_end_would_give(localizer) -> None:
    """At every length: the finals so far and the tentative ones are the windowed pass over what there is."""
    x = tiny.features(75)
    stream = StreamingLocalizer(localizer, window=20, snippet_s=1.0)
    assert stream.tentative() == []
    final: list[Detection] = []
    for n_snippets, row in enumerate(x, start=1):
        final += stream.push(row)
        tentative = stream.tentative()
        assert tentative == stream.tentative()
        assert [d.score for d in tentative] == sorted((d.score for d in tentative), reverse=True)
        _assert_same(final + tentative, localizer.detect(x[:n_snippets], duration_s=float(n_snippets), window=20))
    assert stream.tentative() == stream.finish()
    assert stream.tentative() == []


def test_the_network_runs_once_a_window_and_once_for_each_tentative_answer(localizer) -> None:
    calls: list[int] = []

    class Counting:
        feature_contract = localizer.feature_contract
        decode_config = localizer.decode_config

        def candidates(self, features, **options):
            calls.append(len(features))
            return localizer.candidates(features, **options)

    stream = StreamingLocalizer(Counting(), window=10, overlap=5)
    stream.push(tiny.features(24))
    assert calls == [10, 10, 10]
    stream.tentative(), stream.tentative()
    assert calls == [10, 10, 10, 10]
    stream.finish()
    assert calls == [10] * 5


def test_other_classes(localizer) -> None:
    stream = StreamingLocalizer(localizer, window=10, class_bank=["jump"])
    assert {d.label for d in stream.push(tiny.features(40))} == {"jump"}


@pytest.mark.parametrize(
    ("snippet", "said"),
    [
        (np.zeros(7, np.float32), r"after snippet 5: features must have C = 8 channels.*got 7"),
        (np.zeros((2, 9), np.float32), r"after snippet 5: .*got 9"),
        (np.zeros((1, 2, 8), np.float32), r"\(C,\) or \(n, C\); got shape \(1, 2, 8\)"),
        (np.float32(1.0), r"got shape \(\)"),
        (np.zeros(8, np.int64), "floating point.*got int64"),
        (np.full(8, np.nan, np.float32), r"after snippet 5: features must be finite.*index \(0, 0\)"),
    ],
)
def test_a_snippet_that_does_not_fit_is_refused_and_leaves_no_trace(localizer, snippet, said) -> None:
    x = tiny.features(20)
    stream = StreamingLocalizer(localizer, window=10)
    stream.push(x[:5])
    with pytest.raises(FeatureContractError, match=said):
        stream.push(snippet)
    found = stream.push(x[5:]) + stream.finish()
    _assert_same(found, localizer.detect(x, duration_s=4.0, window=10))


def test_arguments_that_cannot_be(localizer) -> None:
    with pytest.raises(ValueError, match="window must be at least 2"):
        StreamingLocalizer(localizer, window=1)
    for seconds in (0, -1.0, float("nan"), True):
        with pytest.raises(ValueError, match="snippet_s must be a finite number"):
            StreamingLocalizer(localizer, window=10, snippet_s=seconds)
    stream = StreamingLocalizer(localizer, window=10)
    assert stream.push(np.zeros((0, 8), np.float32)) == []
    assert stream.finish() == []
    with pytest.raises(ValueError, match="this stream has ended"):
        stream.push(tiny.features(1))


def test_memory_does_not_grow_with_the_stream(localizer) -> None:
    """What is held after six hours of snippets is what was held after two, but for what NumPy and ONNX Runtime cache.

    To remember every segment that was found since then would take some hundred kilobytes.
    """
    stream = StreamingLocalizer(localizer, window=60, snippet_s=1.0)
    x = tiny.features(600)
    held, n_final = [], 0
    tracemalloc.start()
    for _ in range(36):
        n_final += len(stream.push(x))
        gc.collect()  # Python keeps freed tuples for later
        held.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert n_final > 3000
    assert max(held[12:]) < held[11] + 30_000, "bytes"


def _assert_same(found: list[Detection], wanted: list[Detection]) -> None:
    found, wanted = sorted(found), sorted(wanted)
    assert [(d.label, d.score) for d in found] == [(d.label, d.score) for d in wanted]
    np.testing.assert_allclose([d[2:] for d in found], [d[2:] for d in wanted], atol=ROUNDING_S)
