"""The rendered videos of `demo --video`: pictures, captions of the tiny CLIP, and a small run of all stages."""

import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stale_edge.demo.video import video_demo
from stale_edge.demo.video.actions import (
    COLOURS,
    MANNERS,
    RESTING,
    SEEN,
    SHAPES,
    UNSEEN,
    Actor,
    captioned_actors,
    captions,
)
from stale_edge.demo.video.clip import IMAGE_SIZE, PREPROCESSING, CaptionedFrames, make_tokenizer, train_clip
from stale_edge.demo.video.drawing import Place, draw, signed_distance
from stale_edge.demo.video.ranking import map_at_half, random_ranking
from stale_edge.demo.video.render import frames, render
from stale_edge.demo.video.script import FPS, SHOT_S, captioned_script, untrimmed_script
from stale_edge.demo.video.video_world import (
    FRAMES_PER_SHOT,
    FULL_SIZE,
    WorldSize,
    read_captioned,
    render_captioned,
    render_untrimmed,
)
from stale_edge.video import ClipPreprocess, read_frames

SIDE = 48


# ---- the vocabulary -------------------------------------------------------------------------------------------------


def test_there_are_enough_named_actions_and_none_is_both_seen_and_unseen() -> None:
    assert len(set(SEEN)) == len(SEEN) == 18
    assert len(set(UNSEEN)) == len(UNSEEN) == 6
    assert not set(SEEN) & set(UNSEEN)


def test_every_word_of_an_unseen_action_is_known_from_seen_ones() -> None:
    for part in range(3):
        assert {actor[part] for actor in UNSEEN} <= {actor[part] for actor in SEEN}


def test_no_caption_speaks_of_an_unseen_action() -> None:
    for caption in (text for actor in captioned_actors() for text in captions(actor)):
        words = set(caption.split())
        assert not any(set(actor) <= words for actor in UNSEEN), caption


def test_the_tiny_clip_is_shown_everything_else() -> None:
    everything = {Actor(*parts) for parts in itertools.product(COLOURS, SHAPES, (*MANNERS, RESTING))}
    assert everything - set(captioned_actors()) == set(UNSEEN)


# ---- drawing --------------------------------------------------------------------------------------------------------


def _corners(shape: str) -> list[tuple[float, float]]:
    """The same shapes as polygons."""
    if shape == "square":
        return [(-0.84, -0.84), (0.84, -0.84), (0.84, 0.84), (-0.84, 0.84)]
    if shape == "triangle":
        base, top = 0.68 - 0.12, -0.12 - 0.62 / 0.5
        half = (0.62 + 0.5 * 0.68) / (math.sqrt(3) / 2)
        return [(-half, base), (half, base), (0.0, top)]
    if shape == "cross":
        a = 0.36
        return [
            (-a, -1),
            (a, -1),
            (a, -a),
            (1, -a),
            (1, a),
            (a, a),
            (a, 1),
            (-a, 1),
            (-a, a),
            (-1, a),
            (-1, -a),
            (-a, -a),
        ]
    radii = (1.12, 0.46 * 1.12)
    return [(radii[k % 2] * math.sin(k * math.pi / 5), -radii[k % 2] * math.cos(k * math.pi / 5)) for k in range(10)]


def _inside(x: float, y: float, corners: list[tuple[float, float]]) -> bool:
    """Count how often a ray to the right crosses the edges."""
    inside = False
    for (x1, y1), (x2, y2) in zip(corners, corners[1:] + corners[:1], strict=True):
        if (y1 > y) != (y2 > y) and x < x1 + (y - y1) / (y2 - y1) * (x2 - x1):
            inside = not inside
    return inside


@pytest.mark.parametrize("shape", ["square", "triangle", "star", "cross"])
def test_a_shape_is_the_inside_of_its_polygon(shape: str) -> None:
    points = np.random.default_rng(0).uniform(-1.4, 1.4, (400, 2)).astype(np.float32)
    distance = signed_distance(shape, points[:, 0], points[:, 1])
    corners = _corners(shape)
    for (x, y), away in zip(points.tolist(), distance.tolist(), strict=True):
        if abs(away) > 1e-4:
            assert (away < 0) == _inside(x, y, corners), (x, y)


def test_an_unknown_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="no shape 'blob'"):
        signed_distance("blob", np.zeros(1, np.float32), np.zeros(1, np.float32))


