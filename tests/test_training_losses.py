"""Losses of eq. 9 to 12 against their slow twins, and the properties of each."""

import math

import numpy as np
import oracle
import pytest
import torch

from stale_edge.config import LossConfig, ModelConfig
from stale_edge.model.stale.losses import (
    ConsistencyProjection,
    classification_loss,
    completeness_loss,
    consistency_loss,
    mask_loss,
)
from stale_edge.model.stale.objective import StaleObjective
from stale_edge.model.stale.output import StaleLogits, logits_of
from stale_edge.model.targets import IGNORED, BatchTargets

B, K, T, D = 3, 4, 9, 6
FLOAT32 = 2e-5  # sums of some dozen float32 terms of size 1 to 10


def _case(seed: int = 0) -> tuple[StaleLogits, BatchTargets, tuple[torch.Tensor, torch.Tensor]]:
    """Random outputs; video 0 has two actions and an ignored snippet, video 1 none, video 2 is one long action."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    output = StaleLogits(
        class_logits=3 * random(B, K + 1, T),
        mask_logits=random(B, T, T),
        foreground_logits=random(B, T),
        embedding=random(B, T, D),
    )
    labels = torch.full((B, T), K)
    masks = torch.zeros(B, T, T)
    labels[0, 1:4], masks[0, 1:4, 1:4] = 2, 1
    labels[0, 6:7], masks[0, 6:7, 6:7] = 0, 1
    labels[0, 8] = IGNORED
    labels[2], masks[2] = 3, 1
    return output, BatchTargets(labels, masks), (random(B, T, D), random(B, T, D))


class _Given(torch.nn.Module):
    """Replaces the projections of eq. 12."""

    def __init__(self, projected: tuple[torch.Tensor, torch.Tensor]) -> None:
        super().__init__()
        self.projected = projected

    def forward(self, _: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.projected


def _objective(config: LossConfig, projected: tuple[torch.Tensor, torch.Tensor]) -> StaleObjective:
    objective = StaleObjective(ModelConfig(embed_dim=D, n_heads=1), config)
    objective.projection = _Given(projected)  # type: ignore[assignment]
    return objective


@pytest.mark.parametrize("seed", range(3))
def test_each_term_equals_its_oracle(seed: int) -> None:
    output, targets, projected = _case(seed)
    config = LossConfig(class_threshold=0.4, mask_threshold=0.6, top_snippets=3)
    terms = _objective(config, projected).losses(output, targets)
    for b in range(B):
        labels = targets.labels[b].tolist()
        logits, masks = output.class_logits[b].double().numpy(), output.mask_logits[b].double().sigmoid().numpy()
        assert terms["classification"][b] == pytest.approx(oracle.classification_loss(logits, labels), abs=FLOAT32)
        expected_mask = oracle.mask_loss(masks, targets.masks[b].numpy(), labels, dice_weight=config.dice)
        assert terms["mask"][b] == pytest.approx(expected_mask, abs=FLOAT32)
        expected = oracle.completeness_loss(output.foreground_logits[b].double().sigmoid().numpy(), labels, n_classes=K)
        assert terms["completeness"][b] == pytest.approx(expected, abs=FLOAT32)
        expected = oracle.consistency_loss(
            logits,
            masks,
            projected[0][b].double().numpy(),
            projected[1][b].double().numpy(),
            class_threshold=0.4,
            mask_threshold=0.6,
            k=3,
        )
        assert terms["consistency"][b] == pytest.approx(expected, abs=FLOAT32)


def test_a_perfect_prediction_costs_nothing() -> None:
    _, targets, (features, _) = _case()
    labels = targets.labels.clamp(min=0)
    logits = 100 * torch.nn.functional.one_hot(labels, K + 1).float().transpose(1, 2)
    output = StaleLogits(logits, logits_of(targets.masks), logits_of((targets.labels < K).float()), features)
    terms = _objective(LossConfig(top_snippets=T), (features, features)).losses(output, targets)
    for name in ("classification", "mask", "completeness"):
        assert terms[name].abs().max() < 1e-5, name
    # videos 0 and 2: both streams pick the same snippets, up to the ignored one of video 0
    assert terms["consistency"][1] == 0
    assert terms["consistency"][2].abs() < 1e-6


def test_masks_worked_out_by_hand() -> None:
    # T = 2, snippet 0 is an action of one snippet, snippet 1 background.
    masks = torch.tensor([[[0.8, 0.4], [0.1, 0.2]]])
    targets = torch.tensor([[[1.0, 0.0], [0.0, 0.0]]])
    labels = torch.tensor([[0, 1]])
    entropy = -math.log(0.8) - math.log(0.6)  # beta_fg = beta_bg = 2, divided by T = 2
    dice = 1 - 2 * 0.8 / (0.64 + 0.16 + 1)
    empty = -(math.log(0.9) + math.log(0.8)) / 2
    found = mask_loss(logits_of(masks), targets, labels, dice_weight=0.4)
    assert found.item() == pytest.approx(entropy + 0.4 * dice + empty, abs=1e-6)


def test_the_mask_loss_falls_as_the_mask_gets_better() -> None:
    """The printed equation, without its minus, would rise."""
    _, targets, _ = _case()
    costs = [
        mask_loss(
            logits_of(targets.masks.lerp(torch.full_like(targets.masks, 0.5), t)),
            targets.masks,
            targets.labels,
            dice_weight=0.4,
        )
        .sum()
        .item()
        for t in (1.0, 0.5, 0.1)
    ]
    assert costs[0] > costs[1] > costs[2]


def test_ignored_snippets_do_not_count() -> None:
    output, targets, _ = _case()
    changed = output._replace(
        class_logits=output.class_logits.clone(),
        mask_logits=output.mask_logits.clone(),
        foreground_logits=output.foreground_logits.clone(),
    )
    changed.class_logits[0, :, 8] += torch.arange(K + 1)
    changed.mask_logits[0, 8] = 5
    changed.foreground_logits[0, 8] = 5
    for before, after in (
        (
            classification_loss(output.class_logits, targets.labels),
            classification_loss(changed.class_logits, targets.labels),
        ),
        (
            mask_loss(output.mask_logits, targets.masks, targets.labels, dice_weight=0.4),
            mask_loss(changed.mask_logits, targets.masks, targets.labels, dice_weight=0.4),
        ),
        (
            completeness_loss(output.foreground_logits, targets, n_classes=K),
            completeness_loss(changed.foreground_logits, targets, n_classes=K),
        ),
    ):
        assert torch.equal(before, after)


def test_a_video_of_ignored_snippets_costs_zero_and_has_a_gradient() -> None:
    output, targets, _ = _case()
    logits = output.class_logits.clone().requires_grad_()
    loss = classification_loss(logits, torch.full_like(targets.labels, IGNORED)).sum()
    loss.backward()
    assert loss.item() == 0
    assert logits.grad is not None
    assert logits.grad.abs().max() == 0


def test_saturated_masks_stay_finite() -> None:
    _, targets, _ = _case()
    logits = logits_of(1 - targets.masks).requires_grad_()
    loss = mask_loss(logits, targets.masks, targets.labels, dice_weight=0.4).sum()
    loss.backward()
    assert math.isfinite(loss.item())
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_a_mask_that_is_not_a_number_gives_a_loss_that_is_not() -> None:
    """So that the loop can name the video."""
    output, targets, _ = _case()
    masks, foreground = output.mask_logits.clone(), output.foreground_logits.clone()
    masks[1, 2, 3] = foreground[1, 2] = float("nan")
    by_mask = mask_loss(masks, targets.masks, targets.labels, dice_weight=0.4)
    assert by_mask.isnan().tolist() == [False, True, False]
    assert completeness_loss(foreground, targets, n_classes=K).isnan().tolist() == [False, True, False]


def test_no_foreground_in_a_stream_means_no_consistency() -> None:
    output, _, projected = _case()
    logits = torch.zeros_like(output.class_logits)
    logits[:, -1] = 50  # every snippet is background
    found = consistency_loss(
        logits, output.mask_logits, *projected, class_threshold=0.3, mask_threshold=0.5, top_snippets=3
    )
    assert found.tolist() == [0.0] * B


@pytest.mark.parametrize("stream", ["classes", "masks"])
def test_consistency_counts_what_is_above_a_threshold_and_not_what_is_on_it(stream: str) -> None:
    """Equation 12 binarises by "greater than": a stream whose best snippet lies on its threshold shows nothing."""
    logits = torch.zeros(1, 2, 2)  # one class and background, equally likely: 0.5 without rounding
    masks = torch.zeros(1, 2, 2)  # 0.5
    features = torch.eye(2)[None]
    other = -features
    for on_threshold, wanted in ((True, 0.0), (False, 2.0)):
        limits = {"class_threshold": 0.25, "mask_threshold": 0.25}
        limits["class_threshold" if stream == "classes" else "mask_threshold"] = 0.5 if on_threshold else 0.49
        found = consistency_loss(logits, masks, features, other, top_snippets=2, **limits)
        assert found.tolist() == pytest.approx([wanted], abs=FLOAT32)


def test_consistency_reaches_the_features_and_not_the_scores() -> None:
    output, _, _ = _case()
    logits, masks = output.class_logits.clone().requires_grad_(), output.mask_logits.clone().requires_grad_()
    embedding = output.embedding.clone().requires_grad_()
    projection = ConsistencyProjection(D)
    consistency_loss(
        logits, masks, *projection(embedding), class_threshold=0.2, mask_threshold=0.5, top_snippets=3
    ).sum().backward()
    assert embedding.grad is not None
    assert embedding.grad.abs().sum() > 0
    assert logits.grad is None
    assert masks.grad is None
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in projection.parameters())


def test_weights_of_the_overall_objective() -> None:
    output, targets, projected = _case()
    config = LossConfig(classification=2.0, mask=0.5, completeness=3.0, consistency=0.25)
    terms = _objective(config, projected).losses(output, targets)
    expected = 2 * terms["classification"] + 0.5 * terms["mask"] + 3 * terms["completeness"]
    expected = expected + 0.25 * terms["consistency"]
    np.testing.assert_allclose(_objective(config, projected).total(terms), expected, rtol=1e-6)
