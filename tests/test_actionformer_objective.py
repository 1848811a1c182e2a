"""Targets, losses, gradients and optimizer steps of ActionFormer against the public program."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from actionformer_cases import Arrays, made_up_weights, public_config

from stale_edge.config import FrameGrid, RelativeGrid
from stale_edge.decoding import grid_seconds
from stale_edge.errors import ConfigError
from stale_edge.model.actionformer import ActionFormer
from stale_edge.model.actionformer.objective import PointObjective
from stale_edge.model.actionformer.objective_settings import PointObjectiveConfig
from stale_edge.model.actionformer.public_settings import read_public_settings
from stale_edge.model.actionformer.public_weights import actionformer_from_public, own_weights, public_places
from stale_edge.model.pyramid.crops import TRIES, VideoSegments, cut_segments, random_crop
from stale_edge.model.pyramid.points import assign_points, points_of
from stale_edge.model.pyramid.segments import grid_places
from stale_edge.training.averaging import WeightAverage
from stale_edge.training.decay import decay_groups
from stale_edge.training.schedule import warmup_cosine

LOSS_TOLERANCE = 1e-5
"""Relative tolerance."""
GRADIENT_TOLERANCE = 1e-4
"""Tolerance relative to the largest entry of each gradient."""
CASES = ["thumos", "activitynet", "no_centre_sampling", "no_actions"]


class Case:
    """A network, its objective and a batch of two videos, as the public program trained them."""

    def __init__(self, golden: Path, name: str) -> None:
        activitynet = name == "activitynet"
        settings = read_public_settings(public_config(golden, "small_activitynet" if activitynet else "small"))
        network = replace(settings.network, drop_path=0.0)
        loss = replace(settings.objective, center_radius=None) if name == "no_centre_sampling" else settings.objective
        self.arrays: Arrays = {
            key.removeprefix(f"{name}/"): value
            for key, value in np.load(golden / "actionformer_training.npz").items()
            if key.startswith(f"{name}/")
        }
        self.model: ActionFormer = actionformer_from_public(made_up_weights(network, 2 if activitynet else 1), network)
        self.model.train()
        self.objective = PointObjective(network, loss)
        self.videos = [
            VideoSegments(
                torch.from_numpy(self.arrays[f"segments{i}"]),
                torch.from_numpy(self.arrays[f"labels{i}"]),
                len(self.arrays[f"features{i}"]),
            )
            for i in range(2)
        ]
        self.features = torch.zeros(2, 64, 12)
        for i in range(2):
            self.features[i, : self.videos[i].n_snippets] = torch.from_numpy(self.arrays[f"features{i}"])
        self.targets = self.objective.stack(self.videos)

    def terms(self) -> dict[str, torch.Tensor]:
        inputs = self.objective.inputs(self.targets, self.model.config.n_classes)
        return self.objective.losses(self.model(self.features, self.model.class_bank(), *inputs), self.targets)

    def loss(self) -> torch.Tensor:
        return self.objective.total(self.terms()).mean()

    def own(self, prefix: str) -> dict[str, torch.Tensor]:
        """Give golden tensors of public names the names and shapes of this network."""
        public = {
            key.removeprefix(prefix): torch.from_numpy(np.array(value))
            for key, value in self.arrays.items()
            if key.startswith(prefix)
        }
        return own_weights(public, self.model.config)


@pytest.mark.parametrize("name", CASES)
def test_targets_are_those_of_the_public_program(golden: Path, name: str) -> None:
    case = Case(golden, name)
    points = points_of(case.model.config.ranges, 64)
    np.testing.assert_array_equal(torch.stack(points, dim=1), case.arrays["points"])
    np.testing.assert_array_equal(case.targets.classes, case.arrays["class_targets"])
    positive = case.arrays["class_targets"].sum(axis=2) > 0
    np.testing.assert_array_equal(case.targets.offsets[positive], case.arrays["offset_targets"][positive])
    assert not case.targets.offsets[~torch.from_numpy(positive)].any()


@pytest.mark.parametrize("name", CASES)
def test_losses_and_gradients_are_those_of_the_public_program(golden: Path, name: str) -> None:
    case = Case(golden, name)
    terms = case.terms()
    total = case.objective.total(terms).mean()
    for found, key in (
        (terms["classification"].mean(), "cls_loss"),
        (terms["offsets"].mean(), "reg_loss"),
        (total, "final_loss"),
        (case.objective.normalizer, "loss_normalizer_after"),
    ):
        assert found.item() == pytest.approx(float(case.arrays[key]), rel=LOSS_TOLERANCE), key

    total.backward()
    norm = torch.nn.utils.clip_grad_norm_(case.model.parameters(), 1.0)
    assert float(norm) == pytest.approx(float(case.arrays["gradient_norm"]), rel=GRADIENT_TOLERANCE)
    gradients = {name: parameter.grad for name, parameter in case.model.named_parameters()}
    expected = case.own("clipped_gradient/")
    assert len(expected) == 6
    for key, gradient in expected.items():
        found = gradients[key]
        assert found is not None
        np.testing.assert_allclose(found, gradient, rtol=0, atol=GRADIENT_TOLERANCE * float(gradient.abs().max()))
    scales = gradients["offset_head.scales"]
    assert scales is not None
    for level in (0, 2):
        expected_scale = float(case.arrays[f"clipped_gradient/reg_head.scale.{level}.scale"])
        assert float(scales[level]) == pytest.approx(expected_scale, rel=GRADIENT_TOLERANCE)


def test_three_steps_are_those_of_the_public_program(golden: Path) -> None:
    case = Case(golden, "thumos")
    average = WeightAverage(case.model, decay=0.999)
    optimizer = torch.optim.AdamW(decay_groups(case.model, weight_decay=0.05), lr=1e-4)
    for step in range(3):
        rate = warmup_cosine(step, base=1e-4, warmup_steps=3, steps=6)
        assert rate == pytest.approx(case.arrays["steps/learning_rates"][step], rel=1e-9)
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.zero_grad()
        loss = case.loss()
        assert loss.item() == pytest.approx(float(case.arrays["steps/losses"][step]), rel=LOSS_TOLERANCE)
        assert float(case.objective.normalizer) == pytest.approx(float(case.arrays["steps/loss_normalizers"][step]))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(case.model.parameters(), 1.0)
        optimizer.step()
        average.update(case.model)
    weights, expected = case.model.state_dict(), case.own("steps/w/")
    assert expected.keys() == weights.keys()
    for name, tensor in expected.items():
        # Adam divides gradients by their own size: rounding in a gradient near zero becomes a part of a step, 1e-4.
        np.testing.assert_allclose(weights[name], tensor, rtol=0, atol=1e-5, err_msg=name)
    averaged = average.module.state_dict()
    for public, own in (
        ("backbone.stem.0.mlp.0.bias", "stem.0.feedforward.0.bias"),
        ("cls_head.cls_head.conv.bias", "class_head.rows.linear.bias"),
    ):
        np.testing.assert_allclose(averaged[own], case.arrays[f"steps/ema/{public}"], rtol=0, atol=1e-7)
    scale = float(case.arrays["steps/ema/reg_head.scale.0.scale"])
    assert float(averaged["offset_head.scales"][0]) == pytest.approx(scale, abs=1e-7)


def test_weight_decay_acts_on_the_weights_of_the_public_list(golden: Path) -> None:
    case = Case(golden, "thumos")
    listed = json.loads((golden / "actionformer_optimizer.json").read_text())
    own = {place.public: place.own for place in public_places(case.model.config)}
    names = {id(parameter): name for name, parameter in case.model.named_parameters()}
    decayed, others = decay_groups(case.model, weight_decay=0.05)
    assert {names[id(parameter)] for parameter in decayed["params"]} == {own[key] for key in listed["weight_decay"]}
    assert {names[id(parameter)] for parameter in others["params"]} == {own[key] for key in listed["no_weight_decay"]}
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.05, 0.0)


def test_learning_rates_are_those_of_the_public_schedule(golden: Path) -> None:
    schedule = json.loads((golden / "actionformer_optimizer.json").read_text())["schedule"]
    per_epoch = schedule["iterations_per_epoch"]
    warmup = schedule["warmup_epochs"] * per_epoch
    steps = warmup + schedule["epochs"] * per_epoch
    for step, rate in schedule["learning_rate_used_in_iteration"].items():
        found = warmup_cosine(int(step), base=schedule["base"], warmup_steps=warmup, steps=steps)
        assert found == pytest.approx(rate, rel=1e-9, abs=1e-18), step


def test_crops_cut_actions_as_the_public_program(golden: Path) -> None:
    cases: list[dict[str, Any]] = json.loads((golden / "actionformer_data.json").read_text())["truncation"]
    assert len(cases) > 3
    for case in cases:
        cut = cut_segments(
            VideoSegments(
                torch.tensor(case["segments"]).reshape(-1, 2),
                torch.tensor(case["labels"], dtype=torch.int64),
                10_000,
                case["offset"],
            ),
            start=case["start"],
            length=case["length"],
            kept_share=case["trunc_thresh"],
        )
        np.testing.assert_array_equal(cut.segments, np.array(case["kept_segments"], np.float32).reshape(-1, 2))
        assert cut.labels.tolist() == case["kept_labels"]
        assert cut.n_snippets == case["n"]


def test_random_crops_hold_an_action_and_fit() -> None:
    generator = torch.Generator().manual_seed(0)
    video = VideoSegments(torch.tensor([[100.0, 110.0]]), torch.tensor([3]), 400, 2.0)
    for _ in range(50):
        start, part = random_crop(video, max_length=64, generator=generator)
        assert part.n_snippets == 64
        assert 0 <= start <= 400 - 64
        assert part.labels.tolist() == [3]
        inside = part.segments + start
        assert inside[0, 0] >= 100
        assert inside[0, 1] - inside[0, 0] >= 5  # half of the action
    starts = {random_crop(video, max_length=64, generator=generator)[0] for _ in range(30)}
    assert len(starts) > 10


def test_random_crops_of_short_videos_keep_nine_tenths() -> None:
    generator = torch.Generator().manual_seed(0)
    video = VideoSegments(torch.tensor([[2.0, 8.0]]), torch.tensor([0]), 20, 2.0)
    lengths = {random_crop(video, max_length=64, generator=generator)[1].n_snippets for _ in range(60)}
    assert lengths == {18, 19, 20}


def test_a_video_without_actions_is_cropped_once() -> None:
    generator = torch.Generator().manual_seed(0)
    video = VideoSegments(torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64), 400, 2.0)
    before = generator.get_state()
    random_crop(video, max_length=64, generator=generator)
    torch.randint(0, 400 - 64 + 1, (), generator=(other := torch.Generator().set_state(before)))
    assert torch.equal(generator.get_state(), other.get_state()), f"more draws than one, up to {TRIES}"


def test_weights_of_offsets_can_follow_the_classes(golden: Path) -> None:
    case = Case(golden, "thumos")
    objective = PointObjective(case.model.config, replace(case.objective.config, offset_weight=None))
    terms = {"classification": torch.tensor([1.0, 3.0], requires_grad=True), "offsets": torch.tensor([0.25, 0.75])}
    total = objective.total(terms)
    assert total.tolist() == [2.0, 6.0]  # offsets count (1 + 3) / (0.25 + 0.75) = 4
    total.sum().backward()
    assert terms["classification"].grad is not None
    assert terms["classification"].grad.tolist() == [1.0, 1.0]  # none through the weight


def test_the_normalizer_is_part_of_the_state_and_rests_outside_training(golden: Path) -> None:
    case = Case(golden, "thumos")
    case.loss()
    resumed = PointObjective(case.model.config, case.objective.config)
    resumed.load_state_dict(case.objective.state_dict())
    assert float(resumed.normalizer) == pytest.approx(92.4)
    case.objective.eval()
    case.loss()
    assert float(case.objective.normalizer) == pytest.approx(92.4)


@pytest.mark.parametrize(
    ("segment", "n_levels"),
    [
        ((20.0, 28.0), 2),  # the middle: distances of 4, the end of one range and the start of the next
        ((20.5, 27.5), 1),
    ],
)
def test_a_distance_on_a_border_belongs_to_two_levels(
    golden: Path, segment: tuple[float, float], n_levels: int
) -> None:
    config = Case(golden, "thumos").model.config
    points = points_of(config.ranges, 64)
    classes, _ = assign_points(points, torch.tensor([segment]), torch.tensor([1]), n_classes=3, center_radius=None)
    middle = classes[points.place == 24][:, 1]
    assert int(middle.sum()) == n_levels


def test_seconds_become_places_as_in_the_public_readers(golden: Path) -> None:
    data = json.loads((golden / "actionformer_data.json").read_text())
    case = data["thumos_reader"]
    grid = FrameGrid(case["fps"], case["feat_stride"], case["num_frames"], duration_s=20.0)
    seconds = torch.tensor([action["segment"] for action in case["annotations"]], dtype=torch.float64)
    np.testing.assert_allclose(
        grid_places(seconds, grid, n_snippets=73), case["segments_on_the_grid"], rtol=0, atol=1e-5
    )


def test_places_and_seconds_are_inverse() -> None:
    places = np.array([[0.5, 3.25], [2.0, 7.5]])
    for grid in (FrameGrid(30.0, 4, 16, duration_s=20.0), RelativeGrid(20.0)):
        seconds = torch.from_numpy(grid_seconds(places, grid, n_points=40))
        np.testing.assert_allclose(grid_places(seconds, grid, n_snippets=40), places, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"center_radius": 0.0}, r"loss\.center_radius must be a number > 0"),
        ({"offset_weight": -1.0}, r"loss\.offset_weight must be a number > 0"),
        ({"label_smoothing": 1.0}, r"loss\.label_smoothing must be a number in \[0, 1\)"),
        ({"initial_normalizer": 0.0}, r"loss\.initial_normalizer must be a number > 0"),
    ],
)
def test_losses_that_mean_nothing_are_refused(change: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        PointObjectiveConfig(**change)
