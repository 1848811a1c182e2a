"""The quirks of the public code that `bench/release_findings/` measures behave as `docs/release-findings.md` says."""

import csv
import json
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from release_outcomes import matching, release_outcomes
from torch import nn

import stale_edge.decoding as decoding

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests" / "golden"
ACTIVITYNET = ROOT.parent / "shared" / "data" / "activitynet"
SPLITS = ROOT.parent / "shared" / "data" / "splits" / "activitynet"


@pytest.fixture(scope="module", autouse=True)
def bench_on_path():
    folder = str(ROOT / "bench" / "release_findings")
    sys.path.insert(0, folder)
    yield
    sys.path.remove(folder)


@pytest.fixture(scope="module")
def quirks():
    import quirks

    return quirks


def random_outputs(seed, *, n_classes=5, T=100):
    rng = np.random.default_rng(seed)
    logits = rng.standard_normal((n_classes + 1, T)).astype(np.float32) * 3
    smooth = np.cumsum(rng.standard_normal((T, T)), axis=1)
    return logits, (1 / (1 + np.exp(-smooth))).astype(np.float32)


def as_rows(detections):
    return np.array([[d.score, d.start, d.end, d.label] for d in detections])


# --- post-processing -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", [1, 2])
def test_release_all_quirks_give_one_of_the_public_outcomes(quirks, seed):
    arrays = np.load(GOLDEN / f"release_postprocess_seed{seed}.npz")
    golden = json.loads((GOLDEN / f"release_postprocess_seed{seed}.json").read_text())
    found = quirks.decode(arrays["class_logits"], arrays["masks"], quirks=quirks.DECODE_QUIRKS)
    rows = [(d.label, d.score, d.start, d.end) for d in found]
    # The order of equal scores is random in the public scripts: this is one possible result, like the recorded one.
    outcomes = release_outcomes(arrays["class_logits"], arrays["masks"])
    assert len(matching(outcomes, rows)) == 1
    recorded = [
        (int(d["label"].removeprefix("class_")), d["score"], *(time / golden["duration"] for time in d["segment"]))
        for d in golden["detections"]
    ]
    assert len(matching(outcomes, recorded)) == 1


@pytest.mark.parametrize("seed", range(6))
def test_release_all_quirks_give_what_the_core_gives(quirks, seed):
    logits, masks = random_outputs(seed)
    found = quirks.decode(logits, masks, quirks=quirks.DECODE_QUIRKS)
    names = [f"class_{k}" for k in range(len(logits) - 1)]
    core = decoding.decode(logits, masks, class_names=names, duration_s=1.0, policy="release")
    assert len(found) == len(core) > 0
    expected = np.array([[d.score, d.start_s, d.end_s, names.index(d.label)] for d in core])
    assert as_rows(found) == pytest.approx(expected, abs=1e-6)


def test_release_drawn_orders_of_equals_give_only_outcomes_of_the_public_scripts(quirks):
    arrays = np.load(GOLDEN / "release_postprocess_seed1.npz")
    outcomes = release_outcomes(arrays["class_logits"], arrays["masks"])
    seen = set()
    for seed in range(30):
        found = quirks.decode(
            arrays["class_logits"],
            arrays["masks"],
            quirks=quirks.DECODE_QUIRKS,
            chance=np.random.default_rng(seed),
        )
        (number,) = matching(outcomes, [(d.label, d.score, d.start, d.end) for d in found])
        seen.add(number)
    assert len(seen) > 3


def test_release_quirks_are_named_or_refused(quirks):
    with pytest.raises(ValueError, match="no such quirk: typo"):
        quirks.decode(*random_outputs(0), quirks=["typo"])


def whole_video(T=100):
    """One class acts in all of the video."""
    logits = np.zeros((3, T), dtype=np.float32)
    logits[0] = 6
    return logits, np.full((T, T), 0.9, dtype=np.float32)


def test_release_a_mask_over_the_whole_video_ends_at_99_percent(quirks):
    """The repaired end is the end of the video."""
    logits, masks = whole_video()
    assert {d.end for d in quirks.decode(logits, masks, quirks=quirks.DECODE_QUIRKS)} == {0.99}
    repaired = set(quirks.DECODE_QUIRKS) - {"last-snippet"}
    assert {d.end for d in quirks.decode(logits, masks, quirks=repaired)} == {1.0}


