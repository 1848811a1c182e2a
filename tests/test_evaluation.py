"""Evaluation against ActivityNet's own code, published numbers, and the loop that takes one prediction at a time."""

import csv
import json
from pathlib import Path

import numpy as np
import oracle
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stale_edge.errors import DataError
from stale_edge.evaluation import (
    ACTIVITYNET_THRESHOLDS,
    THUMOS_THRESHOLDS,
    average_precision,
    mean_average_precision,
    parse_thresholds,
    score_files,
)

ROUNDING = 1e-9  # percent; sums of a few thousand float64 in another order


def truth_of(**videos):
    """Ground truth with rows (label, start, end), all in one subset."""
    database = {
        name: {"subset": "validation", "annotations": [{"label": k, "segment": [s, e]} for k, s, e in rows]}
        for name, rows in videos.items()
    }
    return {"database": database}


def predictions_of(**videos):
    """Predictions with rows (label, score, start, end)."""
    return {
        "results": {
            name: [{"label": k, "score": p, "segment": [s, e]} for k, p, s, e in rows] for name, rows in videos.items()
        }
    }


@pytest.fixture(scope="module")
def activitynet_case(golden: Path):
    return json.loads((golden / "detection_map_seed1.json").read_text())


def test_equals_activitynets_own_code(activitynet_case) -> None:
    case = activitynet_case
    result = mean_average_precision(
        case["ground_truth"], case["predictions"], subset=case["subset"], tiou_thresholds=case["tiou_thresholds"]
    )
    assert np.abs(np.array(result.mAP) - 100 * np.array(case["mAP"])).max() <= ROUNDING
    assert abs(result.average_mAP - 100 * case["average_mAP"]) <= ROUNDING


def test_ground_truth_does_not_depend_on_which_videos_have_predictions(activitynet_case) -> None:
    case = activitynet_case
    half = dict(list(case["predictions"]["results"].items())[::2])
    everything = half | {video: half.get(video, []) for video in case["predictions"]["results"]}
    partial = mean_average_precision(case["ground_truth"], {"results": half})
    explicit = mean_average_precision(case["ground_truth"], {"results": everything})
    assert partial == explicit
    assert 0 < partial.average_mAP < 100 * case["average_mAP"]


def test_predictions_outside_the_subset_are_false_positives(activitynet_case) -> None:
    """ActivityNet's code counts them; leaving them out raises mAP by up to four points here."""
    case = activitynet_case
    database = case["ground_truth"]["database"]
    inside = {
        v: r for v, r in case["predictions"]["results"].items() if database.get(v, {}).get("subset") == "validation"
    }
    without = mean_average_precision(case["ground_truth"], {"results": inside})
    assert without.average_mAP > 100 * case["average_mAP"] + 1


def test_mmaction2_published_numbers(shared_data: Path) -> None:
    folder = shared_data / "evaluation" / "mmaction2_eval_localization"
    result = score_files(folder / "gt.json", folder / "result.json")
    published = [0.71428571] * 3 + [0.6875] * 2 + [0.59722222] + [0.52083333] * 3 + [0.5]
    assert np.abs(np.array(result.mAP) / 100 - published).max() <= 1e-8  # printed with eight digits
    assert abs(result.average_mAP / 100 - 0.6177579365) <= 1e-10


def test_activitynets_sample_file_is_perfect(shared_data: Path) -> None:
    truth: dict = {}
    table = shared_data / "activitynet" / "activitynet_v1-3_valid_tsp_groundtruth.csv"
    with table.open(newline="") as file:
        for row in csv.DictReader(file):
            entry = truth.setdefault(row["video-name"], {"subset": "validation", "annotations": []})
            if row["temporal-region-label"] == "Action":
                segment = [float(row["t-start"]), float(row["t-end"])]
                entry["annotations"].append({"segment": segment, "label": row["action-label"]})
    sample = json.loads((shared_data / "evaluation" / "activitynet_sample_detection_prediction.json").read_text())
    result = mean_average_precision({"database": truth}, sample)
    assert result.mAP == pytest.approx([100.0] * 10, abs=ROUNDING)
    assert len(result.per_class) == 200


