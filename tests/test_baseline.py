"""The training-free baseline: equal to its slow twin, right if cosine is, poor but above chance on simulated data."""

from pathlib import Path

import numpy as np
import oracle
import pytest

from stale_edge.bundle.class_bank import ClassBank
from stale_edge.config import DecodeConfig, SimulateConfig
from stale_edge.data import DataSet, simulate
from stale_edge.decoding import baseline_detections
from stale_edge.evaluation import mean_average_precision
from stale_edge.segments import Detection

NAMES = ("rowing", "sawing", "ironing")


def directions(n: int, channels: int = 16, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, channels)).astype(np.float32)


def planted(spans: list[tuple[int, int, int]], n_snippets: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Orthogonal classes; each span (class, start, end) shows its class, the rest of the video shows nothing."""
    features = np.zeros((n_snippets, 8), dtype=np.float32)
    features[:, 7] = 1.0
    for row, start, end in spans:
        features[start:end, row] = 0.2
    return features, np.eye(3, 8, dtype=np.float32)


@pytest.mark.parametrize("n_snippets", [1, 2, 3, 19, 60, 131])
@pytest.mark.parametrize("n_classes", [1, 2, 7])
def test_equals_the_loop(n_snippets: int, n_classes: int) -> None:
    # Classes that differ little, as in CLIP: else one has all the probability, always, and nothing is found.
    features = directions(n_snippets, seed=n_snippets).cumsum(axis=0) + 8
    embeddings = 0.02 * directions(n_classes, seed=1) + directions(1, seed=2)
    config = DecodeConfig(max_detections=25)
    names = [str(row) for row in range(n_classes)]
    found = baseline_detections(features, embeddings, class_names=names, duration_s=n_snippets, config=config)
    expected = oracle.baseline(
        features, embeddings, thresholds=[n / 10 for n in range(1, 10)], sigma=config.sigma, limit=config.max_detections
    )
    assert [d.score for d in found] == pytest.approx([score for _, score, _, _ in expected], abs=1e-6)
    assert bool(found) == (n_classes > 1 and n_snippets > 1)
    keyed = sorted((d.label, round(d.start_s), round(d.end_s)) for d in found)
    assert keyed == sorted((str(row), start, end) for row, _, start, end in expected)


def test_finds_what_cosine_shows() -> None:
    features, embeddings = planted([(1, 10, 25), (0, 40, 52)])
    found = baseline_detections(features, embeddings, class_names=NAMES, duration_s=120.0)
    for label, start_s, end_s in (("sawing", 20.0, 50.0), ("rowing", 80.0, 104.0)):
        best = next(d for d in found if d.label == label)
        # The moving average over 3 snippets of 2 s blurs each boundary by one of them.
        assert best.start_s == pytest.approx(start_s, abs=2.0)
        assert best.end_s == pytest.approx(end_s, abs=2.0)
    assert {d.label for d in found[:2]} == {"rowing", "sawing"}


def test_scores_fall_lie_in_range_and_are_few() -> None:
    features, embeddings = directions(200), directions(3, seed=1)
    found = baseline_detections(features, embeddings, class_names=NAMES, duration_s=50.0)
    scores = [d.score for d in found]
    assert scores == sorted(scores, reverse=True)
    assert len(found) == DecodeConfig().max_detections
    assert all(0 < score <= 1 for score in scores)
    assert all(0 <= d.start_s < d.end_s <= 50.0 for d in found)
    few = baseline_detections(
        features, embeddings, class_names=NAMES, duration_s=50.0, config=DecodeConfig(max_detections=7)
    )
    assert few == found[:7]


def test_length_of_vectors_and_unit_of_time_do_not_matter() -> None:
    features, embeddings = directions(80).cumsum(axis=0), directions(3, seed=1)
    found = baseline_detections(features, embeddings, class_names=NAMES, duration_s=80.0)
    scaled = baseline_detections(features * 4, embeddings * 0.5, class_names=NAMES, duration_s=160.0)
    assert [(d.label, 2 * d.start_s, 2 * d.end_s) for d in found] == [(d.label, d.start_s, d.end_s) for d in scaled]
    assert [d.score for d in found] == pytest.approx([d.score for d in scaled])


def test_nothing_happens_nothing_is_found() -> None:
    """A class whose probability never changes has no run above any threshold."""
    still = np.ones((30, 4), dtype=np.float32)
    assert baseline_detections(still, np.eye(3, 4), class_names=NAMES, duration_s=9.0) == []
    assert baseline_detections(np.zeros((30, 4)), np.eye(3, 4), class_names=NAMES, duration_s=9.0) == []


def test_min_snippets_drops_short_runs() -> None:
    features, embeddings = planted([(1, 10, 11), (0, 40, 52)])
    config = DecodeConfig(min_snippets=5)
    found = baseline_detections(features, embeddings, class_names=NAMES, duration_s=60.0, config=config)
    assert found
    assert min(d.end_s - d.start_s for d in found) >= 5.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"features": np.ones((4, 5))}, "equally wide; features are 5 wide, class embeddings 3"),
        ({"features": np.ones(4)}, "features must be two-dimensional"),
        ({"features": np.ones((0, 3))}, "features must be two-dimensional with at least one row"),
        ({"features": np.array([[1.0, 2, 3], [1, np.nan, 3]])}, "features row 1 is not finite"),
        ({"class_embeddings": np.full((2, 3), np.inf)}, "class_embeddings row 0 is not finite"),
        ({"features": np.ones((4, 3), dtype=np.int64)}, "floating type"),
        ({"class_names": ["a"]}, "2 distinct names"),
        ({"class_names": ["a", "a"]}, "2 distinct names"),
        ({"duration_s": 0.0}, "duration_s"),
        ({"duration_s": float("nan")}, "duration_s"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_input_is_refused(changes: dict[str, object], message: str) -> None:
    arguments = {
        "features": np.eye(4, 3),
        "class_embeddings": np.eye(2, 3),
        "class_names": ["a", "b"],
        "duration_s": 1.0,
    }
    arguments |= changes
    with pytest.raises(ValueError, match=message):
        baseline_detections(arguments.pop("features"), arguments.pop("class_embeddings"), **arguments)


def average_map(data_set: DataSet, bank: ClassBank) -> float:
    results = {}
    for video in data_set.videos("validation"):
        found: list[Detection] = baseline_detections(
            data_set.load(video),
            bank.embeddings,
            class_names=bank.names,
            duration_s=data_set.annotations.videos[video].duration_s,
        )
        results[video] = [{"label": d.label, "score": d.score, "segment": [d.start_s, d.end_s]} for d in found]
    truth = data_set.annotations.to_layout()
    return mean_average_precision(truth, {"results": results}, subset="validation").average_mAP


def test_on_simulated_data_it_is_poor_but_far_above_chance(tmp_path: Path) -> None:
    """The simulated task is useful only if cosine helps, and most remains to be learned."""
    data_set = simulate(tmp_path, config=SimulateConfig(n_videos=160, n_classes=20, channels=64))
    bank = ClassBank.load(tmp_path / "class_bank.npz")
    turned = ClassBank(bank.names, np.roll(bank.embeddings, 1, axis=0), "wrong names")
    informed, chance = average_map(data_set, bank), average_map(data_set, turned)
    assert 2.0 < informed < 25.0
    assert chance < informed / 4
