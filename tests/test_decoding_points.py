"""The points decoder: the public program's golden cases, the oracle, time grids, score fusion, and what is refused."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import points_oracle
import pytest

from stale_edge.config import FrameGrid, PointsConfig, RelativeGrid
from stale_edge.decoding import (
    decode_points,
    fused_with_video_scores,
    grid_seconds,
    points_candidates,
    suppressed_points,
)
from stale_edge.errors import ConfigError
from stale_edge.segments import Detection

FLOAT32 = 5e-6
"""The public program computes in float32, on a grid of up to 64 points and in videos of up to 78 seconds."""
VARIANTS = ("thumos", "class_agnostic_voting", "hard", "none", "few_candidates", "nothing")


def config_of(public: dict[str, Any]) -> PointsConfig:
    """The public program's `test_cfg` in our words."""
    return PointsConfig(
        pre_nms_threshold=public["pre_nms_thresh"],
        pre_nms_top_k=public["pre_nms_topk"],
        duration_threshold=public["duration_thresh"],
        multiclass=public["multiclass_nms"],
        soft_nms="gaussian" if public["nms_method"] == "soft" else public["nms_method"],
        sigma=public["nms_sigma"],
        tiou_threshold=public["iou_threshold"],
        min_score=public["min_score"],
        voting_threshold=public["voting_thresh"],
        max_detections=public["max_seg_num"],
    )


def joined(arrays: Any, case: str) -> tuple[dict[str, np.ndarray], list[int]]:
    parts = {
        ours: [arrays[f"{case}/{theirs}{level}"] for level in range(4)]
        for ours, theirs in (("class_logits", "logits"), ("offsets", "offsets"), ("valid", "mask"))
    }
    return {name: np.concatenate(levels) for name, levels in parts.items()}, [len(x) for x in parts["valid"]]


@pytest.mark.parametrize("variant", VARIANTS)
def test_golden_variants_of_the_public_program(golden: Path, variant: str) -> None:
    public = json.loads((golden / "actionformer_decoder.json").read_text())[variant]
    config = config_of(public)
    with np.load(golden / "actionformer_decoder.npz") as arrays:
        outputs, level_lengths = joined(arrays, variant)
        expected = {name: arrays[f"{variant}/{name}"] for name in arrays_of(arrays, variant)}
    found = points_candidates(**outputs, level_lengths=level_lengths, config=config)
    assert found.labels.tolist() == expected["candidates/labels"].tolist()
    np.testing.assert_allclose(found.scores, expected["candidates/scores"], atol=FLOAT32)
    np.testing.assert_allclose(found.segments, expected["candidates/segments"], atol=FLOAT32)

    fps, stride, num_frames, duration_s = expected["fps_featstride_numframes_duration"].tolist()
    names = [f"class {k}" for k in range(public["num_classes"])]
    detections = decode_points(
        **outputs,
        level_lengths=level_lengths,
        grid=FrameGrid(fps, stride, num_frames, duration_s),
        class_names=names,
        config=config,
    )
    labels, scores, segments = (expected[f"detections/{name}"] for name in ("labels", "scores", "segments"))
    if config.soft_nms == "none":  # the public program leaves these by level
        order = np.lexsort((labels, -scores))
        labels, scores, segments = labels[order], scores[order], segments[order]
    assert [names.index(d.label) for d in detections] == labels.tolist()
    np.testing.assert_allclose([d.score for d in detections], scores, atol=FLOAT32)
    np.testing.assert_allclose(np.array([d[2:] for d in detections]).reshape(-1, 2), segments, atol=FLOAT32)
    assert (len(detections) == 0) == (variant == "nothing")


def arrays_of(arrays: Any, case: str) -> list[str]:
    return [name.removeprefix(f"{case}/") for name in arrays.files if name.startswith(f"{case}/")]


@pytest.mark.parametrize("case", ["T50", "T64"])
def test_golden_class_agnostic_detections_and_their_fusion_with_video_scores(golden: Path, case: str) -> None:
    public = json.loads((golden / "actionformer_small_activitynet.json").read_text())
    with np.load(golden / "actionformer_small_activitynet.npz") as arrays:
        outputs, level_lengths = joined(arrays, case)
        expected = {name: arrays[f"{case}/{name}"] for name in arrays_of(arrays, case)}
    stride, num_frames, fps, duration_s = expected["featstride_numframes_fps_duration"].tolist()
    detections = decode_points(
        **outputs,
        level_lengths=level_lengths,
        grid=FrameGrid(fps, stride, num_frames, duration_s),
        class_names=["action"],
        config=config_of(public["test_cfg"]),
    )
    np.testing.assert_allclose([d.score for d in detections], expected["detections/scores"], atol=FLOAT32)
    np.testing.assert_allclose([d[2:] for d in detections], expected["detections/segments"], atol=FLOAT32)

    names = [f"class {k}" for k in range(5)]
    fused = fused_with_video_scores(detections, expected["external_scores"], class_names=names)
    # The public program does not sort again: one class after the other.
    order = np.argsort(-expected["fused/scores"], kind="stable")
    assert [names.index(d.label) for d in fused] == expected["fused/labels"][order].tolist()
    np.testing.assert_allclose([d.score for d in fused], expected["fused/scores"][order], atol=FLOAT32)
    np.testing.assert_allclose([d[2:] for d in fused], expected["fused/segments"][order], atol=FLOAT32)