def repeated(T=100):
    """One class acts twice, in snippets 10 to 29 and 60 to 79; every mask shows both."""
    active = np.zeros(T, dtype=bool)
    active[10:30] = active[60:80] = True
    logits = np.zeros((3, T), dtype=np.float32)
    logits[0, active], logits[2, ~active] = 8, 8
    masks = np.zeros((T, T), dtype=np.float32)
    masks[:, active] = 0.9
    return logits, masks


def test_release_filled_holes_merge_repeated_actions(quirks):
    def segments(names):
        return {(p.start, p.end) for p in quirks.propose(*repeated(), quirks=names)}

    once, each = {(0.1, 0.8)}, {(0.1, 0.3), (0.6, 0.8)}
    assert once <= segments(["hull"])
    assert not each & segments(["hull"])
    assert each <= segments([])
    assert not once & segments([])


def test_release_one_class_takes_the_other_action_too(quirks):
    """Class 1 acts in 50 snippets, class 0 in 20: with the quirk nothing is ever called class 0."""
    logits, masks = np.zeros((3, 100), dtype=np.float32), np.zeros((100, 100), dtype=np.float32)
    logits[2] = 4
    for label, first, last in ((0, 10, 30), (1, 40, 90)):
        logits[label, first:last] = 9
        masks[first:last, first:last] = 0.9
    assert {d.label for d in quirks.decode(logits, masks, quirks=["one-class"])} == {1}
    assert {d.label for d in quirks.decode(logits, masks, quirks=[])} == {0, 1}


def test_release_overlap_is_no_tiou_and_not_symmetric(quirks):
    whole, last_fifth = (0.0, 1.0), (0.8, 1.0)
    assert quirks.tiou(*whole, *last_fifth) == pytest.approx(0.2)
    assert quirks.release_overlap(*last_fifth, *whole) == pytest.approx(1.0)
    assert quirks.release_overlap(*whole, *last_fifth) == pytest.approx(5.0)
    assert quirks.tiou(0.0, 0.2, 0.2, 1.0) == 0
    assert quirks.release_overlap(0.0, 0.2, 0.2, 1.0) == pytest.approx(0.125)


@pytest.mark.parametrize(("overlap", "factor"), [(0.1, 1.508), (0.226, 1.0), (0.5, 0.137)])
def test_release_decay_raises_scores_of_small_overlap(quirks, overlap, factor):
    """Two segments of equal length with a given overlap: gives the second one's score after soft-NMS."""
    length = 0.2
    shift = length * (1 - overlap) / (1 + overlap)
    pair = [quirks.Segment(0.0, length, 0.9, 0), quirks.Segment(shift, shift + length, 0.5, 0)]
    _, second = quirks.soft_nms(pair, quirks=["decay"])
    assert second.score == pytest.approx(0.5 * factor, rel=2e-3)
    _, second = quirks.soft_nms(pair, quirks=[])
    assert second.score < 0.5


def test_release_soft_nms_never_picks_its_last_candidate(quirks):
    pair = [quirks.Segment(0.0, 0.2, 0.9, 0), quirks.Segment(0.5, 0.8, 0.5, 0)]
    assert len(quirks.soft_nms(pair, quirks=["last-candidate"])) == 1
    assert len(quirks.soft_nms(pair, quirks=[])) == 2


# --- data loader and evaluator ---------------------------------------------------------------------------------------


def annotation(start, end, label="a"):
    return {"segment": [start, end], "label": label}


def test_release_loader_keeps_the_last_annotation(quirks):
    two = [annotation(0, 50, "a"), annotation(60, 90, "b")]
    assert quirks.loaded_annotations(two, duration_s=100.0, quirks=[]) == two
    assert quirks.loaded_annotations(two, duration_s=100.0, quirks=["last-only"]) == two[1:]


