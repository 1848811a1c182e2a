"""The linear probe: its outputs against NumPy, its losses by hand, and that it learns what is linear."""

import numpy as np
import pytest
import torch

from stale_edge.config import FeaturesConfig, LinearConfig, LinearLossConfig
from stale_edge.errors import ConfigError
from stale_edge.model.linear.objective import LinearObjective
from stale_edge.model.linear.probe import LinearProbe
from stale_edge.model.targets import IGNORED, BatchTargets

CONFIG = LinearConfig(feature_channels=6, embed_dim=5)


def probe(**changes: object) -> LinearProbe:
    torch.manual_seed(0)
    model = LinearProbe(LinearConfig(feature_channels=6, embed_dim=5, **changes))  # type: ignore[arg-type]
    torch.nn.init.normal_(model.actionness.weight)
    return model.eval()


def unit(x: np.ndarray) -> np.ndarray:
    return np.asarray(x / np.linalg.norm(x, axis=-1, keepdims=True))


@pytest.mark.parametrize("video_weight", [0.0, 0.4, 1.0])
def test_outputs_are_the_two_linear_maps(video_weight: float) -> None:
    model = probe(video_weight=video_weight)
    features, classes = torch.randn(1, 9, 6) + 4, torch.randn(3, 5)
    with torch.inference_mode():
        output = model(features, classes)
    x = features[0].numpy().astype(np.float64)
    x = x - x.mean(axis=0)
    actionness = x @ model.actionness.weight.detach().numpy()[0]
    seen = x @ model.project.weight.detach().numpy().T
    weights = (1 / (1 + np.exp(-actionness)))[:, None] ** 2
    mixed = (1 - video_weight) * seen + video_weight * (weights * seen).sum(axis=0) / weights.sum()
    logits = unit(mixed) @ unit(classes.numpy()).T / CONFIG.temperature
    softmax = np.exp(output.class_logits[0].numpy())
    softmax /= softmax.sum(axis=0)
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True) / (1 + np.exp(-actionness))[:, None]
    np.testing.assert_allclose(softmax[:-1].T, expected, atol=1e-5)
    np.testing.assert_allclose(output.actionness_logits[0].numpy(), actionness, atol=1e-4)


def test_losses_by_hand() -> None:
    objective = LinearObjective(CONFIG, LinearLossConfig(actionness=2.0))
    labels = torch.tensor([[0, 2, IGNORED, 1]])  # two classes: an action, background, another class's action, an action
    snippet_logits = torch.tensor([[[0.0, 9.0, 9.0, 1.0], [0.0, -9.0, 9.0, 3.0]]])
    actionness = torch.tensor([[2.0, -1.0, 50.0, 0.0]])
    output = type("Output", (), {"snippet_logits": snippet_logits, "actionness_logits": actionness})()
    terms = objective.losses(output, BatchTargets(labels, torch.zeros(1, 4, 4)))
    by_class = (np.log(2.0) + np.log1p(np.exp(-2.0))) / 2
    by_snippet = (np.log1p(np.exp(-2.0)) + np.log1p(np.exp(-1.0)) + np.log(2.0)) / 3
    assert terms["classification"].tolist() == pytest.approx([by_class])
    assert terms["actionness"].tolist() == pytest.approx([by_snippet])
    assert objective.total(terms).tolist() == pytest.approx([by_class + 2 * by_snippet])


def test_it_learns_a_linear_task_and_names_a_class_that_it_was_not_trained_on() -> None:
    """Actions are `text @ turn` plus one shared direction; the third class is never shown in training."""
    torch.manual_seed(1)
    text = torch.nn.functional.normalize(torch.randn(12, 16), dim=1)
    turn, shared = torch.linalg.qr(torch.randn(16, 16))[0], 2 * torch.nn.functional.one_hot(torch.tensor(3), 16)
    model = LinearProbe(LinearConfig(feature_channels=16, embed_dim=16))
    objective = LinearObjective(model.config, LinearLossConfig())
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)

    def batch(classes: torch.Tensor) -> tuple[torch.Tensor, BatchTargets]:
        labels = torch.full((len(classes), 12), 12)
        labels[:, 4:8] = classes[:, None]
        scene = torch.randn(len(classes), 1, 16)
        action = (text[classes] @ turn * 3 + shared)[:, None] * (labels < 12)[..., None]
        return scene + action + 0.1 * torch.randn(len(classes), 12, 16), BatchTargets(labels, torch.zeros(0))

    for _ in range(300):
        features, targets = batch(torch.randint(0, 11, (16,)))
        loss = objective.total(objective.losses(model(features, text), targets)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    features, _ = batch(torch.full((8,), 11))
    with torch.inference_mode():
        logits = model.eval()(features, text).class_logits
    assert (logits[:, :-1].argmax(dim=1) == 11).all()
    assert (logits[:, -1, 5] < logits[:, -1, 0]).all()  # background is more likely outside the action


def test_settings_are_checked() -> None:
    assert CONFIG.features == FeaturesConfig(normalize="video-mean")
    with pytest.raises(ConfigError, match=r"model\.video_weight"):
        LinearConfig(video_weight=1.5)
    with pytest.raises(ConfigError, match=r"loss\.actionness"):
        LinearLossConfig(actionness=-1.0)
