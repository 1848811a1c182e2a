"""The paper's network against its equations in NumPy, which share no code and no constant with the model."""

import math

import numpy as np
import pytest
import stale_equations
import torch

from stale_edge.config import ModelConfig
from stale_edge.model import build_model

CONFIG = ModelConfig(
    feature_channels=6,
    embed_dim=8,
    n_heads=2,
    feedforward_dim=12,
    n_mask_queries=3,
    n_mask_layers=2,
    localizer_dim=10,
    dynamic_channels=4,
    dropout=0.0,
)
FLOAT32 = 2e-4
"""Of class logits up to 1 / 0.01 = 100; masks and foreground lie in [0, 1] and are nearer."""


def made(seed: int, *, temperature: float, length: int = 11) -> tuple[torch.nn.Module, torch.Tensor, torch.Tensor]:
    """A network with every parameter drawn, so that none of them is 0 or 1 and hides a mistake."""
    torch.manual_seed(seed)
    model = build_model(CONFIG).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
            if name == "classifier.log_temperature":
                parameter.fill_(math.log(temperature))
            if name in ("masking.queries", "masking.query_weights.2.weight"):
                parameter.mul_(4)
        features, classes = torch.randn(2, length, 6), torch.randn(4, 8)
        # Half of the snippets are foreground, and none of them lies at the gate's threshold.
        logits = model(features, classes).foreground.double().logit().flatten().sort().values
        model.get_parameter("masking.query_weights.2.bias").sub_(float(logits[length - 1 : length + 1].mean()))
    return model, features, classes


@pytest.mark.parametrize("temperature", [0.07, 0.001])
@pytest.mark.parametrize("seed", range(4))
def test_equations_1_to_8(seed: int, temperature: float) -> None:
    model, features, classes = made(seed, temperature=temperature)
    with torch.no_grad():
        found = model(features, classes)
    weights = {name: value.numpy() for name, value in model.state_dict().items()}
    on = 0
    for b in range(2):
        logits, masks, foreground = stale_equations.stale(
            weights, features[b].numpy(), classes.numpy(), n_heads=2, threshold=0.5
        )
        np.testing.assert_allclose(found.foreground[b].numpy(), foreground, atol=1e-5)
        assert np.abs(foreground - 0.5).min() > 1e-4, "a snippet at the gate's threshold: draw other numbers"
        np.testing.assert_allclose(found.masks[b].numpy(), masks, atol=1e-5)
        np.testing.assert_allclose(found.class_logits[b].numpy(), logits, atol=FLOAT32)
        on += int((foreground > 0.5).sum())
        assert masks.std() > 0.05
        assert foreground.std() > 0.005
    assert on == 11
    assert float(found.class_logits.abs().max()) <= 100.001


def test_language_is_kept_at_first() -> None:
    """α of equation 6 starts at 1e-3, the paper's number."""
    model = build_model(CONFIG)
    assert torch.equal(model.state_dict()["adaption.alpha"], torch.full((8,), 1e-3))
    text = stale_equations.unit(np.random.default_rng(0).normal(size=(5, 8)))
    snippets = stale_equations.unit(np.random.default_rng(1).normal(size=(7, 8)))
    with torch.no_grad():
        adapted = model.eval().adaption(
            torch.tensor(text).float(), torch.tensor(snippets[None]).float(), torch.ones(1, 7)
        )
    moved = np.abs(adapted[0].numpy() - text).max()
    assert 1e-4 < moved < 5e-3  # α times a normalised vector


def test_the_bias_that_hides_background_passes_no_gradient_to_the_gate() -> None:
    """Through it the gradient would be 1e4 times too large; the gate learns through the snippets."""
    model, *_ = made(0, temperature=0.07)
    text, snippets = torch.randn(5, 8), torch.randn(2, 7, 8)
    gate = (torch.rand(2, 7) > 0.5).float().requires_grad_()
    adapted = model.adaption(text, snippets.requires_grad_(), gate)
    of_snippets, of_gate = torch.autograd.grad(adapted.square().sum(), (snippets, gate), allow_unused=True)
    assert of_gate is None or float(of_gate.abs().max()) == 0
    assert float(of_snippets.abs().max()) > 0
