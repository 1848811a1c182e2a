"""The two stages: pooling, objective, and the way from training to a bundle."""

from pathlib import Path

import numpy as np
import pytest
import torch
import training_data

from stale_edge import load_bundle
from stale_edge.bundle import ClassBank, verify_bundle
from stale_edge.config import Config, RelativeGrid, config_from_dict
from stale_edge.data import open_data_set
from stale_edge.data.annotations import Action
from stale_edge.errors import ConfigError
from stale_edge.exporting import export_checkpoint
from stale_edge.model.architectures import ARCHITECTURES, build_model, build_objective
from stale_edge.model.two_stage.pooling import pooled
from stale_edge.runtime.evaluate import evaluate_bundle
from stale_edge.training import train
from stale_edge.training.train_result import TrainResult

C = training_data.CHANNELS
PROPOSALS = {
    "pyramid_dim": 16, "neck_dim": 16, "head_dim": 16, "n_heads": 2, "windows": [5, 5, 5], "max_length": 32,
    "ranges": [[0, 4], [4, 8], [8, 10000]], "n_embedding_layers": 1, "n_stem_blocks": 1,
}  # fmt: skip


def config(**model: object) -> Config:
    return config_from_dict(
        {
            "model": {
                "architecture": "two-stage", "feature_channels": C, "embed_dim": C, "n_heads": 2, "n_frames": 16,
                "proposals": PROPOSALS, **model,
            },
            "loss": {"proposals": {"initial_normalizer": 20.0}},
            "train": {"epochs": 40, "batch_size": 4, "n_snippets": 24, "learning_rate": 5e-3, "warmup_epochs": 2,
                      "device": "cpu", "validate_every": 40},
        },
        ARCHITECTURES,
    )  # fmt: skip


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return training_data.write_data_set(tmp_path_factory.mktemp("data") / "set", n_videos=24)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, data: Path) -> TrainResult:
    return train(config(), data, tmp_path_factory.mktemp("run") / "run")


@pytest.fixture(scope="module")
def bundle(trained: TrainResult, data: Path) -> Path:
    path = trained.last.parent / "bundle"
    export_checkpoint(trained.last, path, formats=["onnx"], precisions=["fp32", "int8"], data=data)
    return path


def test_it_learns_both_stages(trained: TrainResult) -> None:
    assert trained.average_mAP is not None
    assert trained.average_mAP > 20
    assert trained.records[-1]["classification"] < 0.5 * trained.records[0]["classification"]


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_its_bundle_detects_as_it_does(bundle: Path, trained: TrainResult, data: Path, precision: str) -> None:
    assert verify_bundle(bundle).manifest.decode.policy == "points"
    report = evaluate_bundle(bundle, data, precision=precision)
    assert report.result.average_mAP == pytest.approx(trained.average_mAP, abs=0.01 if precision == "fp32" else 5)


def test_a_class_is_added_by_a_row_and_long_videos_go_in_windows(bundle: Path, data: Path) -> None:
    localizer, data_set = load_bundle(bundle), open_data_set(data)
    bank = localizer.class_bank
    extra = np.random.default_rng(0).standard_normal((1, C)).astype(np.float32)
    more = bank.merge(ClassBank(("new",), extra, bank.fingerprint))
    features = np.concatenate([data_set.load(video) for video in data_set.videos("validation")])
    found = localizer.detect(features, duration_s=1.5 * len(features), window=24, class_bank=more)
    assert {d.label for d in found} >= set(training_data.CLASSES)
    assert all(0 <= d.start_s < d.end_s <= 1.5 * len(features) for d in found)
    assert localizer.forward(features[None, :61])["class_logits"].shape[2] == len(bank.names)


def test_pooling_equals_a_sum_over_finely_cut_snippets() -> None:
    torch.manual_seed(0)
    snippets = torch.randn(1, 9, 4) + 5
    segments = torch.tensor([[[0.0, 9.0], [2.25, 6.5], [3.0, 3.0], [-4.0, 1.5], [8.75, 20.0], [30.0, 31.0]]])
    fine = snippets.repeat_interleave(1000, dim=1)[0]
    wanted = [(0, 9), (2.25, 6.5), (2.5, 3.5), (-1, 1.5), (8, 9), (8, 9)]  # narrow ones are widened, others moved
    found = pooled(snippets, segments)[0]
    for row, (start, end) in zip(found[[0, 1, 2]], wanted[:3], strict=True):
        torch.testing.assert_close(row, fine[round(1000 * start) : round(1000 * end)].mean(dim=0))
    torch.testing.assert_close(found[5], snippets[0, 8])
    assert found.isfinite().all()


def test_the_deployed_score_is_actionness_times_class_probability() -> None:
    torch.manual_seed(0)
    network = build_model(config().model).eval()
    features, text = torch.randn(2, 20, C), torch.randn(3, C)
    with torch.no_grad():
        out = network(features, text)
        points, proposed = network.proposals.propose(features, network.proposals.class_bank())
        again = network(features, text, None, proposed)
    wanted = points.class_logits.sigmoid() * again.segment_logits.softmax(dim=2)
    real = out.valid > 0
    torch.testing.assert_close(out.class_logits.sigmoid()[real], wanted[real], atol=1e-5, rtol=1e-4)
    assert (out.class_logits.sigmoid().sum(dim=2)[real] <= 1).all()


def test_actions_of_unseen_classes_reach_neither_stage() -> None:
    objective = build_objective(config().model, config().loss)
    seen = [Action("a", 2.0, 9.0), Action("b", 12.0, 20.0)]
    grid = RelativeGrid(24.0)
    made = [
        objective.targets(actions, vocabulary=("a", "b"), grid=grid, n_snippets=24)
        for actions in (seen, [*seen, Action("unseen", 5.0, 22.0)])
    ]
    for one, other in zip(made[0], made[1], strict=True):
        assert torch.equal(torch.as_tensor(one), torch.as_tensor(other))


def test_text_and_features_must_come_from_one_clip() -> None:
    with pytest.raises(ConfigError, match=r"model\.embed_dim must be model\.feature_channels = 16"):
        config(embed_dim=8)
