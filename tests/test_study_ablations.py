"""The study of the paper's Tables 1 and 3 to 6: its variants, and the information of its oracles."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from training_data import CLASSES, class_embeddings, small_config, write_data_set

from stale_edge.bundle import ClassBank
from stale_edge.config import Config, TextConfig
from stale_edge.data import Action, DataSet, VideoAnnotation, open_data_set
from stale_edge.evaluation import mean_average_precision
from stale_edge.report.formats import to_layout
from stale_edge.segments import Detection
from stale_edge.study import Spread, StudyOptions, ablation_tables, ablation_variants, ablations, oracles, run_study
from stale_edge.study.ablation_variants import TUNED, VARIANTS
from stale_edge.study.ablations import Ablations
from stale_edge.study.published import PAPER_ABLATIONS

BANK = ClassBank(CLASSES, class_embeddings(), "test:directions")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    return open_data_set(write_data_set(tmp_path_factory.mktemp("ablations") / "data", n_videos=24))


# --- oracles ---------------------------------------------------------------------------------------------------------


def test_true_proposals_are_the_actions_of_the_classes() -> None:
    actions = (Action("a", 1.0, 2.0), Action("b", 3.0, 4.0), Action("a", 9.0, 11.0), Action("a", 10.0, 12.0))
    found = oracles.true_proposals(["a"])("v", VideoAnnotation(10.0, "validation", actions))
    assert [(d.start_s, d.end_s) for d in found] == [(1.0, 2.0), (9.0, 10.0)]


def test_proposals_are_named_by_the_mean_of_their_snippets(data: DataSet) -> None:
    """Each action of the data set is its class' direction plus noise, so CLIP's rule names nearly all of them."""
    detect = oracles.classified(oracles.true_proposals(CLASSES), data, BANK)
    found = {v: detect(v, data.annotations.videos[v]) for v in data.videos("validation")}
    truth = data.annotations.to_layout()
    assert mean_average_precision(truth, to_layout(found)).average_mAP > 80
    video = data.videos("validation")[0]
    n_actions = len(data.annotations.videos[video].actions)
    assert len(found[video]) == n_actions * oracles.TOP_CLASSES
    assert all(0 <= detection.score <= 1 for detection in found[video])


def test_a_proposal_shorter_than_a_snippet_still_has_one(data: DataSet) -> None:
    def propose(video: str, annotation: VideoAnnotation) -> list[Detection]:  # noqa: ARG001
        return [Detection("action", 0.5, annotation.duration_s - 1e-6, annotation.duration_s)]

    video = data.videos("validation")[0]
    assert len(oracles.classified(propose, data, BANK)(video, data.annotations.videos[video])) == oracles.TOP_CLASSES


def test_class_agnostic_annotations_hide_unseen_classes() -> None:
    actions = (Action("a", 1.0, 2.0), Action("b", 3.0, 4.0))
    document = oracles.class_agnostic({"v": VideoAnnotation(10.0, "training", actions)}, ["a"])
    assert [a["label"] for a in document["database"]["v"]["annotations"]] == ["action", "other"]


# --- variants --------------------------------------------------------------------------------------------------------


def test_every_row_of_the_paper_has_a_variant() -> None:
    assert {(row.table, row.row) for row in PAPER_ABLATIONS} == set(ablation_tables._ROWS)
    assert {variant for variant, _ in ablation_tables._ROWS.values()} == set(VARIANTS)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the study train the tests' detector."""

    def config(data_set: DataSet, options: StudyOptions) -> Config:  # noqa: ARG001
        return small_config(epochs=1, validate_every=0)

    monkeypatch.setattr(ablation_variants, "training_config", config)


@pytest.mark.usefixtures("small")
def test_nothing_teaches_a_foreground_that_nothing_predicts(data: DataSet) -> None:
    options = StudyOptions(Path("study"), data=data.root)
    completeness = {}
    for variant in VARIANTS:
        config = ablation_variants.variant_config(variant, data, options)
        if config is not None and variant != "effprompt":
            completeness[variant] = config.loss.completeness
    off = {"mask-none", "mask-ground-truth", "b-i", "b-ii"}
    assert {variant for variant, weight in completeness.items() if weight == 0} == off
    assert TUNED not in completeness  # the data set has no text encoder