@pytest.mark.parametrize("shape", SHAPES)
def test_one_picture_tells_the_manners_apart(shape: str) -> None:
    place = Place(0.5, 0.5, 0.16, 0.2, 0.2, 0.6, 0.1)
    drawn = []
    for manner in (*MANNERS, RESTING):
        image = np.full((SIDE, SIDE, 3), 0.4, dtype=np.float32)
        draw(image, Actor("red", shape, manner), place, 1.0)
        drawn.append(image)
    for one, other in itertools.combinations(drawn, 2):
        assert np.abs(one - other).max(axis=2).__gt__(0.2).mean() > 0.01  # of the picture's pixels


# ---- scripts and files ----------------------------------------------------------------------------------------------


def test_actions_of_a_script_follow_each_other_within_the_video() -> None:
    for number in range(50):
        script = untrimmed_script(SEEN, (3, number))
        actions = script.actions
        assert 2 <= len(actions) <= 4
        assert len({action.actor for action in actions}) <= 2
        assert all(action.actor in SEEN for action in actions)
        edges = [edge for action in actions for edge in (action.start_s, action.end_s)]
        assert edges == sorted(edges)
        assert edges[0] > 0
        assert edges[-1] < script.duration_s


def test_something_rests_in_most_videos_often_what_acts() -> None:
    scripts = [untrimmed_script(SEEN, (4, number)) for number in range(50)]
    resting = [{a.actor for a in s.appearances if a.actor.manner == RESTING} for s in scripts]
    decoys = [{a.actor._replace(manner=RESTING) for a in s.actions} for s in scripts]
    assert sum(map(bool, resting)) > 45
    assert sum(bool(there & own) for there, own in zip(resting, decoys, strict=True)) > 30


def test_the_same_script_gives_the_same_pictures_and_another_seed_others() -> None:
    one, again, other = (
        np.stack(list(frames(captioned_script(SEEN, (seed, 7), n_shots=2), side=SIDE))) for seed in (0, 0, 1)
    )
    assert one.shape == (round(2 * SHOT_S * FPS), SIDE, SIDE, 3)
    np.testing.assert_array_equal(one, again)
    assert (one != other).mean() > 0.5


def test_a_rendered_file_shows_what_was_drawn(tmp_path: Path) -> None:
    script = captioned_script(SEEN, (0, 8), n_shots=3)
    render(script, tmp_path / "video.mp4", side=SIDE)
    drawn = np.stack(list(frames(script, side=SIDE))).astype(float)
    read = list(read_frames(tmp_path / "video.mp4"))
    assert [time_s for time_s, _ in read] == pytest.approx([number / FPS for number in range(len(drawn))])
    assert np.abs(np.stack([picture for _, picture in read]) - drawn).mean() < 6  # of 255: H.264 halves the colours


def test_every_captioned_frame_is_read_with_its_own_caption(tmp_path: Path) -> None:
    folder = tmp_path / "captioned"
    render_captioned(folder, n_videos=1, seed=5)
    read = read_captioned(folder, ClipPreprocess.from_transformers(PREPROCESSING))
    shots = captioned_script(captioned_actors(), (5, 0, 0)).shots
    assert read.pixels.shape == (len(shots) * FRAMES_PER_SHOT, 3, IMAGE_SIZE, IMAGE_SIZE)
    assert read.actors == tuple(shot.actor for shot in shots for _ in range(FRAMES_PER_SHOT))


def test_the_data_set_keeps_unseen_actions_out_of_training(tmp_path: Path) -> None:
    truth = render_untrimmed(tmp_path, size=WorldSize(captioned=0, training=2, closed=1, open=1), seed=0)
    labels = {name: {action.label for action in truth.videos[name].actions} for name in truth.videos}
    seen, unseen = ({actor.name for actor in part} for part in (SEEN, UNSEEN))
    assert [video.subset for video in truth.videos.values()] == ["training", "training", "validation", "validation"]
    assert labels["train_000"] | labels["train_001"] | labels["seen_000"] <= seen
    assert labels["unseen_000"] <= unseen
    assert sorted(path.stem for path in (tmp_path / "videos").iterdir()) == sorted(truth.videos)
    assert json.loads((tmp_path / "annotations.json").read_text()) == truth.to_layout()


# ---- the tiny CLIP --------------------------------------------------------------------------------------------------


