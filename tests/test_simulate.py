"""Simulated data sets: real statistics, equal bytes from equal seeds, annotations left alone."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from stale_edge.bundle.class_bank import ClassBank
from stale_edge.config import SimulateConfig, to_dict
from stale_edge.data import class_names, open_data_set, read_annotations, read_public_annotations, simulate
from stale_edge.data.check import check
from stale_edge.data.simulate_features import FeatureModel
from stale_edge.data.simulate_names import name_pool, simulated_class_bank
from stale_edge.data.simulate_timeline import Span, Timeline, add_distractors, draw_actions
from stale_edge.errors import ConfigError, DataError

FPS, DURATION_S, ACTION_S = 355 / 18.1, 18.1, (5.82, 16.2)
LAGS, LEADING = (1, 2, 5, 10, 20, 50, 100), (1, 2, 3, 5, 10, 20, 50)

# Measured on the real CLIP ViT-B/32 frames of one ActivityNet video, at 19.6 fps: statistic, value, tolerance of the
# simulation. The tolerance is about what one statistic varies by over simulated videos of that length (no two real
# ones would agree better), divided by two where many are averaged.
TABLE = {
    "norm": (10.28, 0.05),
    "norm_std": (0.21, 0.03),
    "outlier": (5.54, 0.15),
    "runner_up": (1.65, 0.15),
    "mean_direction": (0.955, 0.006),
    "cosine_inside": (0.964, 0.006),
    "cosine_outside": (0.931, 0.012),
    "cosine_centroids": (0.968, 0.008),
}
AUTOCORRELATION = (0.78, 0.67, 0.52, 0.40, 0.28, 0.12, 0.0)
AUTOCORRELATION_TOLERANCE = (0.04, 0.04, 0.04, 0.04, 0.05, 0.06, 0.10)
SPECTRUM = (0.25, 0.35, 0.44, 0.54, 0.68, 0.80, 0.92)
SPECTRUM_TOLERANCE = 0.03  # one video's leading direction varies by 0.05

# Small, but with every part: videos of 20 to 40 s, a snippet every 2 s, 24 channels.
SMALL = SimulateConfig(n_videos=12, n_classes=6, channels=24, stride=32, max_duration_s=40.0)


def measure(features, times_s):
    """Measure what the table lists, on the frames (T, C) of one video whose action lasts from 5.82 to 16.2 s."""
    features = features.astype(np.float64)
    norms = np.linalg.norm(features, axis=1)
    units = features / norms[:, None]
    inside = (times_s >= ACTION_S[0]) & (times_s < ACTION_S[1])
    action, background = units[inside].mean(axis=0), units[~inside].mean(axis=0)
    action, background = action / np.linalg.norm(action), background / np.linalg.norm(background)
    residual = units - units.mean(axis=0)
    power = (residual**2).sum(axis=1).mean()
    eigenvalues = np.linalg.eigvalsh(residual @ residual.T)[::-1]
    outlier, runner_up = np.sort(np.abs(features.mean(axis=0)))[::-1][:2]
    values = {
        "norm": norms.mean(),
        "norm_std": norms.std(),
        "outlier": outlier,
        "runner_up": runner_up,
        "mean_direction": np.linalg.norm(units.mean(axis=0)),
        "cosine_inside": (units[inside] @ action).mean(),
        "cosine_outside": (units[~inside] @ action).mean(),
        "cosine_centroids": action @ background,
    }
    autocorrelation = [(residual[:-lag] * residual[lag:]).sum(axis=1).mean() / power for lag in LAGS]
    spectrum = [eigenvalues[:n].sum() / eigenvalues.sum() for n in LEADING]
    return values, np.array(autocorrelation), np.array(spectrum)


def test_the_table_is_what_the_real_features_say(shared_data: Path) -> None:
    with np.load(shared_data / "real_video" / "v_GGSY1Qvo990_features.npz") as archive:
        values, autocorrelation, spectrum = measure(archive["clip_vitb32"], archive["clip_timestamps_ms"] / 1000)
    for name, (expected, _) in TABLE.items():
        assert values[name] == pytest.approx(expected, abs=0.005), name
    assert autocorrelation[:-1] == pytest.approx(AUTOCORRELATION[:-1], abs=0.01)
    assert autocorrelation[-1] == pytest.approx(0, abs=0.05)
    assert spectrum == pytest.approx(SPECTRUM, abs=0.01)


def test_simulated_frames_have_the_statistics_of_real_ones() -> None:
    times_s = (np.arange(355) + 0.5) / FPS
    names = name_pool()
    measured = []
    for seed in range(30):
        if seed % 5 == 0:
            bank = simulated_class_bank(names[seed % 7 :: 5], width=512)
            model = FeatureModel(SimulateConfig(seed=seed, channels=512), bank.embeddings)
        video = Timeline(DURATION_S, (Span(seed, *ACTION_S),))
        features = model.render(video, n_snippets=355, snippet_s=1 / FPS, rng=np.random.default_rng(seed))
        assert features.shape == (355, 512)
        assert features.dtype == np.float32
        measured.append(measure(features, times_s))
    for name, (expected, tolerance) in TABLE.items():
        mean = np.mean([values[name] for values, _, _ in measured])
        assert mean == pytest.approx(expected, abs=tolerance), name
    autocorrelation = np.mean([row for _, row, _ in measured], axis=0)
    assert np.all(np.abs(autocorrelation - AUTOCORRELATION) <= AUTOCORRELATION_TOLERANCE), autocorrelation
    assert np.mean([row for _, _, row in measured], axis=0) == pytest.approx(SPECTRUM, abs=SPECTRUM_TOLERANCE)


def test_time_is_in_seconds_not_in_snippets() -> None:
    """Every tenth frame of a fast video has the statistics of a slow one."""
    bank = simulated_class_bank(name_pool()[:10], width=64)
    model = FeatureModel(SimulateConfig(channels=64), bank.embeddings)
    correlations = []
    for step, snippet_s in ((10, 0.1), (1, 1.0)):
        values = []
        for seed in range(30):
            rng = np.random.default_rng([step, seed])
            units = model.render(Timeline(60.0, ()), n_snippets=60 * step, snippet_s=snippet_s, rng=rng)[::step]
            residual = units - units.mean(axis=0)
            values.append((residual[:-1] * residual[1:]).sum() / (residual**2).sum())
        correlations.append(np.mean(values))
    assert correlations[0] == pytest.approx(correlations[1], abs=0.05)
    assert 0.2 < correlations[0] < 0.7


def test_a_class_looks_like_its_name_only_in_part() -> None:
    bank = simulated_class_bank(name_pool()[:40], width=256)
    model = FeatureModel(SimulateConfig(channels=256, alignment=0.5, gap_regularity=0.9), bank.embeddings)
    text = bank.embeddings - bank.embeddings.mean(axis=0)
    text /= np.linalg.norm(text, axis=1, keepdims=True)
    # 0.06 is the chance cosine of two directions in 256 dimensions.
    assert (model.class_directions * text).sum(axis=1) == pytest.approx(np.full(40, 0.5), abs=3 * 0.06)
    # The systematic part is one linear map: it carries over from 39 classes and their span to the cosines of pairs.
    pairs = np.corrcoef((model.class_directions @ model.class_directions.T).ravel(), (text @ text.T).ravel())[0, 1]
    assert pairs > 0.8


def test_an_action_is_nearer_to_its_class_than_its_background_is() -> None:
    bank = simulated_class_bank(name_pool()[:20], width=128)
    model = FeatureModel(SimulateConfig(channels=128), bank.embeddings)
    for k in range(20):
        features = model.render(
            Timeline(100.0, (Span(k, 30.0, 70.0),)), n_snippets=100, snippet_s=1.0, rng=np.random.default_rng(k)
        )
        units = features / np.linalg.norm(features, axis=1, keepdims=True)
        for direction in (model.class_directions[k], model.actionness):
            shown = units @ direction
            assert shown[33:67].mean() > np.concatenate([shown[:27], shown[73:]]).mean() + 0.05


def test_a_scene_shows_the_class_and_bustle_the_motion_alone() -> None:
    bank = simulated_class_bank(name_pool()[:20], width=128)
    model = FeatureModel(SimulateConfig(channels=128), bank.embeddings)

    def rise(timeline: Timeline, direction: np.ndarray) -> float:
        values = []
        for seed in range(20):
            features = model.render(timeline, n_snippets=100, snippet_s=1.0, rng=np.random.default_rng(seed))
            shown = features @ direction / np.linalg.norm(features, axis=1)
            values.append(shown[33:67].mean() - np.concatenate([shown[:27], shown[73:]]).mean())
        return float(np.mean(values))

    scene = Timeline(100.0, (), scenes=(Span(4, 30.0, 70.0),))
    bustle = Timeline(100.0, (), bustle=((30.0, 70.0),))
    assert rise(scene, model.context_directions[4]) > 0.1
    assert abs(rise(scene, model.actionness)) < 0.03
    assert rise(bustle, model.actionness) > 0.08
    assert abs(rise(bustle, model.context_directions[4])) < 0.03


@pytest.mark.parametrize(
    "config",
    [
        SimulateConfig(),
        SimulateConfig(max_actions=9, min_duration_s=20, max_duration_s=20),
        SimulateConfig(max_actions=1, min_duration_s=0.5, max_duration_s=0.6),
    ],
    ids=["default", "many actions in a short video", "shorter than an action should be"],
)
def test_actions_lie_in_order_inside_their_video(config: SimulateConfig) -> None:
    rng = np.random.default_rng(0)
    counts = []
    for _ in range(500):
        timeline = add_distractors(draw_actions(config, rng, classes=(3, 5)), config, rng, n_classes=8)
        times = [t for action in timeline.actions for t in (action.start_s, action.end_s)]
        assert times == sorted(times)
        assert len(set(times)) == len(times)
        assert times[0] >= 0
        assert times[-1] <= timeline.duration_s
        assert config.min_duration_s <= timeline.duration_s <= config.max_duration_s
        assert sum(a.end_s - a.start_s for a in timeline.actions) <= 0.75 * timeline.duration_s
        assert {a.class_index for a in timeline.actions} <= {3, 5}
        counts.append(len(timeline.actions))
        spans = [(s.start_s, s.end_s) for s in timeline.scenes] + list(timeline.bustle)
        for start_s, end_s in spans:
            assert all(end_s <= a.start_s or start_s >= a.end_s for a in timeline.actions)
            assert 0 <= start_s < end_s <= timeline.duration_s
    assert max(counts) <= config.max_actions
    assert min(counts) == 1


def test_a_data_set_passes_the_check_and_is_complete(tmp_path: Path) -> None:
    seen_steps: list[tuple[str, int, int]] = []
    data_set = simulate(tmp_path / "data", config=SMALL, progress=lambda *step: seen_steps.append(step))
    assert check(tmp_path / "data") == []
    assert seen_steps[0] == ("simulate", 0, 12)
    assert seen_steps[-1] == ("simulate", 12, 12)
    assert data_set.annotations.subsets == ("training", "validation")
    assert len(data_set.videos("validation")) == 4  # 0.3 of 12, rounded
    assert data_set.splits == ("test.list", "train.list")
    seen, unseen = data_set.split("train.list"), data_set.split("test.list")
    assert len(unseen) == 2  # a quarter of 6, rounded
    assert sorted((*seen, *unseen)) == sorted(class_names(SMALL))
    bank = ClassBank.load(tmp_path / "data" / "class_bank.npz")
    assert bank.names == class_names(SMALL)
    assert set(data_set.class_names) <= set(bank.names)
    for video, annotation in data_set.annotations.videos.items():
        stored = np.load(tmp_path / "data" / "features" / f"{video}.npy")
        assert stored.dtype == np.float16
        assert stored.shape == (round(annotation.duration_s / 2), 24)
        assert np.linalg.norm(stored.astype(np.float32), axis=1) == pytest.approx(10.28, abs=1.2)
        labels = {action.label for action in annotation.actions}
        assert labels <= set(seen) or labels <= set(unseen)
    assert set(data_set.scores) == set(data_set.annotations.videos)


def test_the_feature_spec_says_that_and_how_it_is_simulated(tmp_path: Path) -> None:
    data_set = simulate(tmp_path, config=SMALL)
    assert data_set.feature_spec.encoder.startswith("simulated")
    assert (data_set.feature_spec.channels, data_set.feature_spec.fps, data_set.feature_spec.stride) == (24, 16.0, 32)
    simulation = json.loads((tmp_path / "feature_spec.json").read_text(encoding="utf-8"))["simulation"]
    assert simulation["parameters"] == to_dict(SMALL)
    assert simulation["classes"] == list(class_names(SMALL))
    assert simulation["annotations"] == "invented"
    assert "Simulated, not extracted" in simulation["note"]
    assert {"mean_norm", "outlier", "drift_power", "slow_s", "action_contrast"} <= set(simulation["constants"])


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_equal_seeds_give_equal_bytes(tmp_path: Path) -> None:
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        simulate(tmp_path / name, config=SimulateConfig(**{**to_dict(SMALL), "seed": seed}))
    a, b, c = (digests(tmp_path / name) for name in "abc")
    assert a == b
    assert len(a) == 12 + 6
    assert all(a[name] != c[name] for name in a if name.startswith("features") or name == "annotations.json")


def test_every_class_is_in_both_subsets_and_scores_are_as_right_as_stated(tmp_path: Path) -> None:
    config = SimulateConfig(n_videos=400, n_classes=10, channels=16, stride=256)
    data_set = simulate(tmp_path, config=config)
    videos = data_set.annotations.videos
    for subset in ("training", "validation"):
        shown = {a.label for video in data_set.videos(subset) for a in videos[video].actions}
        assert shown == set(data_set.class_names)
    assert len(data_set.class_names) == 10
    right = [data_set.scores[video].label in {a.label for a in entry.actions} for video, entry in videos.items()]
    # Three standard deviations of a proportion of 0.885 over 400 videos.
    assert np.mean(right) == pytest.approx(0.885, abs=3 * (0.885 * 0.115 / 400) ** 0.5)
    # Two classes need two actions, which 40 % of the videos have; a tenth of these show two.
    assert 0.01 <= np.mean([len({a.label for a in entry.actions}) == 2 for entry in videos.values()]) <= 0.1
    durations = [entry.duration_s for entry in videos.values()]
    assert 100 < np.median(durations) < 150


ODD = {
    "version": "1.3",
    "taxonomy": [],
    "database": {
        "v_second": {
            "duration": 31.25,
            "subset": "validation",
            "annotations": [
                {"segment": [0.0, 31.400001], "label": "Ending late"},
                {"segment": [3.0, 3.1], "label": "Being short"},
                {"segment": [2.0, 20.0], "label": "Being short"},
            ],
        },
        "first": {"duration": 0.4, "subset": "testing", "annotations": []},
        "v_third": {
            "duration": 200,
            "subset": "training",
            "annotations": [{"segment": [1.0 / 3.0, 100], "label": "Being short"}],
        },
    },
}


def test_annotations_are_kept_exactly(tmp_path: Path) -> None:
    (tmp_path / "odd.json").write_text(json.dumps(ODD), encoding="utf-8")
    data_set = simulate(tmp_path / "data", config=SMALL, annotations=tmp_path / "odd.json")
    assert data_set.annotations == read_annotations(tmp_path / "odd.json")
    assert list(data_set.annotations.videos) == ["v_second", "first", "v_third"]
    assert {video: len(data_set.load(video)) for video in data_set.annotations.videos} == {
        "v_second": 16,
        "first": 1,
        "v_third": 100,
    }
    assert set(data_set.scores) == {"v_second", "v_third"}
    assert sorted(data_set.split("train.list") + data_set.split("test.list")) == ["Being short", "Ending late"]
    # Features depend on the video, not on the company it is in.
    alone = {**ODD, "database": {**ODD["database"]}}
    del alone["database"]["first"]
    (tmp_path / "alone.json").write_text(json.dumps(alone), encoding="utf-8")
    simulate(tmp_path / "alone", config=SMALL, annotations=tmp_path / "alone.json")
    kept, both = digests(tmp_path / "alone" / "features"), digests(tmp_path / "data" / "features")
    assert kept == {name: both[name] for name in ("v_second.npy", "v_third.npy")}


@pytest.mark.parametrize("source", ["folder", "file"])
def test_real_activitynet_annotations(shared_data: Path, tmp_path: Path, source: str) -> None:
    folder = shared_data / "activitynet"
    config = SimulateConfig(n_videos=40, channels=16, stride=256)
    path = folder if source == "folder" else folder / "anet_anno_action.json"
    data_set = simulate(tmp_path, config=config, annotations=path)
    real = read_public_annotations(folder / "anet_anno_action.json", folder / "video_info_new.csv")
    assert len(data_set.annotations.videos) == 40
    for video, entry in data_set.annotations.videos.items():
        assert entry == real.videos[video]
        assert len(data_set.load(video)) == max(1, round(entry.duration_s / 16))
    assert check(tmp_path) == []


def test_classes_may_come_with_their_own_embeddings(tmp_path: Path) -> None:
    names = ("Clean and jerk", "Walking the dog", "Skiing")
    bank = ClassBank(names, np.eye(3, 24, dtype=np.float32) + 0.5, "text tower")
    (tmp_path / "text_encoder").mkdir()
    data_set = simulate(tmp_path, config=SMALL, class_bank=bank)
    assert data_set.class_names == tuple(sorted(names))
    assert not (tmp_path / "class_bank.npz").exists()
    simulation = json.loads((tmp_path / "feature_spec.json").read_text(encoding="utf-8"))["simulation"]
    assert simulation["text_embeddings"] == "text tower"


def test_what_cannot_be_simulated_is_refused(tmp_path: Path) -> None:
    bank = ClassBank(("Skiing", "Rowing"), np.eye(2, 24, dtype=np.float32), "text tower")
    (tmp_path / "odd.json").write_text(json.dumps(ODD), encoding="utf-8")
    with pytest.raises(ValueError, match="Being short"):
        simulate(tmp_path / "a", config=SMALL, annotations=tmp_path / "odd.json", class_bank=bank)
    with pytest.raises(ValueError, match=r"shape \(K, 512\)"):
        simulate(tmp_path / "a", config=SimulateConfig(n_videos=4, channels=512), class_bank=bank)
    alike = ClassBank(("Skiing", "Rowing"), np.ones((2, 24), dtype=np.float32), "text tower")
    with pytest.raises(ValueError, match="differ"):
        simulate(tmp_path / "a", config=SMALL, class_bank=alike)
    with pytest.raises(ValueError, match="200 invented class names"):
        class_names(SimulateConfig(n_classes=201))
    (tmp_path / "none.json").write_text('{"database": {"v": {"duration": 5, "subset": "training", "annotations": []}}}')
    with pytest.raises(DataError, match="no video with an action"):
        simulate(tmp_path / "a", config=SMALL, annotations=tmp_path / "none.json")
    assert not (tmp_path / "a").exists()
    simulate(tmp_path / "b", config=SMALL)
    before = digests(tmp_path / "b")
    with pytest.raises(DataError, match=r"already holds annotations\.json"):
        simulate(tmp_path / "b", config=SMALL)
    assert digests(tmp_path / "b") == before


@pytest.mark.parametrize("video", ["../outside", "a/b", "a\\b", "a\0b", ""])
def test_a_video_that_cannot_name_a_file_is_refused(tmp_path: Path, video: str) -> None:
    actions = [{"segment": [1, 3], "label": label} for label in ("Skiing", "Rowing")]
    database = {video: {"duration": 10, "subset": "training", "annotations": actions}}
    (tmp_path / "given.json").write_text(json.dumps({"database": database}), encoding="utf-8")
    with pytest.raises(DataError, match="cannot name a file in"):
        simulate(tmp_path / "data", config=SMALL, annotations=tmp_path / "given.json")
    assert [path.name for path in tmp_path.iterdir()] == ["given.json"]


def test_annotations_of_one_class_are_refused(tmp_path: Path) -> None:
    entry = {"duration": 10, "subset": "training", "annotations": [{"segment": [1, 3], "label": "Skiing"}]}
    (tmp_path / "given.json").write_text(json.dumps({"database": {"v": entry}}), encoding="utf-8")
    with pytest.raises(DataError, match="one class, 'Skiing'; at least two"):
        simulate(tmp_path / "data", config=SMALL, annotations=tmp_path / "given.json")


def test_a_killed_simulation_is_no_data_set(tmp_path: Path) -> None:
    def stop(_stage: str, done: int, _total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        simulate(tmp_path, config=SMALL, progress=stop)
    with pytest.raises(DataError, match=r"annotations\.json"):
        open_data_set(tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_videos": 3}, "n_videos"),
        ({"n_classes": 1}, "n_classes"),
        ({"channels": 8}, "channels"),
        ({"seed": -1}, "seed"),
        ({"alignment": 1.5}, "alignment"),
        ({"max_duration_s": 10.0}, "max_duration_s"),
        ({"class_share": 0.9, "actionness_share": 0.9}, "actionness_share"),
        ({"unseen_fraction": 1.0}, "unseen_fraction"),
        ({"distractors": -0.1}, "distractors"),
        ({"boundary_s": 0.0}, "boundary_s"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=rf"simulate\.{message}"):
        SimulateConfig(**settings)


def test_names_are_distinct_and_those_that_share_words_are_near() -> None:
    names = name_pool()
    assert len(names) == len(set(names)) == 200
    bank = simulated_class_bank(("folding a towel", "folding a map", "rowing a raft"), width=256)
    near, far = bank.embeddings[0] @ bank.embeddings[1], bank.embeddings[0] @ bank.embeddings[2]
    assert np.linalg.norm(bank.embeddings, axis=1) == pytest.approx(1.0, abs=1e-5)
    assert near > far > 0.6
    assert simulated_class_bank(("folding a map",), width=256).embeddings[0] == pytest.approx(bank.embeddings[1])


def test_a_cut_changes_the_scene_and_nothing_that_videos_share() -> None:
    text = np.random.default_rng(0).standard_normal((6, 128))
    apart = []
    for shot_s in (0.0, 10.0):
        model = FeatureModel(SimulateConfig(channels=128, shot_s=shot_s), text)
        frames = model.render(Timeline(600.0, ()), n_snippets=600, snippet_s=1.0, rng=np.random.default_rng(1))
        units = frames / np.linalg.norm(frames, axis=1, keepdims=True)
        minutes_apart = (units[:-120] * units[120:]).sum(axis=1)  # where no drift of one place reaches
        apart.append(1 - float(minutes_apart.mean()))
        assert np.linalg.norm(frames, axis=1).mean() == pytest.approx(10.28, abs=0.1)
    assert apart[0] == pytest.approx(0.11, abs=0.03)  # the real video: 0.11 after 10 s, and no more after 15
    assert apart[1] - apart[0] == pytest.approx(0.17, abs=0.04)  # half of the scenes' 0.335 of a squared length of 1
