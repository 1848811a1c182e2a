"""From class logits and masks to detections, under both policies."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import oracle
import pytest
from release_outcomes import matching, release_outcomes

from stale_edge.config import DecodeConfig
from stale_edge.decoding import decode, decode_arrays, paper_proposals, release_proposals


def made(seed: int, K: int, T: int, *, smooth: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Logits with a few standing-out runs; masks as smooth bumps, or as noise."""
    rng = np.random.default_rng(seed)
    class_logits = rng.normal(0, 1.5, (K + 1, T)).astype(np.float32)
    masks = rng.uniform(0, 1, (T, T)).astype(np.float32)
    for _ in range(3):
        start, length = rng.integers(T), 1 + rng.integers(max(T // 4, 1))
        class_logits[rng.integers(K), start : start + length] += 5
        if smooth:
            centre = start + length / 2
            distance = np.abs(np.arange(T) - centre) / length
            jitter = rng.uniform(0.5, 1.0, (min(length, T - start), 1))
            masks[start : start + length] = (jitter / (1 + np.exp(8 * (distance - 0.5)))).astype(np.float32)
    return class_logits, masks


def names(K: int) -> list[str]:
    return [f"class_{k}" for k in range(K)]


CONFIGS = [
    DecodeConfig(),
    DecodeConfig(regions="hull", soft_nms="linear", tiou_threshold=0.3),
    DecodeConfig(soft_nms="hard", min_snippets=3, class_threshold=0.2),
    DecodeConfig(top_snippets=5, max_detections=4, mask_thresholds=(0.6, 0.0, 0.3, 0.3)),
    DecodeConfig(class_threshold=0.0, min_score=0.0, top_snippets=60),
]


@pytest.mark.parametrize("config", CONFIGS, ids=range(len(CONFIGS)))
@pytest.mark.parametrize(("seed", "K", "T"), [(0, 1, 1), (1, 1, 2), (2, 5, 20), (3, 20, 33), (4, 3, 64)])
@pytest.mark.parametrize("smooth", [True, False])
def test_paper_policy_agrees_with_the_oracle(config: DecodeConfig, seed: int, K: int, T: int, smooth: bool) -> None:
    class_logits, masks = made(seed, K, T, smooth=smooth)
    found = decode_arrays(class_logits, masks, config=config)
    expected = oracle.decode_paper(class_logits, masks, config)
    rows = zip(found.labels.tolist(), *found.segments.T.tolist(), strict=True)
    assert list(rows) == [(label, start, end) for label, _, start, end in expected]
    np.testing.assert_allclose(found.scores, [score for _, score, _, _ in expected], rtol=1e-6)


@pytest.mark.parametrize("config", CONFIGS, ids=range(len(CONFIGS)))
@pytest.mark.parametrize(("seed", "K", "T"), [(0, 1, 1), (1, 1, 2), (2, 5, 20), (3, 20, 33)])
@pytest.mark.parametrize("smooth", [True, False])
def test_proposals_are_those_of_the_oracle(config: DecodeConfig, seed: int, K: int, T: int, smooth: bool) -> None:
    class_logits, masks = made(seed, K, T, smooth=smooth)
    found = paper_proposals(class_logits, masks, config=config)
    expected = [
        (label, start, end, score)
        for label, segments in oracle.paper_proposals(class_logits, masks, config).items()
        for (start, end), score in segments.items()
        if score >= config.min_score
    ]
    rows = zip(found.labels.tolist(), *found.segments.T.tolist(), strict=True)
    assert list(rows) == [row[:3] for row in expected]
    np.testing.assert_allclose(found.scores, [row[3] for row in expected], rtol=1e-6)


def test_proposals_are_of_the_paper_policy() -> None:
    with pytest.raises(ValueError, match="paper_proposals needs policy 'paper'; got 'release'"):
        paper_proposals(*made(2, 5, 20), config=DecodeConfig(policy="release"))


def test_scores_lie_between_zero_and_one_and_fall() -> None:
    class_logits, masks = made(5, 10, 50)
    class_logits *= 20  # saturated
    masks[masks > 0.9] = 1.0
    detections = decode(class_logits, masks, class_names=names(10), duration_s=33.3)
    scores = [d.score for d in detections]
    assert scores == sorted(scores, reverse=True)
    assert all(0 < score <= 1 for score in scores)
    assert all(0 <= d.start_s < d.end_s <= 33.3 for d in detections)
    assert len(detections) > 3


def test_actions_of_two_classes_at_the_same_time_do_not_suppress_each_other() -> None:
    class_logits = np.zeros((3, 4), dtype=np.float32)
    class_logits[2] = 10
    class_logits[:2, 1] = 20  # both classes at snippet 1, 0.5 each
    masks = np.zeros((4, 4), dtype=np.float32)
    masks[1, 1:3] = 1
    detections = decode(class_logits, masks, class_names=["a", "b"], duration_s=8)
    assert [(d.label, d.start_s, d.end_s) for d in detections] == [("a", 2.0, 6.0), ("b", 2.0, 6.0)]
    assert [d.score for d in detections] == pytest.approx([0.5, 0.5], abs=1e-4)


def test_a_video_without_action_has_no_detections() -> None:
    class_logits = np.zeros((4, 6), dtype=np.float32)
    class_logits[3] = 9
    masks = np.full((6, 6), 0.9, dtype=np.float32)
    assert decode(class_logits, masks, class_names=names(3), duration_s=1) == []
    class_logits[0] = 20
    assert decode(class_logits, 0 * masks, class_names=names(3), duration_s=1) == []


@pytest.mark.parametrize("seed", [1, 2])
def test_release_policy_golden(golden: Path, seed: int) -> None:
    case = json.loads((golden / f"release_postprocess_seed{seed}.json").read_text())
    with np.load(golden / f"release_postprocess_seed{seed}.npz") as arrays:
        class_logits, masks = arrays["class_logits"], arrays["masks"]
    class_names = names(case["num_classes"])

    proposals = release_proposals(class_logits, masks)
    assert len(proposals) == len(case["proposals"])
    for ours, theirs in zip(proposals, sorted(case["proposals"]), strict=True):
        assert ours[:4] == pytest.approx(theirs[:4], abs=1e-6)
        assert class_names[ours.label] == theirs[4]

    duration_s = case["duration"]
    recorded = case["detections_with_video_score"]
    enhancement = {name: recorded[name] for name in ("video_label", "video_score")}
    arguments: dict[str, Any] = {"class_names": class_names, "duration_s": duration_s, "policy": "release"}
    # The order of equal scores is random in the public script: the recorded result is one of several.
    outcomes = release_outcomes(class_logits, masks)
    assert len(outcomes) == {1: 7, 2: 6}[seed]
    for extra, theirs in (({}, case["detections"]), (enhancement, recorded["detections"])):
        allowed = [relabelled(outcome, class_names, **extra) for outcome in outcomes]
        found = decode(class_logits, masks, **arguments, **extra)
        ours = [(d.label, d.score, d.start_s / duration_s, d.end_s / duration_s) for d in found]
        assert len(matching(allowed, ours)) == 1
        rows = [(d["label"], d["score"], *(time / duration_s for time in d["segment"])) for d in theirs]
        assert len(matching(allowed, rows)) == 1


def relabelled(
    rows: list[tuple[int, float, float, float]],
    class_names: list[str],
    *,
    video_label: str = "",
    video_score: float = -1.0,
) -> list[tuple[str, float, float, float]]:
    """Name the classes, as score enhancement does."""
    return [(class_names[row[0]] if row[1] > video_score else video_label, *row[1:]) for row in rows]


def test_no_kind_of_segment_is_favoured_among_equal_scores() -> None:
    """Over many classes the later, earlier, longer and shorter of two rows go first half of the time each."""
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 100, (40_000, 4))
    rows = rows[(rows[:, 0] < rows[:, 1]) & (rows[:, 2] < rows[:, 3])]
    labels = rng.integers(0, 200, len(rows)).tolist()
    first = np.array(
        [
            oracle.release_order(a, b, label) < oracle.release_order(c, d, label)
            for (a, b, c, d), label in zip(rows.tolist(), labels, strict=True)
        ]
    )
    lengths = rows[:, 1] - rows[:, 0], rows[:, 3] - rows[:, 2]
    for one, other in ((rows[:, 0], rows[:, 2]), (rows[:, 1], rows[:, 3]), lengths):
        differ = one != other
        assert (first == (one > other))[differ].mean() == pytest.approx(0.5, abs=0.02)  # four standard deviations


@pytest.mark.parametrize(("seed", "K", "T"), [(0, 1, 1), (1, 4, 7), (2, 5, 20), (3, 20, 60), (4, 3, 130), (5, 30, 100)])
@pytest.mark.parametrize("smooth", [True, False])
def test_release_policy_agrees_with_the_oracle(seed: int, K: int, T: int, smooth: bool) -> None:
    class_logits, masks = made(seed, K, T, smooth=smooth)
    ours = release_proposals(class_logits, masks)
    np.testing.assert_allclose(np.array(ours), np.array(oracle.release_proposals(class_logits, masks)), atol=1e-6)
    found = decode_arrays(class_logits, masks, config=DecodeConfig(policy="release"))
    expected = oracle.decode_release(class_logits, masks)
    assert found.labels.tolist() == [label for label, *_ in expected]
    np.testing.assert_allclose(found.scores, [score for _, score, _, _ in expected], atol=1e-6)
    np.testing.assert_allclose(found.segments / T, np.array([d[2:] for d in expected]).reshape(-1, 2), atol=1e-12)


def test_paper_thresholds_mean_greater_than() -> None:
    """A snippet has a class, and is part of a mask, only above the thresholds, section 3.3."""
    class_logits = np.zeros((2, 3), dtype=np.float32)  # one class and background: probability 0.5 without rounding
    masks = np.full((3, 3), 0.25, dtype=np.float32)

    def found(class_threshold: float, mask_threshold: float) -> int:
        config = DecodeConfig(class_threshold=class_threshold, mask_thresholds=(mask_threshold,))
        return len(decode_arrays(class_logits, masks, config=config).labels)

    assert found(0.5, 0.2) == 0
    assert found(0.49, 0.25) == 0
    assert found(0.49, 0.2) == 1


def test_release_keeps_a_single_proposal() -> None:
    """The script's soft-NMS never picks the last candidate, but a single candidate skips soft-NMS."""
    class_logits, masks = np.zeros((2, 2), dtype=np.float32), np.full((2, 2), 0.9, dtype=np.float32)
    assert len(release_proposals(class_logits, masks)) == 1
    found = decode_arrays(class_logits, masks, config=DecodeConfig(policy="release"))
    assert found.segments.tolist() == [[0, 1]]
    assert found.scores == pytest.approx([0.5 * 0.9 * 0.5 * 0.5], abs=1e-6)


@pytest.mark.parametrize("policy", ["paper", "release"])
def test_score_enhancement_relabels_what_scores_no_more_than_the_video(policy: Any) -> None:
    class_logits, masks = made(6, 5, 40)
    arguments: dict[str, Any] = {"class_names": names(5), "duration_s": 40.0, "policy": policy}
    plain = decode(class_logits, masks, **arguments)
    limit = plain[1].score
    enhanced = decode(class_logits, masks, video_label="something else", video_score=limit, **arguments)
    assert [d[1:] for d in enhanced] == [d[1:] for d in plain]
    assert [d.label for d in enhanced] == [d.label if d.score > limit else "something else" for d in plain]
    assert {"something else"} < {d.label for d in enhanced}


def test_policy_comes_from_the_argument_before_the_config() -> None:
    class_logits, masks = made(7, 5, 40)
    arguments: dict[str, Any] = {"class_names": names(5), "duration_s": 40.0}
    paper = decode(class_logits, masks, **arguments)
    release = decode(class_logits, masks, policy="release", **arguments)
    assert paper != release
    assert decode(class_logits, masks, config=DecodeConfig(policy="release"), **arguments) == release
    assert decode(class_logits, masks, policy="paper", config=DecodeConfig(policy="release"), **arguments) == paper


def test_the_release_policy_has_no_settings() -> None:
    class_logits, masks = made(7, 5, 40)
    with pytest.raises(ValueError, match=r"release policy has no setting top_snippets, sigma"):
        decode_arrays(class_logits, masks, config=DecodeConfig(policy="release", top_snippets=3, sigma=0.1))


def test_float64_half_and_views_mean_the_same() -> None:
    class_logits, masks = made(8, 4, 30)
    class_logits, masks = class_logits.astype(np.float16), masks.astype(np.float16)
    arguments: dict[str, Any] = {"class_names": names(4), "duration_s": 3.0}
    expected = decode(class_logits.astype(np.float32), masks.astype(np.float32), **arguments)
    assert decode(class_logits, masks, **arguments) == expected
    assert decode(class_logits.astype(np.float64), np.asfortranarray(masks), **arguments) == expected
    assert decode(class_logits.tolist(), masks.tolist(), **arguments) == expected


def test_eight_threads_get_what_one_gets() -> None:
    videos = [made(seed, 6, 50) for seed in range(8)]
    arguments: dict[str, Any] = {"class_names": names(6), "duration_s": 50.0}
    for policy in ("paper", "release"):
        alone = [decode(*video, policy=policy, **arguments) for video in videos]  # type: ignore[arg-type]
        with ThreadPoolExecutor(8) as pool:
            together = pool.map(lambda video, p=policy: decode(*video, policy=p, **arguments), videos * 4)
        assert list(together) == alone * 4


def broken(array: np.ndarray, at: tuple[int, int], value: float) -> np.ndarray:
    array = array.copy()
    array[at] = value
    return array


LOGITS, MASKS = made(9, 3, 10)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"class_logits": LOGITS[0]}, r"class_logits must have shape \(K \+ 1, T\)"),
        ({"class_logits": LOGITS[:, :0], "masks": MASKS[:0, :0]}, r"got \(4, 0\)"),
        ({"class_logits": LOGITS[:1], "class_names": []}, "K >= 1"),
        ({"masks": MASKS[:, :9]}, r"masks must have shape \(T, T\) with the T = 10"),
        ({"class_logits": broken(LOGITS, (2, 4), np.nan)}, "class_logits row 2, snippet 4 is nan"),
        ({"class_logits": broken(LOGITS, (3, 0), -np.inf)}, "class_logits row 3, snippet 0 is -inf"),
        ({"masks": broken(MASKS, (7, 1), np.nan)}, "masks row 7, snippet 1 is nan"),
        ({"masks": broken(MASKS, (7, 1), 1.5)}, "masks row 7, snippet 1 is 1.5"),
        ({"masks": broken(MASKS, (0, 9), -0.25)}, "masks row 0, snippet 9 is -0.25"),
        ({"class_logits": LOGITS.astype(int)}, "class_logits must be of a floating type; got int64"),
        ({"masks": MASKS > 0.5}, "masks must be of a floating type; got bool"),
        ({"class_names": ["a", "b"]}, "class_names must hold K = 3 names"),
        ({"class_names": ["a", "b", "a"]}, "class_names row 2 is 'a' again"),
        ({"class_names": "abc"}, "class_names must be a sequence of strings"),
        ({"class_names": ["a", "b", 3]}, "class_names must be a sequence of strings"),
        ({"duration_s": 0.0}, "duration_s"),
        ({"duration_s": float("nan")}, "duration_s"),
        ({"duration_s": float("inf")}, "duration_s"),
        ({"policy": "papers"}, "policy must be 'paper' or 'release'"),
        ({"video_label": "a"}, "video_label and video_score go together"),
        ({"video_score": 0.5}, "video_label and video_score go together"),
        ({"video_label": "a", "video_score": float("nan")}, "video_score must be finite"),
    ],
)
@pytest.mark.parametrize("policy", ["paper", "release"])
def test_bad_arguments_are_named(change: dict[str, Any], message: str, policy: str) -> None:
    arguments: dict[str, Any] = {
        "class_logits": LOGITS, "masks": MASKS, "class_names": names(3), "duration_s": 5.0, "policy": policy, **change
    }  # fmt: skip
    class_logits, masks = arguments.pop("class_logits"), arguments.pop("masks")
    with pytest.raises(ValueError, match=message):
        decode(class_logits, masks, **arguments)


def test_masks_may_end_a_rounding_above_one() -> None:
    """Vectorised sigmoids give such values; larger ones are not probabilities."""
    logits = np.array([[9, 9], [0, 0]], np.float32)
    above = np.nextafter(np.float32(1), np.float32(2))
    (found,) = decode(logits, np.full((2, 2), above), class_names=["run"], duration_s=4.0)
    assert (found.start_s, found.end_s) == (0.0, 4.0)
    with pytest.raises(ValueError, match=r"masks row 0, snippet 0 is 1\.00001"):
        decode(logits, np.full((2, 2), 1.00001, np.float32), class_names=["run"], duration_s=4.0)
