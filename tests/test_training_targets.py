"""Label assignment of section 3.3."""

from typing import NamedTuple

import oracle
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from stale_edge.model.targets import IGNORED, assign_targets, snippet_span, stack_targets


class Span(NamedTuple):
    label: str
    start_s: float
    end_s: float


SPANS = [
    # start, end, snippets of ten in a video of 20 s, why
    (0.0, 20.0, (0, 10), "the whole video"),
    (4.0, 8.0, (2, 4), "exactly two snippets"),
    (4.9, 7.1, (2, 4), "both middles, 5 and 7, are inside"),
    (5.0, 7.0, (2, 3), "a segment is half open: it holds its start, not its end"),
    (5.1, 6.9, (3, 4), "no middle inside: the snippet under the segment's own middle"),
    (5.1, 5.2, (2, 3), "far shorter than a snippet still claims one"),
    (8.0, 8.0, (4, 5), "zero length"),
    (-3.0, 2.0, (0, 1), "cut at the start"),
    (18.0, 25.0, (9, 10), "cut at the end"),
    (0.0, 0.0, (0, 1), "zero length at the very start"),
]


@pytest.mark.parametrize(("start_s", "end_s", "expected", "why"), SPANS, ids=[case[3] for case in SPANS])
def test_snippet_span(start_s: float, end_s: float, expected: tuple[int, int], why: str) -> None:
    assert snippet_span(start_s, end_s, duration_s=20.0, n_snippets=10) == expected, why


@pytest.mark.parametrize(
    ("start_s", "end_s", "word"),
    [
        (8.0, 4.0, "end where it starts"),
        (20.0, 30.0, "outside"),
        (-5.0, -1.0, "outside"),
        (float("nan"), 1.0, "finite"),
    ],
)
def test_a_segment_without_snippets_is_refused(start_s: float, end_s: float, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        snippet_span(start_s, end_s, duration_s=20.0, n_snippets=10)


def test_actions_outside_their_video_are_left_out() -> None:
    """As in THUMOS14: video_validation_0000364 lasts 112.5 s and has an action from 113.6 s."""
    actions = [Span("Dive", 113.6, 117.3), Span("Dive", 0, 50)]
    targets = assign_targets(actions, vocabulary=["Dive"], duration_s=112.5, n_snippets=3)
    assert targets.labels.tolist() == [0, 1, 1]


def test_background_is_the_last_class_and_predicts_an_empty_mask() -> None:
    targets = assign_targets([Span("Dive", 4, 8)], vocabulary=["Bowl", "Dive"], duration_s=20.0, n_snippets=10)
    assert targets.labels.tolist() == [2, 2, 1, 1, 2, 2, 2, 2, 2, 2]
    masks = stack_targets([targets]).masks[0]
    assert masks[2].tolist() == masks[3].tolist() == [0, 0, 1, 1, 0, 0, 0, 0, 0, 0]
    assert masks.sum() == 4


def test_two_actions_of_one_class_keep_masks_of_their_own() -> None:
    actions = [Span("Dive", 0, 4), Span("Dive", 8, 10)]
    masks = stack_targets([assign_targets(actions, vocabulary=["Dive"], duration_s=10.0, n_snippets=5)]).masks[0]
    assert masks[0].tolist() == [1, 1, 0, 0, 0]
    assert masks[4].tolist() == [0, 0, 0, 0, 1]


@pytest.mark.parametrize("reverse", [False, True])
def test_the_shorter_of_two_overlapping_actions_owns_the_snippet(reverse: bool) -> None:
    actions = [Span("Long", 0, 10), Span("Short", 4, 6)]
    targets = assign_targets(
        actions[::-1] if reverse else actions, vocabulary=["Long", "Short"], duration_s=10.0, n_snippets=5
    )
    assert targets.labels.tolist() == [0, 0, 1, 0, 0]
    masks = stack_targets([targets]).masks[0]
    assert masks[0].tolist() == [1, 1, 1, 1, 1], "the long action's mask spans all of it, hidden snippet included"
    assert masks[2].tolist() == [0, 0, 1, 0, 0]


def test_actions_of_unseen_classes_are_ignored_not_background() -> None:
    actions = [Span("Seen", 0, 4), Span("Unseen", 6, 10)]
    targets = assign_targets(actions, vocabulary=["Seen"], duration_s=10.0, n_snippets=5)
    assert targets.labels.tolist() == [0, 0, 1, IGNORED, IGNORED]
    assert stack_targets([targets]).masks[0, 3:].sum() == 0


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.floats(0, 29), st.floats(0.01, 12)),
        max_size=5,
        unique_by=lambda action: action[2],  # equally long actions may share a snippet either way
    ),
    st.integers(1, 30),
)
def test_targets_equal_the_oracle(drawn: list[tuple[str, float, float]], n_snippets: int) -> None:
    # The offset keeps starts and ends off the exact middles of snippets, where rounding decides.
    actions = [Span(label, start + 0.00123, min(start + 0.00123 + length, 30.0)) for label, start, length in drawn]
    if len({round(action.end_s - action.start_s, 3) for action in actions}) < len(actions):
        return  # cut to the same length at the end of the video
    found = assign_targets(actions, vocabulary=["a", "b"], duration_s=30.0, n_snippets=n_snippets)
    labels, masks = oracle.training_targets(actions, vocabulary=["a", "b"], duration_s=30.0, n_snippets=n_snippets)
    assert found.labels.tolist() == labels
    assert torch.equal(stack_targets([found]).masks[0], torch.tensor(masks))