def test_words_of_the_world_are_tokens_and_others_fall_apart() -> None:
    tokenizer = make_tokenizer()
    for word in (*COLOURS, *SHAPES, *MANNERS):
        assert len(tokenizer(word, add_special_tokens=False).input_ids) == 1, word
    assert len(tokenizer("zebra", add_special_tokens=False).input_ids) > 1


def test_the_tiny_clip_is_read_like_the_real_one(tmp_path: Path) -> None:
    import torch
    from transformers import CLIPModel, CLIPTokenizer

    from stale_edge.model.text import TextEncoder
    from stale_edge.model.vision import load_vision_tower

    rng = np.random.default_rng(0)
    actors = captioned_actors()[:8]
    pixels = rng.standard_normal((8, 3, IMAGE_SIZE, IMAGE_SIZE)).astype(np.float16)
    steps: list[str] = []
    trained = train_clip(
        CaptionedFrames(pixels, actors), tmp_path, epochs=2, seed=0, progress=lambda *call: steps.append(call[3])
    )
    assert trained.frames == 8
    assert len(trained.losses) == len(steps) == 2
    model, tokenizer = CLIPModel.from_pretrained(tmp_path), CLIPTokenizer.from_pretrained(tmp_path)
    with torch.no_grad():
        text = model.get_text_features(**tokenizer(["red circle bouncing"], return_tensors="pt")).pooler_output
        image = model.get_image_features(pixel_values=torch.from_numpy(pixels[:1]).float()).pooler_output
        torch.testing.assert_close(TextEncoder.load(tmp_path).encode(["red circle bouncing"]), text)
    np.testing.assert_allclose(load_vision_tower(tmp_path).embed(pixels[:1].astype(np.float32)), image, atol=1e-5)


# ---- the yardstick --------------------------------------------------------------------------------------------------


def _layouts() -> tuple[dict[str, Any], dict[str, Any]]:
    truth = {"database": {"v": {"duration": 100.0, "subset": "validation", "annotations": [
        {"label": "a", "segment": [0.0, 10.0]}]}}}  # fmt: skip
    rows = [{"label": "a", "score": 0.9, "segment": [0.0, 10.0]}]
    rows += [{"label": "a", "score": 0.1, "segment": [20.0 + i, 25.0 + i]} for i in range(9)]
    return truth, {"version": "1.3", "results": {"v": rows}, "external_data": {}}


def test_a_random_ranking_of_ten_segments_with_one_right_has_the_mean_of_the_reciprocal_ranks() -> None:
    truth, predictions = _layouts()
    assert map_at_half(truth, predictions, classes=["a"]) == 100.0
    expected = 100 * np.mean([1 / rank for rank in range(1, 11)])  # AP is the precision at the one hit
    assert random_ranking(truth, predictions, classes=["a"], seed=0, draws=400) == pytest.approx(expected, abs=4)


# ---- the whole path -------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_whole_path_at_a_small_scale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "demo"
    monkeypatch.setattr(video_demo, "CLIP_EPOCHS", 2)
    monkeypatch.setattr(video_demo, "EPOCHS", 4)
    result = video_demo.run_video_demo(out, seed=1, scale=0.05)
    assert result == json.loads((out / "demo.json").read_text())
    assert result["schema"] == "stale-edge-demo-video/1"
    assert result["n_videos"] == sum(FULL_SIZE.scaled(0.05)) - FULL_SIZE.scaled(0.05).captioned
    assert result["tiny_clip"]["loss"] < 3.9  # log 54, for the captions of a batch, is guessing
    for part in ("closed_set", "open_set"):
        assert 0 <= result[part]["random_ranking_mAP_50"] <= 100
        assert 0 <= result[part]["mAP_50"] <= 100
    speed = result["detect"]
    assert min(speed["seconds"].values()) > 0
    assert speed["video_s"] == pytest.approx(
        sum(
            video["duration"]
            for name, video in json.loads((out / "data" / "annotations.json").read_text())["database"].items()
            if not name.startswith("train")
        ),
        abs=5,
    )
    found = json.loads((out / "detections" / "detections.json").read_text())["results"]
    tests = {path.stem for path in (out / "data" / "videos").iterdir() if not path.stem.startswith("train")}
    assert set(found) == tests
    assert (out / "report.html").read_text().count("data:image/png;base64,") >= 6
    assert len(list((out / "detections").glob("*.srt"))) == len(list((out / "detections").glob("*.html"))) == 4