def test_release_loader_drops_the_video_whose_last_action_is_short(quirks):
    """6 % of the video is the bound; one long action before does not save the video."""
    rule = ("last-only", "short")
    assert quirks.loaded_annotations([annotation(0, 6.0)], duration_s=100.0, quirks=rule) == []
    assert len(quirks.loaded_annotations([annotation(0, 6.1)], duration_s=100.0, quirks=rule)) == 1
    late = [annotation(0, 50), annotation(60, 62)]
    assert quirks.loaded_annotations(late, duration_s=100.0, quirks=rule) == []
    assert quirks.loaded_annotations(late, duration_s=100.0, quirks=["short"]) == late[:1]


def test_release_loader_takes_a_snippet_from_both_ends(quirks):
    (inset,) = quirks.loaded_annotations([annotation(10.0, 40.0)], duration_s=100.0, quirks=["inset"])
    assert inset["segment"] == pytest.approx([11.0, 39.0])
    assert quirks.loaded_annotations([annotation(10.0, 12.0)], duration_s=100.0, quirks=["inset"]) == []


@pytest.mark.skipif(not ACTIVITYNET.is_dir(), reason="needs the real ActivityNet annotations in ../shared/data")
def test_release_loader_rule_gives_the_video_counts_of_the_thesis(quirks):
    """8,840 and 4,350 videos, 6,575 and 4,353 of the open-set splits: the thesis explains them by dead links."""
    document = json.loads((ACTIVITYNET / "anet_anno_action.json").read_text())
    with (ACTIVITYNET / "video_info_new.csv").open() as file:
        subsets = {row["video"]: row["subset"] for row in csv.DictReader(file)}

    def kept(subset, labels=None):
        database = {}
        for video, entry in document.items():
            if subsets[video] == subset and entry["annotations"]:
                duration = entry["feature_frame"] / entry["duration_frame"] * entry["duration_second"]
                database[video] = {"duration": duration, "annotations": entry["annotations"]}
        return quirks.count_loaded(database, labels=labels)

    assert kept("training")["videos_kept"] == 8840
    assert kept("validation")["videos_kept"] == 4350
    for split, expected in (("75_25", 6575), ("50_50", 4353)):
        labels = set((SPLITS / split / "train" / "split_0.list").read_text().splitlines())
        assert kept("training", labels)["videos_kept"] == expected
    assert kept("training")["actions_as_background"] == 3077


def test_release_evaluator_forgets_videos_without_predictions(quirks):
    from stale_edge.evaluation import mean_average_precision

    entry = {"subset": "validation", "duration": 100.0, "annotations": [annotation(0, 10)]}
    truth = {"database": {"found": entry, "missed": entry}}
    predictions = {"results": {"found": [{"label": "a", "score": 1.0, "segment": [0, 10]}]}}
    assert mean_average_precision(truth, predictions).average_mAP == pytest.approx(50)
    forgetful = quirks.forgetful_truth(truth, predictions["results"])
    assert mean_average_precision(forgetful, predictions).average_mAP == pytest.approx(100)


def test_release_evaluator_mixes_up_classes_without_ground_truth(quirks):
    """Classes are numbered b 0, c 1 as they are met; the fixed list says a 0, b 1, c 2, so `a` counts as `b`."""
    rows = [{"label": label, "score": 1.0, "segment": [0, 1]} for label in "abcd"]
    renamed = quirks.collided_labels({"results": {"v": rows}}, truth_labels=["b", "c"], all_labels=["a", "b", "c", "d"])
    assert [row["label"] for row in renamed["results"]["v"]] == ["b", "b", "c", "d"]


# --- quantization ----------------------------------------------------------------------------------------------------


def test_release_quantization_leaves_convolutions_as_they_are(quirks):
    """Asked for linear layers and convolutions, torch makes int8 of linear layers alone."""
    module = nn.ModuleDict(
        {
            "linear": nn.Linear(8, 4),
            "temporal": nn.Conv1d(8, 4, 3),
            "image": nn.Conv2d(8, 4, 1),
            "attention": nn.MultiheadAttention(8, 2),
        }
    ).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        counted = quirks.quantized_weights(module)
    assert counted["Linear"] == {"weights": 32, "int8": 32}
    assert counted["Conv1d"] == {"weights": 96, "int8": 0}
    assert counted["Conv2d"] == {"weights": 32, "int8": 0}
    assert counted["MultiheadAttention"]["weights"] == 8 * 24 + 8 * 8
    assert isinstance(module["temporal"].weight, torch.Tensor)
