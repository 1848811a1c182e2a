"""Windows over long videos: where they lie, how their detections are joined, and that memory does not grow."""

import itertools
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import tiny
import video_files
import vision_encoder
from hypothesis import given, settings
from hypothesis import strategies as st

from stale_edge import Localizer, load_bundle
from stale_edge.data import resample
from stale_edge.decoding import decode
from stale_edge.errors import FeatureContractError
from stale_edge.runtime.measured import MeasuredLocalizer
from stale_edge.runtime.seams import Found, SeamMerger
from stale_edge.runtime.videos import VideoReader
from stale_edge.runtime.windows import Window, WindowedPass, WindowPlan, detect_windowed
from stale_edge.segments import Detection

ROUNDING_S = 1e-9
"""Offsets of windows are added in float64 to seconds below 1e4."""


@pytest.fixture(scope="module")
def localizer(tmp_path_factory) -> Localizer:
    return load_bundle(tiny.write(tmp_path_factory.mktemp("windows") / "bundle"))


@pytest.fixture(scope="module")
def fixed(tmp_path_factory) -> Localizer:
    return load_bundle(tiny.write(tmp_path_factory.mktemp("windows") / "fixed", length=16))


class SeesEverything:
    """A localizer that is never wrong: it finds the part of every action that lies inside its window.

    Row t of its features holds t, so that it knows where the window lies; a snippet is a second.
    """

    def __init__(self, actions: list[Detection]) -> None:
        self.actions = actions

    def detect(self, features, *, duration_s, **options) -> list[Detection]:
        assert options == {"class_bank": None, "video_label": None, "video_score": None}
        start_s = float(features[0, 0])
        end_s = start_s + duration_s
        inside = [d for d in self.actions if d.start_s < end_s and d.end_s > start_s]
        return [
            Detection(d.label, d.score, max(d.start_s, start_s) - start_s, min(d.end_s, end_s) - start_s)
            for d in sorted(inside, key=lambda d: -d.score)
        ]


def _clock(n_snippets: int) -> np.ndarray:
    return np.arange(n_snippets, dtype=np.float32)[:, None]


# --- where windows lie -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n_snippets", "window", "overlap", "spans"),
    [
        (1, 10, 4, [(0, 1)]),
        (10, 10, 4, [(0, 10)]),
        (11, 10, 4, [(0, 10), (1, 11)]),
        (16, 10, 4, [(0, 10), (6, 16)]),  # the second one ends with the video: no third
        (17, 10, 4, [(0, 10), (6, 16), (7, 17)]),
        (30, 10, 5, [(0, 10), (5, 15), (10, 20), (15, 25), (20, 30)]),
        (5, 2, 1, [(0, 2), (1, 3), (2, 4), (3, 5)]),
    ],
)
def test_plan_by_value(n_snippets, window, overlap, spans) -> None:
    assert [(w.start, w.end) for w in WindowPlan(window, overlap).cut(n_snippets)] == spans