def test_thumos_ground_truth_against_itself(shared_data: Path) -> None:
    """Segments are strings there, and there are no durations."""
    truth = json.loads((shared_data / "thumos14" / "thumos_gt.json").read_text())
    results = {
        video: [{**row, "score": 0.5} for row in entry["annotations"]]
        for video, entry in truth["database"].items()
        if entry["subset"] == "test"
    }
    result = mean_average_precision(truth, {"results": results}, subset="test", tiou_thresholds=THUMOS_THRESHOLDS)
    assert len(result.per_class) == 20
    assert result.mAP == pytest.approx([100.0] * 5, abs=ROUNDING)


def random_case(seed: int, *, n_videos=20, ties=False):
    rng = np.random.default_rng(seed)
    labels = [f"class {k}" for k in range(4)]

    def segment():
        start, end = np.sort(rng.integers(0, 24, 2) / 2)
        return float(start), float(end)

    truth = {
        f"v{i}": [(labels[rng.integers(3)], *segment()) for _ in range(rng.integers(0, 5))] for i in range(n_videos)
    }
    predictions = {
        f"v{i}": [
            (labels[rng.integers(4)], float(rng.integers(4) / 4 if ties else rng.random()), *segment())
            for _ in range(rng.integers(0, 30))
        ]
        for i in range(2, n_videos + 2)
    }
    return truth_of(**truth), predictions_of(**predictions)


@pytest.mark.parametrize("ties", [False, True], ids=["distinct scores", "tied scores"])
@pytest.mark.parametrize("seed", range(8))
def test_equals_the_loop(seed: int, ties: bool) -> None:
    """Half-second segments make many equal tIoU, tIoU equal to a threshold, and segments of zero length."""
    truth, predictions = random_case(seed, ties=ties)
    thresholds = (0.25, 0.5, 0.75, 1.0)
    by_class = oracle.mean_average_precision(truth, predictions, "validation", thresholds)
    result = mean_average_precision(truth, predictions, tiou_thresholds=thresholds)
    expected = 100 * np.array(list(by_class.values())).T  # (H, K)
    assert result.mAP == pytest.approx(expected.mean(axis=1).tolist(), abs=ROUNDING)
    assert result.per_class == pytest.approx({k: 100 * float(np.mean(ap)) for k, ap in by_class.items()}, abs=ROUNDING)
    assert result.ignored_labels == ("class 3",)
    for label, ap in by_class.items():
        one = average_precision(truth, predictions, label=label, tiou_thresholds=thresholds)
        assert one == pytest.approx(100 * np.array(ap), abs=ROUNDING)


rows = st.lists(
    st.tuples(st.sampled_from("ab"), st.integers(0, 3), st.integers(0, 8), st.integers(0, 8)).map(
        lambda r: (r[0], r[1] / 4, float(min(r[2:])), float(max(r[2:])))
    ),
    max_size=12,
)


@settings(max_examples=150, deadline=None)
@given(actions=rows.filter(bool), detections=rows)
def test_choosing_in_turn_has_one_outcome(actions, detections) -> None:
    """One crowded video: chains of predictions that displace each other, as the loop settles them one by one."""
    truth = truth_of(v=[(k, s, e) for k, _, s, e in actions])
    predictions = predictions_of(v=detections)
    by_class = oracle.mean_average_precision(truth, predictions, "validation", THUMOS_THRESHOLDS)
    result = mean_average_precision(truth, predictions, tiou_thresholds=THUMOS_THRESHOLDS)
    assert result.per_class == pytest.approx({k: 100 * float(np.mean(v)) for k, v in by_class.items()}, abs=ROUNDING)


@pytest.mark.parametrize(
    ("detections", "expected", "reason"),
    [
        ([], 0.0, "nothing found"),
        ([("a", 0.9, 0, 10)], 50.0, "one of two actions found: recall 1/2 at precision 1"),
        ([("a", 0.9, 0, 10), ("a", 0.8, 0, 10)], 50.0, "the second find of the same action is wrong"),
        ([("a", 0.9, 0, 10), ("a", 0.8, 20, 30)], 100.0, "both found"),
        ([("a", 0.9, 40, 50), ("a", 0.8, 0, 10), ("a", 0.7, 20, 30)], 200 / 3, "a wrong one first: precision 2/3"),
        ([("a", 0.9, 0, 10), ("a", 0.8, 40, 50), ("a", 0.7, 20, 30)], 250 / 3, "1/2 at 1, 1/2 at 2/3"),
        ([("a", 0.9, 0, 5)], 50.0, "tIoU equal to the threshold counts"),
        ([("a", 0.9, 0, 4.9)], 0.0, "tIoU below the threshold does not"),
        ([("a", -3.0, 0, 10), ("a", 7.0, 20, 30)], 100.0, "scores need not be probabilities"),
        ([("b", 0.9, 0, 10)], 0.0, "the right segment with an unknown class"),
    ],
)
def test_small_cases(detections, expected: float, reason: str) -> None:
    truth = truth_of(v=[("a", 0, 10), ("a", 20, 30)])
    result = mean_average_precision(truth, predictions_of(v=detections), tiou_thresholds=(0.5,))
    assert result.mAP == pytest.approx([expected]), reason


