"""Windows over long videos: where they lie, how their detections are joined, and that memory does not grow."""

import dataclasses
import itertools
import tracemalloc
from pathlib import Path

import numpy as np
import oracle
import pytest
import tiny
import video_files
import vision_encoder
from hypothesis import given, settings
from hypothesis import strategies as st

from stale_edge import Localizer, load_bundle
from stale_edge.bundle import ClassBank, FeatureContract
from stale_edge.config import DecodeConfig, FrameGrid, RelativeGrid
from stale_edge.data import resample
from stale_edge.decoding import DecodedArrays, paper_proposals
from stale_edge.errors import FeatureContractError
from stale_edge.runtime import seams
from stale_edge.runtime.base import BaseLocalizer
from stale_edge.runtime.seams import SAME_ACTION, SeamMerger
from stale_edge.runtime.video_reader import VideoReader
from stale_edge.runtime.windows import Window, WindowCandidates, WindowedPass, WindowPlan, detect_windowed
from stale_edge.segments import Detection

ROUNDING_S = 1e-9
"""Offsets of windows are added in float64 to seconds below 1e4."""


@pytest.fixture(scope="module")
def localizer(tmp_path_factory) -> Localizer:
    return load_bundle(tiny.write(tmp_path_factory.mktemp("windows") / "bundle"))


@pytest.fixture(scope="module")
def fixed(tmp_path_factory) -> Localizer:
    return load_bundle(tiny.write(tmp_path_factory.mktemp("windows") / "fixed", length=16))


PAPER, RELEASE = DecodeConfig(), DecodeConfig(policy="release")
NAMES = ("a", "b", "c")


def _arrays(rows) -> DecodedArrays:
    """From (label, score, start, end), labels as names."""
    return DecodedArrays(
        np.array([row[2:] for row in rows], dtype=np.float64).reshape(-1, 2),
        np.array([NAMES.index(row[0]) for row in rows], dtype=np.int64),
        np.array([row[1] for row in rows], dtype=np.float64),
    )


def _rows(found: DecodedArrays) -> list[tuple]:
    return [
        (NAMES[label], score, *segment)
        for label, score, segment in zip(
            found.labels.tolist(), found.scores.tolist(), found.segments.tolist(), strict=True
        )
    ]


class SeesEverything:
    """A localizer that is never wrong: it finds the part of every action that lies inside its window.

    Row t of its features holds t, so that it knows where the window lies; a snippet is a second, and four of the
    network's.
    """

    def __init__(self, actions: list[Detection], config: DecodeConfig = PAPER) -> None:
        self.actions = actions
        self.decode_config = config

    def candidates(self, features, *, class_bank=None, watch=None) -> WindowCandidates:
        assert class_bank is None
        assert watch is not None
        start_s = float(features[0, 0])
        end_s = start_s + len(features)
        inside = [d for d in self.actions if d.start_s < end_s and d.end_s > start_s]
        rows = [(d.label, d.score, max(d.start_s, start_s) - start_s, min(d.end_s, end_s) - start_s) for d in inside]
        network = 4 * len(features)
        found = _arrays(rows)
        return WindowCandidates(found._replace(segments=found.segments * network / len(features)), network, NAMES)


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


@pytest.mark.parametrize("config", [PAPER, RELEASE], ids=["paper", "release"])
@settings(max_examples=300)
@given(_worlds())
def test_what_every_window_sees_right_comes_out_once_and_whole(config, world) -> None:
    n_snippets, window, overlap, actions = world
    localizer = SeesEverything(actions, config)
    found = detect_windowed(
        localizer, _clock(n_snippets), grid=RelativeGrid(float(n_snippets)), plan=WindowPlan(window, overlap)
    ).detections
    assert sorted(found) == sorted(actions)


@pytest.mark.parametrize("n_snippets", [47, 55, 94, 110])
def test_an_action_up_to_the_end_does_not_end_after_the_video(n_snippets: int) -> None:
    """T * (duration / T) can be more than the duration: that end is cut."""
    rng = np.random.default_rng(n_snippets)
    durations = [d for d in rng.uniform(1, 500, 1000).tolist() if n_snippets * (d / n_snippets) > d]
    assert durations, "no duration that rounds up"
    for duration_s in durations[:20]:
        localizer = SeesEverything([Detection("a", 0.5, 1.0, float(n_snippets))], RELEASE)
        (found,) = detect_windowed(
            localizer, _clock(n_snippets), grid=RelativeGrid(duration_s), plan=WindowPlan(20, 8)
        ).detections
        assert found.end_s == duration_s