def made(seed: int, n_classes: int = 3, length: int = 24, n_levels: int = 3) -> tuple[dict[str, np.ndarray], list[int]]:
    rng = np.random.default_rng(seed)
    level_lengths = [-(-length // 2**level) for level in range(n_levels)]
    P = sum(level_lengths)
    valid = np.concatenate([np.arange(n) < n - n // 5 for n in level_lengths])
    logits = rng.normal(-1, 2, (P, n_classes)).astype(np.float32)
    offsets = np.abs(rng.normal(0, 2, (P, 2))).astype(np.float32)
    return {"class_logits": logits, "offsets": offsets, "valid": valid}, level_lengths


CONFIGS = [
    PointsConfig(),
    PointsConfig(multiclass=False, voting_threshold=0.5, sigma=0.75, duration_threshold=0.001),
    PointsConfig(multiclass=False, voting_threshold=0.0),
    PointsConfig(soft_nms="hard", tiou_threshold=0.3, min_score=0.2),
    PointsConfig(soft_nms="hard", multiclass=False, tiou_threshold=0.0, voting_threshold=0.9),
    PointsConfig(soft_nms="hard", tiou_threshold=0.2, min_score=0.0),
    PointsConfig(soft_nms="none", pre_nms_threshold=0.5),
    PointsConfig(pre_nms_top_k=5, max_detections=4, duration_threshold=2.0),
    PointsConfig(min_score=0.9),
    PointsConfig(min_score=0.0, pre_nms_threshold=0.0, max_detections=1000),
]


@pytest.mark.parametrize("config", CONFIGS, ids=range(len(CONFIGS)))
@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_the_oracle(config: PointsConfig, seed: int) -> None:
    outputs, level_lengths = made(seed, n_classes=1 + seed, length=16 + 13 * seed)
    rows = points_oracle.candidates(*outputs.values(), level_lengths, config)
    found = points_candidates(**outputs, level_lengths=level_lengths, config=config)
    assert_rows(found, rows)
    assert_rows(suppressed_points(found, config=config), points_oracle.suppressed(rows, config))
    assert len(rows) > 0


def assert_rows(found: Any, rows: list[tuple[int, float, float, float]]) -> None:
    assert found.labels.tolist() == [row[0] for row in rows]
    np.testing.assert_allclose(found.scores, [row[1] for row in rows], atol=1e-12)
    np.testing.assert_allclose(found.segments, np.array([row[2:] for row in rows]).reshape(-1, 2), atol=1e-9)


def test_the_best_of_a_gaussian_suppression_stays_whatever_it_scores() -> None:
    outputs, level_lengths = made(1)
    candidates = points_candidates(**outputs, level_lengths=level_lengths)
    low = candidates._replace(scores=candidates.scores / 100)
    kept = suppressed_points(low, config=PointsConfig(min_score=0.5))
    assert sorted(kept.labels.tolist()) == [0, 1, 2]
    assert kept.scores.max() == low.scores.max()


def test_of_equal_scores_the_lower_point_then_the_lower_class_comes_first() -> None:
    logits = np.full((4, 2), 30.0, dtype=np.float32)  # the sigmoid of the first level's is 1 in float64 too
    logits[2:] = 40.0
    found = points_candidates(logits, np.ones((4, 2)), np.ones(4), level_lengths=[4])
    assert found.segments[:, 0].tolist() == [1, 1, 2, 2, -1, -1, 0, 0]
    assert found.labels.tolist() == [0, 1] * 4


def test_points_that_are_not_valid_are_not_read() -> None:
    outputs, level_lengths = made(2)
    expected = points_candidates(**outputs, level_lengths=level_lengths)
    for name in ("class_logits", "offsets"):
        outputs[name][~outputs["valid"]] = np.nan
    outputs["valid"] = outputs["valid"].astype(np.float32)
    again = points_candidates(**outputs, level_lengths=level_lengths)
    for ours, theirs in zip(again, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_time_grids() -> None:
    segments = np.array([[-1.0, 0.0], [2.0, 7.0], [10.0, 100.0]])
    frames = grid_seconds(segments, FrameGrid(fps=10.0, stride=4.0, num_frames=16.0, duration_s=5.0), n_points=1)
    np.testing.assert_allclose(frames, [[0.4, 0.8], [1.6, 3.6], [4.8, 5.0]])
    relative = grid_seconds(segments, RelativeGrid(duration_s=40.0), n_points=20)
    np.testing.assert_allclose(relative, [[0.0, 0.0], [4.0, 14.0], [20.0, 40.0]])
    assert not np.signbit(relative).any()


def test_a_relative_grid_spans_the_valid_points_of_the_first_level() -> None:
    logits = np.full((12, 1), -30.0, dtype=np.float32)
    logits[3] = 5.0
    valid = np.concatenate([np.arange(8) < 5, np.arange(4) < 3])
    arguments: dict[str, Any] = {"level_lengths": [8, 4], "class_names": ["a"], "grid": RelativeGrid(10.0)}
    (found,) = decode_points(logits, np.ones((12, 2)), valid, **arguments)
    assert found[2:] == pytest.approx((4.0, 8.0))
    assert decode_points(logits, np.ones((12, 2)), np.zeros(12), **arguments) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"class_logits": np.zeros((42, 3, 1))}, r"class_logits must have shape \(P, K\); got \(42, 3, 1\)"),
        ({"class_logits": np.zeros((42, 3), dtype=int)}, "class_logits must be of a floating type"),
        ({"class_logits": np.full((42, 3), np.nan)}, "class_logits row 0, class 0 is nan; logits must be finite"),
        (
            {"offsets": np.zeros((41, 2))},
            r"offsets must have shape \(P, 2\) with the P = 42 of class_logits; got \(41, 2",
        ),
        ({"offsets": np.full((42, 2), -1.0)}, "offsets row 0 holds -1; offsets must be finite and >= 0"),
        ({"offsets": np.full((42, 2), np.inf)}, "offsets row 0 holds inf"),
        ({"valid": np.ones((42, 1))}, r"valid must have shape \(P,\) with the P = 42 of class_logits; got \(42, 1\)"),
        ({"valid": np.full(42, 0.5)}, "valid must hold booleans, or numbers 0 and 1; got 0.5"),
        ({"valid": ["yes"] * 42}, "valid must hold booleans, or numbers 0 and 1; got <U3"),
        ({"level_lengths": [24, 12]}, "level_lengths add up to 36; class_logits has 42 rows"),
        ({"level_lengths": [24, 12, 7]}, "level_lengths row 2 is 7"),
        ({"level_lengths": [24, 18, 0]}, "level_lengths row 2 is 0; each level has a point at least"),
        ({"level_lengths": []}, "level_lengths must hold 1 to 32 numbers"),
        ({"class_names": ["a", "b"]}, "class_names must hold K = 3 names, one for each column of class_logits; got 2"),
        ({"class_names": ["a", "b", "a"]}, "class_names row 2 is 'a' again"),
    ],
)
def test_refuses_what_makes_no_sense(change: dict[str, Any], message: str) -> None:
    outputs, level_lengths = made(3)
    arguments: dict[str, Any] = {"level_lengths": level_lengths, "grid": RelativeGrid(9.0), "class_names": list("abc")}
    assert decode_points(**outputs, **arguments)
    with pytest.raises(ValueError, match=message) as refusal:
        decode_points(**{**outputs, **arguments, **change})
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("pre_nms_threshold", 1.0),
        ("pre_nms_top_k", 0),
        ("duration_threshold", -1.0),
        ("duration_threshold", float("inf")),
        ("sigma", 0.0),
        ("tiou_threshold", 1.5),
        ("min_score", -0.1),
        ("voting_threshold", 2.0),
        ("max_detections", 0),
    ],
)
def test_settings_have_a_range(setting: str, value: float) -> None:
    with pytest.raises(ConfigError, match=rf"decode\.{setting} must be .*; got {value}"):
        dataclasses.replace(PointsConfig(), **{setting: value})