def test_of_equal_scores_the_later_row_ranks_higher() -> None:
    truth = truth_of(v=[("a", 0, 10)])
    wrong, right = ("a", 0.5, 50, 60), ("a", 0.5, 0, 10)
    assert mean_average_precision(truth, predictions_of(v=[wrong, right])).average_mAP == pytest.approx(100.0)
    assert mean_average_precision(truth, predictions_of(v=[right, wrong])).average_mAP == pytest.approx(50.0)


def test_classes_restrict_both_sides() -> None:
    truth = truth_of(v=[("seen", 0, 10), ("unseen", 20, 30)])
    predictions = predictions_of(v=[("seen", 0.9, 0, 10), ("unseen", 0.8, 50, 60)])
    assert mean_average_precision(truth, predictions).average_mAP == pytest.approx(50.0)
    open_set = mean_average_precision(truth, predictions, classes=["unseen"])
    assert (open_set.average_mAP, open_set.per_class, open_set.ignored_labels) == (0.0, {"unseen": 0.0}, ("seen",))
    assert mean_average_precision(truth, predictions, classes=["seen"]).average_mAP == pytest.approx(100.0)


def test_subset_none_takes_every_video() -> None:
    truth = truth_of(v=[("a", 0, 10)], w=[("a", 0, 10)])
    truth["database"]["w"]["subset"] = "training"
    predictions = predictions_of(v=[("a", 0.9, 0, 10)])
    assert mean_average_precision(truth, predictions).average_mAP == pytest.approx(100.0)
    assert mean_average_precision(truth, predictions, subset=None).average_mAP == pytest.approx(50.0)


@pytest.mark.parametrize(("in_truth", "in_predictions"), [("v_x1", "x1"), ("x1", "v_x1"), ("x1", "x1")])
def test_the_prefix_of_video_names_may_be_missing(in_truth: str, in_predictions: str) -> None:
    truth = truth_of(**{in_truth: [("a", 0, 10)]})
    assert mean_average_precision(truth, predictions_of(**{in_predictions: [("a", 1, 0, 10)]})).average_mAP == 100.0