def test_where_frames_count_windows_do_too() -> None:
    """A snippet is stride / fps seconds whatever the duration says, and nothing leaves the video."""
    localizer = SeesEverything([Detection("a", 0.5, 10.0, 25.0), Detection("b", 0.4, 50.0, 90.0)], RELEASE)
    found = detect_windowed(localizer, _clock(90), grid=FrameGrid(30.0, 6.0, 6.0, 17.0), plan=WindowPlan(40, 20))
    assert [(d.label, d.start_s, d.end_s) for d in found.detections] == [("a", 2.0, 5.0), ("b", 10.0, 17.0)]


@st.composite
def _clusters(draw):
    """Draw proposals in clusters that are no longer than the overlap; clusters of a class do not overlap each other."""
    n_snippets = draw(st.integers(20, 200))
    window = draw(st.integers(8, 60))
    overlap = draw(st.integers(4, window // 2))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    proposals = []
    for label in NAMES:
        start = rng.uniform(0, 5)
        while start < n_snippets:
            end = min(start + rng.uniform(1, overlap), n_snippets)
            for _ in range(rng.integers(1, 7)):
                times = np.sort(rng.uniform(start, end, 2))
                proposals.append(Detection(label, rng.uniform(0.01, 1), *(times * 64 // 1 / 64).tolist()))
            start = end + rng.uniform(0, overlap)
    return n_snippets, window, overlap, [d for d in proposals if d.start_s < d.end_s]


@pytest.mark.parametrize("method", ["gaussian", "linear", "hard"])
@settings(max_examples=100)
@given(_clusters())
def test_soft_nms_comes_out_as_over_the_whole_video(method, world) -> None:
    """No chain of segments is longer than the overlap, and every window is right: the result equals one pass."""
    n_snippets, window, overlap, proposals = world
    config = dataclasses.replace(PAPER, soft_nms=method, tiou_threshold=0.3, max_detections=10_000)
    localizer = SeesEverything(proposals, config)
    found = detect_windowed(
        localizer, _clock(n_snippets), grid=RelativeGrid(float(n_snippets)), plan=WindowPlan(window, overlap)
    ).detections
    wanted = oracle.suppressed(proposals, [], config)
    _assert_equal(sorted(found, key=_place), sorted((Detection(*row) for row in wanted), key=_place), rtol=1e-9)


def _place(d: Detection) -> tuple:
    return d.label, d.start_s, d.end_s


def _random_windows(seed: int) -> tuple[list[tuple], WindowPlan]:
    """Windows that do not agree: random rows in each, among them long ones, and an irregular last window."""
    rng = np.random.default_rng(seed)
    plan = WindowPlan(40, int(rng.integers(5, 21)))
    windows = []
    for place in plan.cut(int(rng.integers(41, 260))):
        n = int(rng.integers(0, 30))
        starts = rng.uniform(place.start - 20, place.end, n).clip(place.start)
        ends = (starts + rng.exponential(12, n)).clip(max=place.end)
        scores = rng.uniform(0, 1, n)
        rows = [
            ("ab"[rng.integers(2)], *row) for row in zip(scores.tolist(), starts.tolist(), ends.tolist(), strict=True)
        ]
        is_last = place.seam == place.end
        windows.append((rows, place.start, place.end, place.seam, None if is_last else place.start + plan.stride))
    return windows, plan


@pytest.mark.parametrize("policy", ["paper", "release"])
def test_what_is_forgotten_is_not_missed(policy) -> None:
    """The oracle keeps all that was ever final; the merger only what may still decay something."""
    for seed in range(60):
        config = DecodeConfig(policy=policy, max_detections=100 if policy == "release" else 10_000)
        windows, _ = _random_windows(seed)
        merger, found = SeamMerger(config), []
        for rows, start, end, seam, next_start in windows:
            preview = merger.preview(_arrays(rows), start=start)
            found += _rows(merger.add(_arrays(rows), start=start, end=end, seam=seam, next_start=next_start))
        last = merger.finish()
        assert _rows(last) == _rows(preview), "the last preview is what the end gives"
        found += _rows(last)
        wanted = oracle.merged_windows(windows, config, same_action=SAME_ACTION)
        assert [(d[0], *d[2:]) for d in found] == [(d[0], *d[2:]) for d in wanted]
        np.testing.assert_allclose([d[1] for d in found], [d[1] for d in wanted], rtol=1e-9)
        assert len(found) > 0


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
    "half of what both cover in the zone is shared: one action": (
        [("a", 0.6, 60, 90)],
        [("a", 0.9, 70, 100)],
        [("a", 0.9, 60, 100)],
    ),
    "less than half, 18 of 40: two": (
        [("a", 0.6, 60, 89)],
        [("a", 0.9, 71, 100)],
        [("a", 0.6, 60, 89), ("a", 0.9, 71, 100)],
    ),
    "of no length, it is nobody's twin": (
        [("a", 0.9, 70, 70)],
        [("a", 0.8, 90, 90)],
        [("a", 0.9, 70, 70), ("a", 0.8, 90, 90)],
    ),
}


@pytest.mark.parametrize("case", JOINED, ids=str)
def test_joining_by_value(case) -> None:
    """Without soft-NMS, so that scores stay what they are."""
    earlier, later, wanted = JOINED[case]
    merger = SeamMerger(RELEASE)
    found = _rows(merger.add(_arrays(earlier), start=0, end=100, seam=80, next_start=60))
    assert _rows(merger.preview(_arrays(later), start=60)) == sorted(set(wanted) - set(found), key=lambda d: -d[1])
    found += _rows(merger.add(_arrays(later), start=60, end=160, seam=140, next_start=120))
    assert sorted(found + _rows(merger.finish())) == sorted(wanted)
    assert _rows(merger.pending) == []


def test_a_segment_is_final_once_no_window_to_come_reaches_it() -> None:
    merger = SeamMerger(RELEASE)
    at_the_zone, into_it = ("a", 0.5, 10.0, 60.0), ("a", 0.4, 10.0, 61.0)
    found = merger.add(_arrays([at_the_zone, into_it]), start=0, end=100, seam=80, next_start=60)
    assert _rows(found) == [at_the_zone]
    assert _rows(merger.pending) == [into_it]
    assert _rows(merger.add(_arrays([]), start=60, end=160, seam=140, next_start=120)) == [into_it]
    assert _rows(merger.pending) == []


def test_what_is_final_is_not_asked_of_the_last_window_again() -> None:
    """A window that begins before the promised zone finds a final action again, and does not report it as a new one."""
    merger = SeamMerger(RELEASE)
    final, pending = ("a", 0.9, 62.0, 78.0), ("a", 0.5, 64.0, 82.0)
    found = merger.add(_arrays([final, pending]), start=0, end=100, seam=90, next_start=80)
    found = _rows(found) + _rows(merger.add(_arrays([final, pending]), start=40, end=140, seam=140, next_start=None))
    assert found + _rows(merger.finish()) == [final, pending]


@pytest.mark.parametrize("policy", ["paper", "release"])
def test_a_preview_changes_nothing(policy) -> None:
    merger = SeamMerger(DecodeConfig(policy=policy))
    merger.add(_arrays([("a", 0.5, 10.0, 100.0)]), start=0, end=100, seam=80, next_start=60)
    before = _rows(merger.pending)
    assert _rows(merger.preview(_arrays([("a", 0.7, 60.0, 130.0)]), start=60)) == [("a", 0.7, 10.0, 130.0)]
    assert _rows(merger.pending) == before


def test_a_final_segment_goes_on_decaying_by_value() -> None:
    """tIoU of [0, 60) with [0, 90) is 2/3: exp(-(2/3)**2 / 0.5) = 0.411; what may still change is shown decayed."""
    merger = SeamMerger(PAPER)
    factor = np.exp(-((2 / 3) ** 2) / 0.5)
    found = merger.add(
        _arrays([("a", 0.9, 0.0, 60.0), ("a", 0.8, 0.0, 90.0)]), start=0, end=100, seam=80, next_start=60
    )
    assert _rows(found) == [("a", 0.9, 0.0, 60.0)]
    assert _rows(merger.pending) == [("a", pytest.approx(0.8 * factor), 0.0, 90.0)]
    found = merger.add(_arrays([("a", 0.7, 60.0, 90.0)]), start=60, end=160, seam=140, next_start=120)
    assert _rows(found) == [("a", pytest.approx(0.8 * factor), 0.0, 90.0)]


def test_what_is_decayed_by_what_may_still_change_is_final_with_that_score() -> None:
    merger = SeamMerger(PAPER)
    factor = np.exp(-((2 / 3) ** 2) / 0.5)
    rows = [("a", 0.8, 0.0, 60.0), ("a", 0.9, 0.0, 90.0), ("a", 0.002, 0.0, 50.0)]  # the last one falls below min_score
    found = merger.add(_arrays(rows), start=0, end=100, seam=80, next_start=60)
    assert _rows(found) == [("a", pytest.approx(0.8 * factor), 0.0, 60.0)]
    assert _rows(merger.pending) == [("a", 0.9, 0.0, 90.0)]


def test_max_detections_holds_what_a_window_knows() -> None:
    rows = [("abc"[i % 3], 0.9 - i / 20, 20.0 * (i // 3), 20.0 * (i // 3) + 10) for i in range(12)]
    merger = SeamMerger(DecodeConfig(max_detections=8))
    final = _rows(merger.add(_arrays(rows), start=0, end=100, seam=80, next_start=40))
    assert final == rows[:6]
    assert _rows(merger.pending) == rows[6:8]
    assert _rows(merger.preview(_arrays([]), start=60)) == rows[6:12], "another window"
    assert _rows(merger.finish()) == rows[6:8]


def test_an_action_that_never_ends_is_remembered_with_a_bounded_number_of_others(monkeypatch) -> None:
    monkeypatch.setattr(seams, "MOST_SETTLED", 30)
    merger = SeamMerger(PAPER)
    for start in range(0, 6000, 60):
        long = ("a", 0.5, float(start), start + 120.0)
        short = [("a", 0.1 + i / 100, start + 3.0 * i, start + 3.0 * i + 2) for i in range(20)]
        merger.add(_arrays([long, *short]), start=start, end=start + 120, seam=start + 90, next_start=start + 60)
        assert len(merger._settled.scores) <= 30
        assert len(merger._pending.scores) <= 21
    (longest,) = [row for row in _rows(merger._pending) if row[3] - row[2] > 100]
    assert longest[2:] == (0.0, 6060.0)


# --- the pass --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_snippets", [1, 7, 24])
def test_a_video_that_fits_into_a_window_gives_what_it_gives_without(localizer, n_snippets) -> None:
    x = tiny.features(n_snippets)
    _assert_equal(localizer.detect(x, duration_s=33.3, window=24, overlap=5), localizer.detect(x, duration_s=33.3))


@pytest.mark.parametrize("policy", ["paper", "release"])
@pytest.mark.parametrize("window", [24, 37])
@pytest.mark.parametrize("limit", [3, 100])
def test_also_with_other_policies_and_few_detections(localizer, policy, window, limit) -> None:
    paper = dataclasses.replace(localizer.decode_config, max_detections=limit)
    config = paper if policy == "paper" else RELEASE
    chosen = Configured(localizer, config)
    x = tiny.features(window)
    options = {"video_label": "pole vault", "video_score": 0.4}
    wanted = chosen.detect(x, duration_s=33.3, **options)
    _assert_equal(chosen.detect(x, duration_s=33.3, window=window, **options), wanted)
    assert len(wanted) == limit if policy == "paper" and limit < 100 else len(wanted) > 3


class Configured(BaseLocalizer):
    """A localizer that decodes otherwise."""

    def __init__(self, inner: Localizer, config: DecodeConfig) -> None:
        self._inner = inner
        self._config = config

    @property
    def class_bank(self) -> ClassBank:
        return self._inner.class_bank

    @property
    def feature_contract(self) -> FeatureContract:
        return self._inner.feature_contract

    @property
    def decode_config(self) -> DecodeConfig:
        return self._config

    def _run(self, features, class_embeddings):
        return self._inner._run(features, class_embeddings)


@pytest.mark.parametrize("kind", ["any T", "fixed T"])
def test_the_network_sees_each_window_as_a_video_of_its_own(localizer, fixed, kind) -> None:
    """The oracle: windows looked at by hand, their proposals joined and suppressed by loops."""
    chosen = localizer if kind == "any T" else fixed
    x, config = tiny.features(75), chosen.decode_config
    found = chosen.detect(x, duration_s=150.0, window=40, overlap=20)
    windows = []
    for start, seam, next_start in ((0, 30, 20), (20, 50, 40), (35, 75, None)):
        outputs = chosen.forward(resample(x[start : start + 40], 16))
        arrays = paper_proposals(outputs["class_logits"], outputs["masks"], config=config)
        rows = [
            (label, score, start + a * 40 / 16, start + b * 40 / 16)
            for label, score, (a, b) in zip(
                arrays.labels.tolist(), arrays.scores.tolist(), arrays.segments.tolist(), strict=True
            )
        ]
        windows.append((rows, start, start + 40, seam, next_start))
    wanted = [
        Detection(tiny.NAMES[label], score, 2 * start, 2 * end)
        for label, score, start, end in oracle.merged_windows(windows, config, same_action=SAME_ACTION)
    ]
    assert len(wanted) > 5
    _assert_equal(sorted(found, key=_place), sorted(wanted, key=_place), rtol=1e-9)


@pytest.mark.parametrize("policy", ["paper", "release"])
def test_options_reach_every_window(localizer, policy) -> None:
    x, chosen = tiny.features(60), Configured(localizer, DecodeConfig(policy=policy))
    found = chosen.detect(x, duration_s=60.0, window=20, class_bank=["jump"], video_label="pole vault", video_score=1.0)
    assert {d.label for d in found} == {"pole vault"}
    assert max(d.end_s for d in found) <= 60.0
    assert [d.score for d in found] == sorted((d.score for d in found), reverse=True)


def test_the_video_level_label_is_given_after_soft_nms(localizer) -> None:
    """Scores and segments stay; what scores no more than the video takes its label."""
    x = tiny.features(60)
    plain = localizer.detect(x, duration_s=60.0, window=20)
    limit = plain[len(plain) // 2].score
    found = localizer.detect(x, duration_s=60.0, window=20, video_label="swim", video_score=limit)
    assert [d[1:] for d in found] == [d[1:] for d in plain]
    assert [d.label for d in found] == [d.label if d.score > limit else "swim" for d in plain]
    for broken in ({"video_label": "swim"}, {"video_score": 0.5}):
        with pytest.raises(ValueError, match="video_label and video_score go together"):
            localizer.detect(x, duration_s=60.0, window=20, **broken)


def test_the_release_policy_joins_detections(localizer) -> None:
    """Its soft-NMS belongs to a window: every score is one that a window gave."""
    x, chosen = tiny.features(90), Configured(localizer, RELEASE)
    found = chosen.detect(x, duration_s=90.0, window=30)
    by_window = [chosen.detect(x[w.start : w.end], duration_s=30.0) for w in WindowPlan.of(30).cut(90)]
    assert {d.score for d in found} <= {d.score for one in by_window for d in one}
    assert len(found) > 10


def test_what_joining_takes_is_post_processing(localizer, monkeypatch) -> None:
    now = iter(range(10_000))
    monkeypatch.setattr("stale_edge.runtime.timings.time.perf_counter", lambda: float(next(now)))
    timings = localizer.measure(tiny.features(24), duration_s=24.0, window=24).timings
    # candidates: 3 steps of the clock, 1 of them the network's; add and finish: 1 each
    assert (timings.detector_s, timings.postprocess_s) == (1.0, 4.0)


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

        self.decode_config = localizer.decode_config

    def candidates(self, features, **options) -> WindowCandidates:
        self.n_windows += 1
        self.most = max(self.most, len(features))
        return self.localizer.candidates(features, **options)


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
    localizer = load_bundle(bundle)
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


def _assert_equal(found: list[Detection], wanted: list[Detection], *, rtol: float = 0.0) -> None:
    assert [d.label for d in found] == [d.label for d in wanted]
    np.testing.assert_allclose([d.score for d in found], [d.score for d in wanted], rtol=rtol)
    np.testing.assert_allclose([d[2:] for d in found], [d[2:] for d in wanted], atol=ROUNDING_S)
