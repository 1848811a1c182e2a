"""Error analysis: hand-made cases whose answer can be read off, and properties of any case."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from stale_edge.cli.app import app
from stale_edge.evaluation import mean_average_precision
from stale_edge.evaluation.diagnosis import KINDS, Diagnosis, diagnose

Row = tuple[str, float, float]


def _truth(videos: dict[str, list[Row]], *, duration: float | None = 100.0) -> dict[str, Any]:
    timed = {} if duration is None else {"duration": duration}
    return {
        "database": {
            video: {
                "subset": "validation",
                **timed,
                "annotations": [{"label": label, "segment": [start, end]} for label, start, end in rows],
            }
            for video, rows in videos.items()
        }
    }


def _found(videos: dict[str, list[tuple[str, float, float, float]]]) -> dict[str, Any]:
    return {
        "results": {
            video: [{"label": label, "score": score, "segment": [start, end]} for label, start, end, score in rows]
            for video, rows in videos.items()
        }
    }


def _kinds(diagnosis: Diagnosis) -> dict[str, float]:
    """Give the number of detections of each kind, those of the first step of the profile."""
    return {kind: round(share / 100 * diagnosis.n_detections, 6) for kind, share in diagnosis.profile[0].items()}


TWO = {"v": [("run", 0.0, 10.0), ("jump", 50.0, 60.0)]}
# One detection beside one perfect "run": what it is. tIoU threshold 0.5, a class examines as many as it has actions
# in the first step, so the second detection of a class is in the second step; here each is alone in its class.
CASES = [
    ("run", 0.0, 10.0, "true positive"),
    ("run", 0.0, 6.0, "true positive"),  # tIoU 0.6
    ("run", 0.0, 4.0, "localization"),  # tIoU 0.4
    ("run", 0.0, 0.9, "background"),  # tIoU 0.09, below 0.1
    ("run", 50.0, 60.0, "wrong label"),  # the other action, all of it
    ("run", 50.0, 54.0, "confusion"),  # tIoU 0.4 with the other action
    ("run", 80.0, 90.0, "background"),
]


@pytest.mark.parametrize(("label", "start", "end", "kind"), CASES)
def test_a_detection_is_of_one_kind(label: str, start: float, end: float, kind: str) -> None:
    found = diagnose(_truth(TWO), _found({"v": [(label, start, end, 0.5)]}), tiou_thresholds=[0.5])
    assert found.n_detections == 1
    assert _kinds(found) == {name: float(name == kind) for name in KINDS}


def test_a_second_detection_of_a_taken_action_is_double_and_the_better_score_takes_it() -> None:
    rows = [("run", 0.0, 10.0, 0.3), ("run", 0.0, 9.0, 0.8)]
    found = diagnose(_truth(TWO), _found({"v": rows}), tiou_thresholds=[0.5])
    assert found.profile[0]["true positive"] == 100.0  # the better one, though it overlaps less
    assert found.profile[1]["double detection"] == 100.0


def test_of_two_actions_the_nearer_one_counts() -> None:
    truth = _truth({"v": [("run", 0.0, 10.0), ("jump", 4.0, 14.0)]})
    # "run" [3, 13): tIoU 7 / 13 with its own action (0.54), 9 / 11 with the other (0.82).
    right = diagnose(truth, _found({"v": [("run", 3.0, 13.0, 0.5)]}), tiou_thresholds=[0.5])
    assert _kinds(right)["true positive"] == 1  # taking an action comes first
    strict = diagnose(truth, _found({"v": [("run", 3.0, 13.0, 0.5)]}), tiou_thresholds=[0.75])
    assert _kinds(strict)["wrong label"] == 1


def test_a_threshold_changes_the_kind() -> None:
    one = _found({"v": [("run", 0.0, 6.0, 0.5)]})
    both = diagnose(_truth(TWO), one, tiou_thresholds=[0.5, 0.75])
    assert both.profile[0] == {**dict.fromkeys(KINDS, 0.0), "true positive": 50.0, "localization": 50.0}
    assert both.missed == 75.0  # "jump" at both thresholds, "run" at one


def test_leaving_out_an_error_gains_what_it_cost() -> None:
    # Best is a background detection, then a right one: AP 0.5 becomes 1 without it; the other class has 0.
    rows = [("run", 80.0, 90.0, 0.9), ("run", 0.0, 10.0, 0.5)]
    found = diagnose(_truth(TWO), _found({"v": rows}), tiou_thresholds=[0.5])
    assert found.average_mAP == pytest.approx(25.0)
    assert found.gain == {**dict.fromkeys(KINDS[1:], 0.0), "background": pytest.approx(25.0)}


def test_groups_by_length_coverage_and_number_of_instances() -> None:
    actions = [("run", 0.0, 10.0), ("run", 20.0, 30.0), ("jump", 100.0, 190.0)]
    rows = [("run", 0.0, 10.0, 0.9), ("jump", 100.0, 190.0, 0.8)]
    found = diagnose(_truth({"v": actions}, duration=200.0), _found({"v": rows}), tiou_thresholds=[0.5])
    groups = {(group.characteristic, group.name): group for group in found.groups if group.n_actions}
    assert {key: group.n_actions for key, group in groups.items()} == {
        ("coverage", "XS"): 2, ("coverage", "M"): 1,  # 0.05 and 0.45
        ("length", "XS"): 2, ("length", "M"): 1,  # 10 s and 90 s
        ("instances", "XS"): 1, ("instances", "S"): 2,  # one jump, two runs
    }  # fmt: skip
    assert groups["length", "XS"].missed == 50.0
    assert groups["length", "M"].missed == 0.0
    assert groups["length", "M"].average_mAP == pytest.approx(100.0)
    assert groups["length", "XS"].average_mAP == pytest.approx(50.0)
    empty = [group for group in found.groups if not group.n_actions]
    assert empty
    assert all(group.average_mAP is None and group.missed is None for group in empty)


def test_without_durations_coverage_is_left_out() -> None:
    found = diagnose(_truth(TWO, duration=None), _found({"v": [("run", 0.0, 10.0, 0.5)]}))
    assert found.notes == ("coverage is left out: not every video has a duration",)
    assert {group.characteristic for group in found.groups} == {"length", "instances"}


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="one of activitynet, thumos; got 'mine'"):
        diagnose(_truth(TWO), _found({}), bins="mine")
    with pytest.raises(ValueError, match=r"one or more numbers in \(0\.1, 1\]"):
        diagnose(_truth(TWO), _found({}), tiou_thresholds=[0.1])


_CASE = st.integers(0, 2**31)


def _random(seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
    rng = np.random.default_rng(seed)
    labels = ("run", "jump", "dive")
    truth: dict[str, list[Row]] = {}
    found: dict[str, list[tuple[str, float, float, float]]] = {}
    for video in ("a", "b", "c"):
        starts = rng.uniform(0, 80, rng.integers(1, 5))
        truth[video] = [(labels[rng.integers(3)], s, s + rng.uniform(1, 60)) for s in starts.tolist()]
        n = int(rng.integers(0, 25))
        found[video] = []
        for i in range(n):
            label, start, end = truth[video][int(rng.integers(len(truth[video])))]
            shift = rng.normal(0, 4, 2)
            low, high = sorted((start + shift[0], end + shift[1]))
            if i % 3 == 0:
                label = labels[rng.integers(3)]
            found[video].append((label, low, high, float(rng.random())))
    return _truth(truth), _found(found)


@given(_CASE)
@settings(max_examples=40, deadline=None)
def test_properties_of_any_case(seed: int) -> None:
    truth, found = _random(seed)
    if not any(found["results"].values()):
        return
    diagnosis = diagnose(truth, found, tiou_thresholds=[0.3, 0.5, 0.7])
    for step in diagnosis.profile:
        assert sum(step.values()) == pytest.approx(100.0)
    assert all(gain >= -1e-9 for gain in diagnosis.gain.values())  # a wrong detection less never costs
    for characteristic in ("coverage", "length", "instances"):
        groups = [group for group in diagnosis.groups if group.characteristic == characteristic]
        assert sum(group.n_actions for group in groups) == diagnosis.n_actions  # each action is in one bin
        missed = sum(group.n_actions * group.missed for group in groups if group.missed is not None)
        assert missed / diagnosis.n_actions == pytest.approx(diagnosis.missed)


@given(_CASE)
@settings(max_examples=20, deadline=None)
def test_with_as_many_actions_in_every_class_normalized_map_is_map(seed: int) -> None:
    truth, found = _random(seed)
    counts: dict[str, int] = {}
    for entry in truth["database"].values():
        kept = []
        for row in entry["annotations"]:
            if counts.get(row["label"], 0) < 1:
                counts[row["label"]] = 1
                kept.append(row)
        entry["annotations"] = kept
    few = {video: rows[:3] for video, rows in found["results"].items()}  # fewer than are examined
    diagnosis = diagnose(truth, {"results": few}, tiou_thresholds=[0.3, 0.5])
    plain = mean_average_precision(truth, {"results": few}, tiou_thresholds=[0.3, 0.5])
    assert diagnosis.average_mAP == pytest.approx(plain.average_mAP)


def test_the_command_writes_a_table_a_figure_and_json(tmp_path: Path) -> None:
    (tmp_path / "truth.json").write_text(json.dumps(_truth(TWO)))
    (tmp_path / "found.json").write_text(json.dumps(_found({"v": [("run", 0.0, 4.0, 0.5), ("jump", 50.0, 60.0, 0.4)]})))
    result = CliRunner().invoke(
        app,
        ["diagnose", "--truth", str(tmp_path / "truth.json"), "--predictions", str(tmp_path / "found.json"),
         "--out", str(tmp_path / "out"), "--tiou", "0.5"],
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "localization" in result.output
    written = json.loads((tmp_path / "out" / "diagnosis.json").read_text())
    assert written["profile"][0]["localization"] == 50.0
    assert (tmp_path / "out" / "diagnosis.png").read_bytes().startswith(b"\x89PNG")
