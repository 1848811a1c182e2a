"""The training-free detector: what it finds, that names do not matter to each other, and its network for export."""

from pathlib import Path

import numpy as np
import pytest
import torch

from stale_edge.bundle import ClassBank
from stale_edge.config import SimulateConfig, TrainingFreeConfig, config_from_dict
from stale_edge.data import simulate
from stale_edge.decoding import training_free_detections, training_free_logits
from stale_edge.errors import ConfigError, DataError
from stale_edge.evaluation import mean_average_precision
from stale_edge.model.architectures import ARCHITECTURES, build_objective
from stale_edge.model.training_free.network import TrainingFree
from stale_edge.model.training_free.prompts import Prompts, background_file, read_prompts
from stale_edge.report.formats import to_layout

NAMES = ("rowing", "sawing", "ironing")
SAME = 2e-5
"""The network adds in float32, the other in float64; logits are about ten."""


def world(n_snippets: int = 60, channels: int = 128, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Make features that show name 1 in [10, 25) and name 0 in [40, 52), the names, and a background of 30 prompts."""
    rng = np.random.default_rng(seed)
    names, background = rng.standard_normal((3, channels)) + 2, rng.standard_normal((30, channels)) + 2
    center = background.mean(axis=0)
    features = 3 * rng.standard_normal(channels) + 0.1 * rng.standard_normal((n_snippets, channels))
    features[10:25] += names[1] - center
    features[40:52] += names[0] - center
    return features, names, background


@pytest.mark.parametrize("n_snippets", [1, 2, 19, 20, 41, 333])
def test_the_network_is_the_formula(n_snippets: int) -> None:
    rng = np.random.default_rng(n_snippets)
    features = (rng.standard_normal((n_snippets, 16)).cumsum(axis=0) + 5).astype(np.float32)
    names, background = (rng.standard_normal((n, 16)).astype(np.float32) + 1 for n in (3, 7))
    network = TrainingFree(TrainingFreeConfig(feature_channels=16, embed_dim=16, n_background=7))
    network.set_background(torch.from_numpy(background))
    logits = network(torch.from_numpy(features)[None], torch.from_numpy(names)).class_logits[0].numpy()
    assert logits.shape == (4, n_snippets)
    np.testing.assert_allclose(logits, training_free_logits(features, names, background), atol=SAME)


def test_finds_what_is_shown_and_not_what_is_absent() -> None:
    features, names, background = world()
    found = training_free_detections(features, names, background, class_names=NAMES, duration_s=120.0)
    for label, start_s, end_s in (("sawing", 20.0, 50.0), ("rowing", 80.0, 104.0)):
        best = next(d for d in found if d.label == label)
        assert (best.start_s, best.end_s) == pytest.approx((start_s, end_s), abs=4.0)
        assert best.score > 0.3
    assert max((d.score for d in found if d.label == "ironing"), default=0.0) < 0.2


def test_further_names_change_no_score() -> None:
    features, names, background = world()
    more = np.concatenate([names, names[:1] + 0.01, np.random.default_rng(5).standard_normal((200, 128)) + 2])
    few = training_free_detections(features, names, background, class_names=NAMES, duration_s=60.0, max_detections=900)
    words = [*NAMES, *map(str, range(201))]
    many = training_free_detections(
        features, more, background, class_names=words, duration_s=60.0, max_detections=90_000
    )
    assert [d for d in many if d.label in NAMES] == few


def test_nothing_happens_nothing_is_found() -> None:
    _, names, background = world()
    still = np.ones((30, 128), dtype=np.float32)
    assert training_free_detections(still, names, background, class_names=NAMES, duration_s=9.0) == []


def test_it_finds_more_than_chance_in_simulated_videos(tmp_path: Path) -> None:
    config = SimulateConfig(n_videos=40, n_classes=12, channels=128, seed=11, alignment=0.8)
    data_set = simulate(tmp_path / "data", config=config)
    bank = ClassBank.load(data_set.root / "class_bank.npz")
    rng = np.random.default_rng(0)
    found, shuffled = {}, {}
    for video in data_set.videos("validation"):
        duration_s = data_set.annotations.videos[video].duration_s
        for results, names in ((found, bank.names), (shuffled, [bank.names[k] for k in rng.permutation(len(bank))])):
            results[video] = training_free_detections(
                data_set.load(video), bank.embeddings, bank.embeddings, class_names=names, duration_s=duration_s
            )
    truth = data_set.annotations.to_layout()
    own, chance = (mean_average_precision(truth, to_layout(r)).average_mAP for r in (found, shuffled))
    assert own > chance + 10


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features": np.ones((4, 5))}, "equally wide; features are 5 wide, class_embeddings 3"),
        ({"features": np.ones((0, 3))}, "features must be two-dimensional with at least 1 row"),
        ({"features": np.array([[1.0, 2, 3], [1, np.nan, 3]])}, "features row 1 is not finite"),
        ({"background": np.ones((1, 3))}, "background must be two-dimensional with at least 2 rows"),
        ({"class_embeddings": np.full((2, 3), np.inf)}, "class_embeddings row 0 is not finite"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_input_is_refused(changes: dict[str, np.ndarray], message: str) -> None:
    arguments = {"features": np.eye(4, 3), "class_embeddings": np.eye(2, 3), "background": np.eye(3), **changes}
    with pytest.raises(ValueError, match=message):
        training_free_logits(**arguments)


def test_it_cannot_be_trained() -> None:
    config = config_from_dict({"model": {"architecture": "training-free"}}, ARCHITECTURES)
    with pytest.raises(ConfigError, match="has nothing to train"):
        build_objective(config.model, config.loss)


def test_background_prompts_can_be_edited(tmp_path: Path) -> None:
    assert len(Prompts().background) == len(set(read_prompts(background_file()))) >= 40
    (tmp_path / "mine.txt").write_text("# mine\nan empty stage\n\nthe audience\n")
    assert read_prompts(tmp_path / "mine.txt") == ("an empty stage", "the audience")
    with pytest.raises(DataError, match="at least 2 and distinct"):
        Prompts(background=("one",))
    with pytest.raises(DataError, match="where the class name goes"):
        Prompts(templates=("no place",))