@pytest.mark.parametrize("name", ["fps", "stride", "num_frames", "duration_s"])
@pytest.mark.parametrize("value", [None, float("nan"), -1.0, float("inf")])
def test_a_frame_grid_needs_all_its_numbers(name: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"grid\.{name} must be a finite number"):
        FrameGrid(**{"fps": 25.0, "stride": 4.0, "num_frames": 16.0, "duration_s": 9.0, name: value})


@pytest.mark.parametrize(
    ("scores", "names", "message"),
    [
        ([0.1, float("nan")], ["a", "b"], "video_scores row 1 is nan; scores must be finite and >= 0"),
        ([-0.1, 0.5], ["a", "b"], "video_scores row 0 is -0.1"),
        ([0.1], ["a", "b"], r"video_scores must have shape \(N,\), one score for each of the 2 class_names"),
        ([], [], "N >= 1"),
        ([0.1, 0.2], ["a", "a"], "class_names row 1 is 'a' again"),
    ],
)
def test_fusion_refuses_scores_that_do_not_fit(scores: list[float], names: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fused_with_video_scores([Detection("x", 0.5, 0.0, 1.0)], scores, class_names=names)


def test_fusion_takes_the_best_classes_of_the_best_detections() -> None:
    detections = [Detection("x", 0.25, 0.0, 1.0), Detection("x", 0.64, 2.0, 3.0), Detection("x", 0.1, 4.0, 5.0)]
    fused = fused_with_video_scores(
        detections, [0.0, 1.0, 0.36, 4.0], class_names=list("abcd"), top_classes=2, max_detections=2
    )
    assert [(d.label, d.start_s) for d in fused] == [("d", 2.0), ("d", 0.0), ("b", 2.0), ("b", 0.0)]
    assert [d.score for d in fused] == pytest.approx([1.6, 1.0, 0.8, 0.5])
