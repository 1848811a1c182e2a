"""Evaluation of localizers, and detection from files, on data sets of three videos."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny

from stale_edge.bundle import ClassBank
from stale_edge.data import VideoScore, open_data_set, read_scores
from stale_edge.decoding import training_free_detections
from stale_edge.errors import BundleError, ClassBankError, DataError, FeatureContractError
from stale_edge.evaluation import mean_average_precision
from stale_edge.runtime import load_bundle
from stale_edge.runtime.detect import detect_files
from stale_edge.runtime.detect_settings import DetectSettings, OutputSettings, class_list
from stale_edge.runtime.evaluate import EvaluationSettings, evaluate_bundle, evaluate_localizer
from stale_edge.segments import Detection

ACTIONS = {
    "v_jump": [("jump", 2.0, 8.0)],
    "v_vault": [("pole vault", 0.0, 5.0), ("pole vault", 6.0, 9.0)],
    "v_both": [("jump", 1.0, 3.0), ("pole vault", 4.0, 9.0)],
    "v_empty": [],
}


class Perfect:
    """Finds exactly what is annotated, of the classes it is asked for; remembers how it was asked."""

    def __init__(self, bank: ClassBank) -> None:
        self.class_bank = bank
        self.calls: list[dict] = []

    def detect(self, features, *, duration_s, class_bank=None, video_label=None, video_score=None):
        assert (video_label is None) == (video_score is None)
        video = list(ACTIONS)[int(features[0, 0])]
        names = (class_bank or self.class_bank).names
        self.calls.append({"video": video, "duration_s": duration_s, "names": names, "label": video_label})
        return [Detection(label, 0.9, s, e) for label, s, e in ACTIONS[video] if label in names]


@pytest.fixture
def root(tmp_path) -> Path:
    return make_data_set(tmp_path / "data")


def make_data_set(root: Path, *, channels: int = tiny.CHANNELS) -> Path:
    (root / "features").mkdir(parents=True)
    database = {}
    for number, (video, actions) in enumerate(ACTIONS.items()):
        x = np.random.default_rng(number).standard_normal((12 + number, channels)).astype(np.float32)
        x[0, 0] = number
        np.save(root / "features" / f"{video}.npy", x)
        database[video] = {
            "duration": 10.0 + number,
            "subset": "validation",
            "annotations": [{"label": label, "segment": [s, e]} for label, s, e in actions],
        }
    database["v_train"] = {**database["v_jump"], "subset": "training"}
    (root / "annotations.json").write_text(json.dumps({"database": database}))
    spec = {"encoder": "tiny-encoder", "channels": channels, "fps": 25.0, "stride": 5}
    (root / "feature_spec.json").write_text(json.dumps(spec))
    return root


# --- evaluation ------------------------------------------------------------------------------------------------------


def test_a_perfect_localizer_has_a_map_of_100(root) -> None:
    localizer = Perfect(tiny.bank())
    progress = []
    report = evaluate_localizer(localizer, open_data_set(root), progress=lambda *said: progress.append(said))
    assert report.result.average_mAP == pytest.approx(100.0)
    assert [(c["video"], c["duration_s"]) for c in localizer.calls] == [(v, 10.0 + i) for i, v in enumerate(ACTIONS)]
    assert progress == [("evaluate", i, 4) for i in (1, 2, 3, 4)]
    assert (report.n_videos, report.missing_features, report.unknown_classes) == (4, (), ())
    assert report.predictions["results"]["v_jump"] == [{"label": "jump", "score": 0.9, "segment": [2.0, 8.0]}]


def test_the_json_has_the_keys_of_score_and_the_baseline_beside_them(root) -> None:
    written = evaluate_localizer(Perfect(tiny.bank()), open_data_set(root)).to_json()
    assert list(written)[:4] == ["average_mAP", "mAP", "tiou_thresholds", "per_class"]
    assert written["per_class"] == {"jump": pytest.approx(100.0), "pole vault": pytest.approx(100.0)}
    assert written["baseline"] is None
    assert written["baseline_note"] == "no baseline: features are 8 wide, class embeddings 6, so no cosine exists"
    json.dumps(written, allow_nan=False)


def test_a_video_without_features_is_named_and_its_actions_are_missed(root) -> None:
    (root / "features" / "v_jump.npy").unlink()
    report = evaluate_localizer(Perfect(tiny.bank()), open_data_set(root))
    assert report.missing_features == ("v_jump",)
    assert "v_jump" not in report.predictions["results"]
    assert report.result.per_class == {"jump": pytest.approx(50.0, abs=1.0), "pole vault": pytest.approx(100.0)}
    for file in (root / "features").iterdir():
        file.unlink()
    with pytest.raises(DataError, match=r"none of the 4 videos of subset 'validation' has features.*v_jump"):
        evaluate_localizer(Perfect(tiny.bank()), open_data_set(root))


def test_open_set_looks_for_and_scores_the_given_classes_alone(root) -> None:
    localizer = Perfect(tiny.bank())
    report = evaluate_localizer(localizer, open_data_set(root), classes=["pole vault"])
    assert [c["video"] for c in localizer.calls] == ["v_vault", "v_both", "v_empty"], "v_jump shows another class alone"
    assert {c["names"] for c in localizer.calls} == {("pole vault",)}
    assert report.result.per_class == {"pole vault": pytest.approx(100.0)}
    assert report.n_videos == 3


def test_classes_that_do_not_fit(root) -> None:
    data_set = open_data_set(root)
    with pytest.raises(ClassBankError, match="did you mean 'jump'"):
        evaluate_localizer(Perfect(tiny.bank()), data_set, classes=["jumps"])
    with pytest.raises(DataError, match="no action of Ćwiczenia is annotated in subset 'validation'"):
        evaluate_localizer(Perfect(tiny.bank()), data_set, classes=["Ćwiczenia"])
    with pytest.raises(DataError, match="subset 'test'; there are: training, validation"):
        evaluate_localizer(Perfect(tiny.bank()), data_set, settings=EvaluationSettings("test"))


def test_an_annotated_class_the_localizer_does_not_know_counts_zero_and_is_named(root) -> None:
    report = evaluate_localizer(Perfect(tiny.bank(("jump",))), open_data_set(root))
    assert report.unknown_classes == ("pole vault",)
    assert report.result.per_class == {"jump": pytest.approx(100.0), "pole vault": 0.0}


def test_score_enhancement_reaches_the_localizer_with_or_without_the_prefix(root) -> None:
    scores = {
        "jump": VideoScore("jump", 0.5),
        "v_vault": VideoScore("pole vault", 0.6),
        "v_both": VideoScore("never heard of", 0.7),
    }
    localizer = Perfect(tiny.bank())
    evaluate_localizer(localizer, open_data_set(root), settings=EvaluationSettings(scores=scores))
    assert [c["label"] for c in localizer.calls] == ["jump", "pole vault", None, None]


def test_the_baseline_compares_with_embeddings_as_wide_as_the_features(tmp_path) -> None:
    data_set = open_data_set(make_data_set(tmp_path / "data", channels=tiny.EMBED_DIM))
    report = evaluate_localizer(Perfect(tiny.bank()), data_set)
    assert report.baseline_note == "the class embeddings of the model; background: all of them"
    assert report.baseline == _baseline(data_set, tiny.bank(), tiny.bank())

    untrained = tiny.bank(("chess", *reversed(tiny.NAMES)), seed=9, fingerprint="untrained")
    untrained.save(data_set.root / "class_bank.npz")
    report = evaluate_localizer(Perfect(tiny.bank()), data_set)
    assert "class embeddings of the data set" in report.baseline_note
    assert report.baseline == _baseline(data_set, untrained.select(tiny.NAMES), untrained)
    assert report.baseline != _baseline(data_set, tiny.bank(), tiny.bank())


def _baseline(data_set, bank, background):
    found = {
        video: [
            {"label": d.label, "score": d.score, "segment": [d.start_s, d.end_s]}
            for d in training_free_detections(
                data_set.load(video),
                bank.embeddings,
                background.embeddings,
                class_names=bank.names,
                duration_s=data_set.annotations.videos[video].duration_s,
            )
        ]
        for video in ACTIONS
    }
    return mean_average_precision(data_set.annotations.to_layout(), {"results": found})


def test_a_bundle_is_evaluated_with_what_it_detects(root, tmp_path) -> None:
    bundle = tiny.write(tmp_path / "bundle")
    (tmp_path / "unseen.list").write_text("pole vault\n")
    (tmp_path / "scores.json").write_text(json.dumps({"v_both": {"class": "pole vault", "score": 1.0}}))
    settings = EvaluationSettings(scores=read_scores(tmp_path / "scores.json"))
    report = evaluate_bundle(bundle, root, split=tmp_path / "unseen.list", settings=settings)
    localizer, data_set = load_bundle(bundle), open_data_set(root)
    found = localizer.detect(
        data_set.load("v_both"), duration_s=12.0, class_bank=["pole vault"], video_label="pole vault", video_score=1.0
    )
    assert found
    assert report.predictions["results"]["v_both"] == [
        {"label": d.label, "score": d.score, "segment": [d.start_s, d.end_s]} for d in found
    ]
    assert list(report.predictions["results"]) == ["v_vault", "v_both", "v_empty"]


def test_features_of_another_encoder_are_not_evaluated(root, tmp_path) -> None:
    spec = json.loads((root / "feature_spec.json").read_text()) | {"encoder": "another", "stride": 8}
    (root / "feature_spec.json").write_text(json.dumps(spec))
    with pytest.raises(FeatureContractError, match=r"encoder is 'another'.*stride is 8, the contract says 5"):
        evaluate_bundle(tiny.write(tmp_path / "bundle"), root)


# --- detection from files --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    return tiny.write(tmp_path_factory.mktemp("detect") / "bundle")


def test_a_file_is_a_video_whose_length_follows_from_the_contract(bundle, tmp_path) -> None:
    x = tiny.features(30)
    np.save(tmp_path / "v_1.npy", x)
    run = detect_files(bundle, [tmp_path / "v_1.npy"])
    wanted = load_bundle(bundle).detect(x, duration_s=30 * 5 / 25.0)
    found = json.loads(run.text)
    assert found["results"] == {
        "v_1": [{"label": d.label, "score": d.score, "segment": [d.start_s, d.end_s]} for d in wanted]
    }
    assert wanted
    assert run.errors == ()
    longer = json.loads(detect_files(DetectSettings(bundle, duration_s=60.0), [tmp_path / "v_1.npy"]).text)["results"][
        "v_1"
    ]
    assert [row["segment"][1] for row in longer] == pytest.approx([10 * d.end_s for d in wanted])


def test_a_data_set_knows_how_long_its_videos_are(bundle, root) -> None:
    wanted = load_bundle(bundle).detect(np.load(root / "features" / "v_both.npy"), duration_s=12.0)
    found = json.loads(detect_files(bundle, [root]).text)["results"]
    assert list(found) == sorted(ACTIONS)
    assert [row["segment"] for row in found["v_both"]] == [[d.start_s, d.end_s] for d in wanted]


def test_windows_reach_the_localizer(bundle, root, tmp_path) -> None:
    """Two files and a data set, each in windows of ten snippets; a memory map gives what the array gives."""
    localizer = load_bundle(bundle)
    two = tmp_path / "two"
    two.mkdir()
    x = tiny.features(60)
    np.save(two / "v_1.npy", x)
    np.savez(two / "v_2.npz", features=x)
    wanted = [list(d[2:]) for d in localizer.detect(x, duration_s=12.0, window=10, overlap=3)]
    found = json.loads(detect_files(DetectSettings(bundle, window=10, overlap=3), [two]).text)["results"]
    assert [row["segment"] for row in found["v_1"]] == wanted
    assert [row["segment"] for row in found["v_2"]] == wanted
    assert wanted != [list(d[2:]) for d in localizer.detect(x, duration_s=12.0)]
    windows = EvaluationSettings(window=10, overlap=3)
    report = evaluate_localizer(localizer, open_data_set(root), settings=windows)
    both = localizer.detect(np.load(root / "features" / "v_both.npy"), duration_s=12.0, window=10, overlap=3)
    assert [row["score"] for row in report.predictions["results"]["v_both"]] == [d.score for d in both]
    assert evaluate_bundle(bundle, root, settings=windows).result == report.result
    with pytest.raises(ValueError, match="give window too"):
        detect_files(DetectSettings(bundle, overlap=3), [two])
    x[33, 0] = np.nan
    np.save(two / "v_1.npy", x)
    run = detect_files(DetectSettings(bundle, window=10, overlap=3), [two])
    assert list(json.loads(run.text)["results"]) == ["v_2"]
    assert run.errors[0].startswith(f"{two / 'v_1'}: snippets 28 to 38: features must be finite")


def test_chosen_classes_and_formats(bundle, root, tmp_path) -> None:
    one = root / "features" / "v_jump.npy"
    rows = detect_files(
        DetectSettings(bundle, classes=("jump",)), [one], output=OutputSettings("csv")
    ).text.splitlines()
    assert len(rows) > 1
    assert {row.split(",")[1] for row in rows[1:]} == {"jump"}
    assert detect_files(bundle, [one], output=OutputSettings("srt")).text.startswith("1\n00:00:0")
    assert "<!DOCTYPE html>" in detect_files(bundle, [root], output=OutputSettings("html")).text
    with pytest.raises(DataError, match="subtitles belong to one video; got 4"):
        detect_files(bundle, [root], output=OutputSettings("srt"))
    with pytest.raises(ValueError, match="one of json, csv, srt, html; got 'xml'"):
        detect_files(bundle, [one], output=OutputSettings("xml"))
    with pytest.raises(ClassBankError, match="did you mean 'jump'"):
        detect_files(DetectSettings(bundle, classes=("jmp",)), [one])
    assert class_list("jump, pole vault") == ("jump", "pole vault")
    (tmp_path / "c.list").write_text("jump\npole vault\n")
    assert class_list(str(tmp_path / "c.list")) == ("jump", "pole vault")
    with pytest.raises(DataError, match="no such file"):
        class_list("missing.list")


def test_one_bad_file_does_not_end_the_run(bundle, root) -> None:
    (root / "features" / "v_bad.npy").write_bytes(b"no")
    np.save(root / "features" / "v_wide.npy", np.zeros((5, 9), np.float32))
    run = detect_files(bundle, [root / "features"])
    assert list(json.loads(run.text)["results"]) == sorted(ACTIONS)
    assert len(run.errors) == 2
    assert "v_bad.npy" in run.errors[0]
    assert "C = 8 channels" in run.errors[1]


def test_what_is_wrong_with_all_is_said_in_one_short_line(bundle, root, tmp_path) -> None:
    (tmp_path / "bad").mkdir()
    for i in range(9):
        (tmp_path / "bad" / f"v_{i}.npy").write_bytes(b"no")
    with pytest.raises(DataError, match=r"v_4\.npy.*; and 4 more$"):
        detect_files(bundle, [tmp_path / "bad"])
    (root / "feature_spec.json").write_text(json.dumps({"channels": 8, "encoder": "another"}))
    with pytest.raises(DataError) as refused:
        detect_files(bundle, [root])
    assert str(refused.value).count("encoder is 'another'") == 1


def test_inputs_that_cannot_be_meant(bundle, root, tmp_path) -> None:
    one = root / "features" / "v_jump.npy"
    with pytest.raises(DataError, match="two inputs are called v_jump"):
        detect_files(bundle, [one, root / "features"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no feature file in this folder"):
        detect_files(bundle, [tmp_path / "empty"])
    with pytest.raises(BundleError, match="not a bundle"):
        detect_files(tmp_path / "empty", [one])
    with pytest.raises(DataError, match=r"no\.npy: no such feature file"):
        detect_files(bundle, [tmp_path / "no.npy"])


def test_features_of_another_kind_and_videos_of_unknown_length(bundle, root, tmp_path) -> None:
    (root / "feature_spec.json").write_text(json.dumps({"channels": 8, "fps": 30.0}))
    with pytest.raises(DataError, match=r"fps is 30\.0, the contract says 25\.0"):
        detect_files(bundle, [root / "features" / "v_jump.npy"])
    timeless = shutil.copytree(bundle, tmp_path / "timeless")
    _forget_the_frame_rate(timeless)
    np.save(tmp_path / "v_1.npy", tiny.features(5))
    with pytest.raises(DataError, match="give --duration SECONDS"):
        detect_files(timeless, [tmp_path / "v_1.npy"])
    assert json.loads(detect_files(DetectSettings(timeless, duration_s=3.0), [tmp_path / "v_1.npy"]).text)["results"][
        "v_1"
    ]


def _forget_the_frame_rate(bundle: Path) -> None:
    import dataclasses
    import hashlib

    from stale_edge.bundle.onnx_metadata import FEATURE_CONTRACT_KEY, copy_with_metadata

    contract = dataclasses.replace(tiny.contract(), fps=None)
    detector = bundle / "detector-fp32.onnx"
    detector.rename(bundle / "old")
    copy_with_metadata(bundle / "old", detector, {FEATURE_CONTRACT_KEY: json.dumps(contract.to_json())})
    entry = {"bytes": detector.stat().st_size, "sha256": hashlib.sha256(detector.read_bytes()).hexdigest()}

    def change(values) -> None:
        values["feature_contract"]["fps"] = None
        values["files"][0].update(entry)

    tiny.edit_manifest(bundle, change)