@given(st.integers(1, 200), st.integers(2, 40), st.data())
def test_windows_cover_the_video_and_no_snippet_lies_in_three_regular_ones(n_snippets, window, data) -> None:
    overlap = data.draw(st.integers(1, window // 2))
    windows = list(WindowPlan(window, overlap).cut(n_snippets))
    assert windows[0].start == 0
    assert windows[-1].end == windows[-1].seam == n_snippets
    assert all(w.end - w.start == min(window, n_snippets) for w in windows)
    for earlier, later in itertools.pairwise(windows):
        assert earlier.start < later.start <= earlier.seam <= earlier.end < later.end
    for earlier, later in zip(windows[:-1], windows[2:-1], strict=False):
        assert later.start >= earlier.end
    assert len(windows) <= 1 + -(-max(0, n_snippets - window) // (window - overlap))


@pytest.mark.parametrize(
    ("window", "overlap", "said"),
    [
        (1, None, "window must be at least 2 snippets; got 1"),
        (10.0, None, r"window must be an integer, in snippets; got 10\.0"),
        (True, 1, "window must be an integer, in snippets; got True"),
        (10, 0, "overlap must be at least 1 snippet and at most half a window of 10; got 0"),
        (10, 6, "at most half a window of 10; got 6"),
        (10, 2.5, "overlap must be an integer"),
        (None, 5, "overlap is that of windows: give window too; got overlap 5 alone"),
    ],
)
def test_impossible_windows(localizer, window, overlap, said) -> None:
    with pytest.raises(ValueError, match=said):
        localizer.detect(tiny.features(12), duration_s=12.0, window=window, overlap=overlap)


# --- how detections are joined ---------------------------------------------------------------------------------------


@st.composite
def _worlds(draw):
    """Draw actions of three classes that never overlap their own class, and a plan of windows."""
    n_snippets = draw(st.integers(20, 300))
    window = draw(st.integers(8, 60))
    overlap = draw(st.integers(4, window // 2))
    actions = []
    for label in "abc":
        times = sorted(draw(st.lists(st.integers(0, 4 * n_snippets), min_size=0, max_size=12, unique=True)))
        for start, end in zip(times[::2], times[1::2], strict=False):
            actions.append(Detection(label, draw(st.integers(1, 99)) / 100, start / 4, end / 4))
    return n_snippets, window, overlap, actions


@settings(max_examples=300)
@given(_worlds())
def test_what_every_window_sees_right_comes_out_once_and_whole(world) -> None:
    n_snippets, window, overlap, actions = world
    found = detect_windowed(
        SeesEverything(actions), _clock(n_snippets), duration_s=float(n_snippets), window=window, overlap=overlap
    )
    assert sorted(found) == sorted(actions)


# Windows [0, 100) and [60, 160): the zone is [60, 100), the seam 80. What each saw, what is left, and why.
JOINED = {
    "cut by both: the start of one, the end of the other, the better score": (
        [("a", 0.6, 20, 100)],
        [("a", 0.9, 60, 140)],
        [("a", 0.9, 20, 140)],
    ),
    "whole in the later one, cut by the earlier": (
        [("a", 0.9, 70, 100)],
        [("a", 0.6, 71, 115)],
        [("a", 0.9, 70, 115)],
    ),
    "left of the seam the earlier one knows better": (
        [("a", 0.3, 50, 75)],
        [("a", 0.9, 60, 73)],
        [("a", 0.3, 50, 75)],
    ),
    "right of it the later one": ([("a", 0.9, 85, 100)], [("a", 0.4, 84, 104)], [("a", 0.4, 84, 104)]),
    "other labels are other actions": (
        [("a", 0.9, 20, 100)],
        [("b", 0.8, 60, 140)],
        [("a", 0.9, 20, 100), ("b", 0.8, 60, 140)],
    ),
    "two that follow each other inside the zone stay two": (
        [("a", 0.9, 62, 70), ("a", 0.8, 90, 98)],
        [("a", 0.7, 61, 70), ("a", 0.6, 90, 99)],
        [("a", 0.9, 62, 70), ("a", 0.6, 90, 99)],
    ),
    "one to one: a weak second opinion does not join as well": (
        [("a", 0.9, 20, 100), ("a", 0.1, 40, 100)],
        [("a", 0.8, 60, 140)],
        [("a", 0.9, 20, 140), ("a", 0.1, 40, 100)],
    ),
    "seen by the earlier one alone, where the later one knows better": ([("a", 0.9, 82, 98)], [], []),
    "seen by the later one alone, where the earlier one knows better": ([], [("a", 0.9, 61, 77)], []),
    "each alone at its own side": (
        [("a", 0.9, 50, 79)],
        [("a", 0.8, 81, 120)],
        [("a", 0.9, 50, 79), ("a", 0.8, 81, 120)],
    ),
    "of no length, it is nobody's twin": (
        [("a", 0.9, 70, 70)],
        [("a", 0.8, 90, 90)],
        [("a", 0.9, 70, 70), ("a", 0.8, 90, 90)],
    ),
}


@pytest.mark.parametrize("case", JOINED, ids=str)
def test_joining_by_value(case) -> None:
    earlier, later, wanted = ([Found(*row) for row in rows] for rows in JOINED[case])
    merger = SeamMerger()
    found = merger.add(earlier, start=0, end=100, seam=80, next_start=60)
    assert merger.preview(later, start=60) == sorted(set(wanted) - set(found), key=lambda d: -d.score)
    found += merger.add(later, start=60, end=160, seam=140, next_start=120)
    assert sorted(found + merger.finish()) == sorted(wanted)
    assert merger.pending == []


def test_a_segment_is_final_once_no_window_to_come_reaches_it() -> None:
    merger = SeamMerger()
    at_the_zone, into_it = Found("a", 0.5, 10, 60), Found("a", 0.4, 10, 61)
    assert merger.add([at_the_zone, into_it], start=0, end=100, seam=80, next_start=60) == [at_the_zone]
    assert merger.pending == [into_it]
    assert merger.add([], start=60, end=160, seam=140, next_start=120) == [into_it]
    assert merger.pending == []


def test_a_preview_changes_nothing() -> None:
    merger = SeamMerger()
    merger.add([Found("a", 0.5, 10, 100)], start=0, end=100, seam=80, next_start=60)
    before = merger.pending
    assert merger.preview([Found("a", 0.7, 60, 130)], start=60) == [Found("a", 0.7, 10, 130)]
    assert merger.pending == before


# --- the pass --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_snippets", [1, 7, 24])
def test_a_video_that_fits_into_a_window_gives_what_it_gives_without(localizer, n_snippets) -> None:
    x = tiny.features(n_snippets)
    _assert_equal(localizer.detect(x, duration_s=33.3, window=24, overlap=5), localizer.detect(x, duration_s=33.3))


@pytest.mark.parametrize("kind", ["any T", "fixed T"])
def test_each_window_is_a_video_of_its_own(localizer, fixed, kind) -> None:
    """The oracle: two windows detected in by hand; far from the seam their detections are the video's."""
    chosen = localizer if kind == "any T" else fixed
    x, seconds = tiny.features(60), 120.0
    found = chosen.detect(x, duration_s=seconds, window=40, overlap=20)
    by_hand = []
    for start in (0, 20):
        window = resample(x[start : start + 40], 16)
        outputs = chosen.forward(window)
        decoded = decode(
            outputs["class_logits"],
            outputs["masks"],
            class_names=tiny.NAMES,
            duration_s=80.0,
            config=chosen.decode_config,
        )
        by_hand += [d._replace(start_s=d.start_s + 2 * start, end_s=d.end_s + 2 * start) for d in decoded]
    for d in found:
        for boundary, name in ((d.start_s, "start_s"), (d.end_s, "end_s")):
            assert any(
                abs(getattr(other, name) - boundary) < ROUNDING_S and other.label == d.label for other in by_hand
            )
        assert any(other.score == d.score and other.label == d.label for other in by_hand)
    outside = [d for d in by_hand if d.end_s <= 40.0 or d.start_s >= 80.0]
    assert outside
    assert {_rounded(d) for d in outside} <= {_rounded(d) for d in found}


def test_options_reach_every_window(localizer) -> None:
    x = tiny.features(60)
    found = localizer.detect(
        x, duration_s=60.0, window=20, class_bank=["jump"], video_label="pole vault", video_score=1.0
    )
    assert {d.label for d in found} == {"pole vault"}
    assert max(d.end_s for d in found) <= 60.0
    assert [d.score for d in found] == sorted((d.score for d in found), reverse=True)


def test_bad_features_are_named_by_their_window(localizer) -> None:
    x = tiny.features(60)
    x[45, 3] = np.nan
    with pytest.raises(FeatureContractError, match=r"snippets 30 to 50: features must be finite.*index \(15, 3\)"):
        localizer.detect(x, duration_s=60.0, window=20, overlap=10)
    for shape in ((8,), (2, 9, 8), (0, 8)):
        with pytest.raises(FeatureContractError, match="one video, features"):
            localizer.detect(np.zeros(shape, np.float32), duration_s=60.0, window=20)


class Counting:
    """A localizer that keeps how often it was asked, and for how many snippets at most."""

    def __init__(self, localizer: Localizer) -> None:
        self.localizer = localizer
        self.n_windows = 0
        self.most = 0

    def detect(self, features, **options) -> list[Detection]:
        self.n_windows += 1
        self.most = max(self.most, len(features))
        return self.localizer.detect(features, **options)


def test_an_hour_of_video_takes_linear_work_and_constant_memory(localizer, tmp_path: Path) -> None:
    """One snippet a second for an hour against twenty minutes: three times the windows, the same peak."""
    peaks, counts = [], []
    for minutes in (20, 60):
        path = tmp_path / f"{minutes}.npy"
        np.save(path, tiny.features(60 * minutes))
        counting = Counting(localizer)
        features = np.load(path, mmap_mode="r")
        tracemalloc.start()
        n_final = 0
        for found in _found_by_window(counting, features):
            n_final += len(found)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        counts.append(counting.n_windows)
        assert counting.most == 100
        assert n_final > 10 * minutes
    assert counts == [23, 71]
    assert peaks[1] < 1.2 * peaks[0], "bytes that Python and NumPy hold at once"


def _found_by_window(localizer, features):
    plan = WindowPlan.of(100)
    windows = WindowedPass(localizer, plan, snippet_s=1.0)
    for place in plan.cut(len(features)):
        yield windows.add(features[place.start : place.end], place)
    yield windows.finish()


def test_an_hour_long_video_file_takes_constant_memory(tmp_path: Path) -> None:
    """An hour of pictures, one a second, decoded, encoded and detected in; ten minutes of it need as much memory."""
    bundle = tiny.write(tmp_path / "bundle", stride=25)  # a snippet a second
    encoder = vision_encoder.write(tmp_path / "encoder", fingerprint="tiny-encoder")
    localizer = MeasuredLocalizer(load_bundle(bundle))
    reader = VideoReader(bundle, localizer.feature_contract, encoder=encoder)
    _ = reader.opened
    peaks, found = [], []
    for minutes in (10, 60):
        times_ms = range(0, 60_000 * minutes + 1, 1000)
        path = video_files.write(tmp_path / f"{minutes}.mkv", times_ms=times_ms, size=(16, 16), keyframe_every=60)
        tracemalloc.start()
        found = reader.detect(path, localizer, class_bank=localizer.class_bank, window=100)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert found.span_s == 60 * minutes
    assert peaks[1] < 1.5 * peaks[0] + 200 * len(found.detections), "what was found is kept, and nothing else"
    assert found.detections[0].score > 0
    assert max(d.end_s for d in found.detections) > 3000


def test_windows_of_a_memory_map_are_those_of_the_array(localizer, tmp_path: Path) -> None:
    x = tiny.features(90)
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    wanted = localizer.detect(x, duration_s=90.0, window=30)
    assert localizer.detect(mapped, duration_s=90.0, window=30) == wanted
    assert wanted


def test_regular_windows_know_their_seam() -> None:
    assert WindowPlan(10, 4).regular(2) == Window(12, 22, 20.0)
    assert WindowPlan(10, 4).last(25) == Window(15, 25, 25.0)


def _rounded(d: Detection) -> tuple[str, float, float, float]:
    return d.label, round(d.score, 6), round(d.start_s, 6), round(d.end_s, 6)


def _assert_equal(found: list[Detection], wanted: list[Detection]) -> None:
    assert [(d.label, d.score) for d in found] == [(d.label, d.score) for d in wanted]
    np.testing.assert_allclose([d[2:] for d in found], [d[2:] for d in wanted], atol=ROUNDING_S)
