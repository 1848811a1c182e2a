"""The runs decoder: the oracle, ties, and what is refused."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import runs_oracle

from stale_edge.config import RunsConfig
from stale_edge.decoding import decode_runs, decode_runs_arrays, runs_candidates
from stale_edge.errors import ConfigError

FLOAT32 = 2e-6
"""The core's softmax is of float32 numbers, the oracle's of float64."""


def made(seed: int, n_classes: int = 4, T: int = 60, *, attention: bool = True) -> tuple[np.ndarray, np.ndarray | None]:
    """Logits that change slowly, so that runs are longer than a snippet."""
    rng = np.random.default_rng(seed)
    logits = np.cumsum(rng.normal(0, 1, (n_classes + 1, T)), axis=1).astype(np.float32)
    weights = 1 / (1 + np.exp(-np.cumsum(rng.normal(0, 1, T))))
    return logits, weights.astype(np.float32) if attention else None


CONFIGS = [
    RunsConfig(),
    RunsConfig(class_threshold=0.0, run_score="contrast", video_weight=0.2, smoothing=0.1, sigma=0.3),
    RunsConfig(class_threshold=0.0, run_score="mean-contrast", length_power=0.5, surroundings=0.4, min_score=1e-9),
    RunsConfig(threshold_scale="none", thresholds=(0.5, 0.2), min_snippets=3, soft_nms="hard", tiou_threshold=0.4),
    RunsConfig(class_threshold=0.99, top_share=1.0, soft_nms="linear", max_detections=5),
    RunsConfig(class_scores="sigmoid", class_threshold=0.0, run_score="mean-contrast", min_score=1e-9),
    RunsConfig(thresholds=(0.0,), class_threshold=0.05, surroundings=0.0, run_score="contrast", min_score=0.0),
]


@pytest.mark.parametrize("config", CONFIGS, ids=range(len(CONFIGS)))
@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_the_oracle(config: RunsConfig, seed: int) -> None:
    logits, attention = made(seed, n_classes=1 + seed, T=17 + 20 * seed, attention=seed % 2 == 1)
    rows = runs_oracle.candidates(logits, attention, config)
    assert len(rows) > 0
    assert_rows(runs_candidates(logits, attention, config=config), rows)
    assert_rows(decode_runs_arrays(logits, attention, config=config), runs_oracle.decoded(logits, attention, config))


def assert_rows(found: Any, rows: list[tuple[int, float, int, int]]) -> None:
    assert found.labels.tolist() == [row[0] for row in rows]
    np.testing.assert_array_equal(found.segments, np.array([row[2:] for row in rows], dtype=float).reshape(-1, 2))
    np.testing.assert_allclose(found.scores, [row[1] for row in rows], atol=FLOAT32)


def peaked(*runs: tuple[int, int, float], T: int = 40) -> np.ndarray:
    """Logits (2, T) of one class and background, with this probability of the class in each run and 0.01 elsewhere."""
    probability = np.full(T, 0.01)
    for start, end, value in runs:
        probability[start:end] = value
    return np.log(np.stack([probability, 1 - probability])).astype(np.float32)


def test_of_equal_maxima_the_longer_run_comes_first_then_the_earlier() -> None:
    logits = peaked((5, 15, 0.4), (8, 10, 0.8), (12, 14, 0.8), (30, 32, 0.8))
    found = runs_candidates(logits, None, config=RunsConfig(thresholds=(0.2, 0.6)))
    assert found.segments.tolist() == [[5, 15], [8, 10], [12, 14], [30, 32]]
    assert found.scores == pytest.approx([0.8] * 4)
    kept = decode_runs_arrays(
        logits, None, config=RunsConfig(thresholds=(0.2, 0.6), soft_nms="hard", tiou_threshold=0.1)
    )
    assert kept.segments.tolist() == [[5, 15], [30, 32]]


def test_a_video_without_a_likely_class_keeps_its_best() -> None:
    logits = np.zeros((4, 10), dtype=np.float32)
    logits[1, 2:4] = 0.1
    found = runs_candidates(logits, None, config=RunsConfig(class_threshold=0.9))
    assert set(found.labels.tolist()) == {1}
    assert found.segments.tolist() == [[2, 4]]
    assert len(runs_candidates(np.zeros((4, 10), dtype=np.float32), None).labels) == 0  # nothing varies


def test_attention_suppresses_snippets_and_classes() -> None:
    logits = np.full((3, 20), -8.0, dtype=np.float32)
    logits[0, 2:6] = 8
    logits[1, 10:16] = 8
    attention = np.zeros(20, dtype=np.float32)
    attention[10:16] = 0.5
    assert set(runs_candidates(logits, None).labels.tolist()) == {0, 1}
    found = runs_candidates(logits, attention)
    assert found.labels.tolist() == [1]
    assert found.segments.tolist() == [[10, 16]]
    assert found.scores == pytest.approx([0.5], abs=1e-6)


def test_seconds_are_shares_of_the_duration() -> None:
    (found,) = decode_runs(peaked((10, 20, 0.9)), None, class_names=["a"], duration_s=80.0)
    assert found[2:] == (20.0, 40.0)
    assert found.score == pytest.approx(0.9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"class_logits": np.zeros(9)}, r"class_logits must have shape \(K \+ 1, T\)"),
        ({"class_logits": np.full((3, 9), np.nan)}, "class_logits row 0, snippet 0 is nan; logits must be finite"),
        ({"attention": np.zeros(8)}, r"attention must have shape \(T,\) with the T = 9 of class_logits; got \(8,\)"),
        ({"attention": np.full(9, 1.5)}, r"attention row 0 is 1.5; attention must lie in \[0, 1\] \(apply the sigmoid"),
        ({"attention": np.full(9, np.nan)}, "attention row 0 is nan"),
        ({"attention": np.zeros(9, dtype=int)}, "attention must be of a floating type"),
        ({"class_names": ["a"]}, "class_names must hold K = 2 names"),
        ({"class_names": ["a", "a"]}, "class_names row 1 is 'a' again"),
        ({"duration_s": 0.0}, "duration_s must be a finite number of seconds > 0; got 0.0"),
    ],
)
def test_refuses_what_makes_no_sense(change: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {
        "class_logits": np.zeros((3, 9)),
        "attention": np.ones(9),
        "class_names": ["a", "b"],
        "duration_s": 9.0,
    }
    assert decode_runs(**arguments) == []
    with pytest.raises(ValueError, match=message) as refusal:
        decode_runs(**{**arguments, **change})
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("class_threshold", 1.0),
        ("top_share", 0.0),
        ("thresholds", ()),
        ("thresholds", (0.1, 1.0)),
        ("smoothing", -0.1),
        ("surroundings", 1.1),
        ("video_weight", 2.0),
        ("length_power", -1.0),
        ("min_snippets", 0),
        ("sigma", 0.0),
        ("tiou_threshold", 1.5),
        ("min_score", 1.0),
        ("max_detections", 0),
    ],
)
def test_settings_have_a_range(setting: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"decode\.{setting} must be "):
        dataclasses.replace(RunsConfig(), **{setting: value})