def test_json_has_exactly_the_four_keys() -> None:
    result = mean_average_precision(truth_of(v=[("a", 0, 10)]), predictions_of(v=[("a", 1, 0, 10)]))
    document = json.loads(json.dumps(result.to_json()))
    assert document == {
        "average_mAP": 100.0,
        "mAP": [100.0] * 10,
        "tiou_thresholds": list(ACTIVITYNET_THRESHOLDS),
        "per_class": {"a": 100.0},
    }


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"label": "a", "score": float("nan"), "segment": [0, 1]}, "the score must be a finite number; got nan"),
        ({"label": "a", "score": "high", "segment": [0, 1]}, "the score must be a finite number; got 'high'"),
        ({"label": "a", "score": None, "segment": [0, 1]}, "the score must be a finite number; got None"),
        ({"label": "a", "segment": [0, 1]}, "the key 'score' is missing"),
        ({"score": 1, "segment": [0, 1]}, "the key 'label' is missing"),
        ({"label": "a", "score": 1}, "the key 'segment' is missing"),
        ({"label": 7, "score": 1, "segment": [0, 1]}, "the label must be a class name; got 7"),
        ({"label": ["a"], "score": 1, "segment": [0, 1]}, "the label must be a class name"),
        ({"label": "a", "score": 1, "segment": [2, 1]}, "not reversed; got [2, 1]"),
        ({"label": "a", "score": 1, "segment": [1]}, "the segment must be [start, end]"),
        ({"label": "a", "score": 1, "segment": "12"}, "the segment must be [start, end]"),
        ({"label": "a", "score": 1, "segment": [0, float("inf")]}, "the segment must be [start, end]"),
        ({"label": "a", "score": 1, "segment": [0, None]}, "the segment must be [start, end]"),
        ({"label": "a", "score": 1, "segment": None}, "the segment must be [start, end]"),
        ("a 1 0 1", "is missing"),
    ],
)
def test_a_broken_row_is_named_with_file_video_and_row(tmp_path: Path, row, message: str) -> None:
    good = {"label": "a", "score": 1, "segment": [0, 1]}
    truth_path, predictions_path = tmp_path / "truth.json", tmp_path / "predictions.json"
    truth_path.write_text(json.dumps(truth_of(x=[("a", 0, 10)])))
    predictions_path.write_text(json.dumps({"results": {"w": [good], "x": [good, row]}}))
    with pytest.raises(DataError) as caught:
        score_files(truth_path, predictions_path)
    assert str(caught.value).startswith(f"{predictions_path}: video 'x', detection 1: ")
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ("{", "not a readable JSON file"),
        ("[]", 'the key "results" must hold'),
        ('{"result": {}}', 'the key "results" must hold'),
        ('{"results": {"x": {"label": "a"}}}', "video 'x': must be a list of detections"),
        ('{"results": {"x": [], "v_x": []}}', "videos 'x' and 'v_x' are both 'x' of the ground truth"),
    ],
)
def test_a_broken_prediction_file_is_named(tmp_path: Path, document: str, message: str) -> None:
    truth_path, predictions_path = tmp_path / "truth.json", tmp_path / "predictions.json"
    truth_path.write_text(json.dumps(truth_of(x=[("a", 0, 10)])))
    predictions_path.write_text(document)
    with pytest.raises(DataError) as caught:
        score_files(truth_path, predictions_path)
    assert str(predictions_path) in str(caught.value)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("truth", "message"),
    [
        ({"database": []}, 'the key "database" must hold'),
        ({"database": {"x": {"subset": "validation"}}}, "video 'x': must be an object with a list of annotations"),
        ({"database": {"x": {"annotations": []}}}, "video 'x': the key \"subset\" is missing"),
        (truth_of(x=[("a", 3, 1)]), "video 'x', annotation 0: the segment must be"),
        (truth_of(x=[]), "no action is annotated in subset 'validation'; subsets there are: validation"),
    ],
)
def test_a_broken_truth_file_is_named(tmp_path: Path, truth, message: str) -> None:
    truth_path, predictions_path = tmp_path / "truth.json", tmp_path / "predictions.json"
    truth_path.write_text(json.dumps(truth))
    predictions_path.write_text('{"results": {}}')
    with pytest.raises(DataError) as caught:
        score_files(truth_path, predictions_path)
    assert str(caught.value).startswith(f"{truth_path}: ")
    assert message in str(caught.value)
    with pytest.raises(DataError, match="no such file"):
        score_files(tmp_path / "none.json", predictions_path)


def test_bad_arguments_are_value_errors() -> None:
    truth, predictions = truth_of(x=[("a", 0, 10)]), predictions_of()
    for thresholds in ((), (0.0,), (1.1,), (float("nan"),)):
        with pytest.raises(ValueError, match=r"tiou_thresholds must be one or more numbers in \(0, 1\]"):
            mean_average_precision(truth, predictions, tiou_thresholds=thresholds)
    with pytest.raises(ValueError, match="no action of the 1 classes asked for is annotated"):
        mean_average_precision(truth, predictions, classes=["b"])
    with pytest.raises(ValueError, match="classes must be a collection of names"):
        mean_average_precision(truth, predictions, classes="a")
    with pytest.raises(ValueError, match="no action of the 1 classes asked for is annotated"):
        average_precision(truth, predictions, label="b")


def test_parse_thresholds() -> None:
    assert parse_thresholds("0.5:0.95:0.05") == ACTIVITYNET_THRESHOLDS == tuple(np.linspace(0.5, 0.95, 10))
    assert parse_thresholds("0.3:0.7:0.1") == pytest.approx(THUMOS_THRESHOLDS, abs=1e-15)
    assert parse_thresholds("0.3, 0.5,0.7") == (0.3, 0.5, 0.7)
    assert parse_thresholds("0.5") == (0.5,)
    for text in ("", "half", "0.5:0.95", "0.5:0.95:0.1", "0.9:0.5:0.1", "0.5:0.95:0", "0.5,1.5", "0,0.5", "nan"):
        with pytest.raises(ValueError, match="tIoU thresholds must be first:last:step"):
            parse_thresholds(text)