@pytest.mark.usefixtures("small")
def test_the_study_makes_every_variant(data: DataSet, tmp_path: Path) -> None:
    study = Ablations(StudyOptions(tmp_path / "study", data=data.root, repeats=1, videos=24))
    summary = run_study(study, study.options.out)
    assert [table.name for table in summary.tables] == [
        "table-1",
        "table-2",
        "table-3",
        "table-4",
        "table-5",
        "table-6",
    ]
    rows = {(table.name, row["row"]): row for table in summary.tables for row in table.rows}
    without = {("table-5", "CLIP-text, tuned"), ("table-2", "B-III, I3D")}  # no text encoder, no video encoder
    assert not any("mAP_50" in rows[key] for key in without)
    assert rows["table-1", "STALE"] == {
        **rows["table-4", "Maskformer, 20 queries"],
        "row": "STALE",
    }
    for key, row in rows.items():
        if key not in without:
            assert 0 <= row["average_mAP"].mean <= row["mAP_50"].mean <= 100  # type: ignore[union-attr]
    document = json.loads((tmp_path / "study" / "summary.json").read_text())
    assert any("no text encoder" in note for note in document["notes"])
    assert (tmp_path / "study" / "ablations.png").stat().st_size > 10_000


@pytest.mark.usefixtures("small")
def test_true_masks_place_every_detection(data: DataSet, tmp_path: Path) -> None:
    """With the true instance masks a detection spans exactly one action; its class may still be wrong."""
    from stale_edge.model.checkpoint import read_checkpoint
    from stale_edge.training import train

    run = train(small_config(epochs=1, validate_every=0), data.root, tmp_path / "run")
    detect = oracles.with_true_masks(read_checkpoint(run.last), data, BANK)
    n_found = 0
    for video in data.videos("validation"):
        annotation = data.annotations.videos[video]
        snippet = annotation.duration_s / 12
        for detection in detect(video, annotation):
            n_found += 1
            assert any(
                abs(detection.start_s - a.start_s) <= snippet and abs(detection.end_s - a.end_s) <= snippet
                for a in annotation.actions
            )
    assert n_found > 0


@pytest.mark.usefixtures("small")
def test_the_true_foreground_is_what_the_gate_lets_through(data: DataSet, tmp_path: Path) -> None:
    """Trained and asked with the true foreground; without it the network refuses."""
    from stale_edge.model.checkpoint import read_checkpoint
    from stale_edge.training import train

    config = small_config(epochs=1, validate_every=0)
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, masking="ground-truth"))
    checkpoint = read_checkpoint(train(config, data.root, tmp_path / "run").last)
    detect = oracles.with_true_foreground(checkpoint, data, BANK)
    video = data.videos("validation")[0]
    assert isinstance(detect(video, data.annotations.videos[video]), list)
    with pytest.raises(ValueError, match="foreground is missing"):
        checkpoint.model(torch.zeros(1, 12, 16), torch.tensor(BANK.embeddings))


def test_own_and_published_figures_stand_in_one_row() -> None:
    figures = {"unseen": {"mAP_50": 1.0, "average_mAP": 0.5}, "seen": {"mAP_50": 2.0, "average_mAP": 1.0}}
    stale = next(row for row in PAPER_ABLATIONS if row.row == "STALE")
    row = ablation_tables._row(stale, {"stale": [figures, figures]})
    assert row["average_mAP"] == Spread(0.5, 0.0, 2)
    assert row["seen"] == Spread(1.0, 0.0, 2)
    assert row["published_average"] == 24.9


def test_an_untrained_class_gets_the_same_vector_again(data: DataSet, tmp_path: Path) -> None:
    from stale_edge.model.checkpoint import read_checkpoint
    from stale_edge.training import train

    config = small_config(epochs=1, validate_every=0)
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, text=TextConfig(encoder="none")))
    checkpoint = read_checkpoint(train(config, data.root, tmp_path / "run").last)
    names = (CLASSES[0], "nobody trained on this")
    first, again = (ablations._bank(checkpoint, data, names, seed=3) for _ in range(2))
    assert first.names == names
    assert np.array_equal(first.embeddings, again.embeddings)
    assert not np.array_equal(first.embeddings[1], ablations._bank(checkpoint, data, names, seed=4).embeddings[1])
