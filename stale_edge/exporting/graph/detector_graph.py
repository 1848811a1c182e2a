"""What every exported graph computes, what its inputs and outputs are called, and what it is traced with."""

import contextlib
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from stale_edge.bundle.manifest import TensorSpec, detector_inputs, mask_detector_outputs
from stale_edge.config import ModelSettings
from stale_edge.config.runtimes import Precision
from stale_edge.exporting.graph.products import Product

TRACED_BATCH = 2
"""An example batch of 1 would silently make the batch static."""
TRACED_LENGTH = 37
"""Snippets of the example where T is dynamic; like the vocabulary a prime, so no other size equals it by chance."""
TRACED_CLASSES = 5


class DetectorGraph(nn.Module):
    """The part of a detector that deployment needs: no embedding, and nothing that only the embedding needs."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, features: Tensor, class_embeddings: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Give class_logits (B, K + 1, T), masks (B, T, T), foreground (B, T)."""
        output = self.model(features, class_embeddings)
        return output.class_logits, output.masks, output.foreground


def model_config(model: nn.Module) -> ModelSettings:
    """Read the config that every detector of this package carries.

    Raises:
        ValueError: it carries none, or needs the true foreground, which no deployed graph has.
    """
    config: ModelSettings | None = getattr(model, "config", None)
    if not hasattr(config, "length_rule") or config is None:
        raise ValueError(f"only detectors with settings as `config` can be exported; got {type(model).__name__}")
    if not config.deployable:
        raise ValueError("a detector with masking 'ground-truth' reads the true foreground, so it cannot be deployed")
    return config


def fixed_length(config: ModelSettings) -> int | None:
    """T that the graph is made for; None: any T."""
    return config.length_rule.fixed


def graph_inputs(config: ModelSettings) -> tuple[TensorSpec, ...]:
    """Promised inputs of the graph."""
    return detector_inputs(channels=config.feature_channels, embed_dim=config.embed_dim, length=fixed_length(config))


def graph_outputs(config: ModelSettings) -> tuple[TensorSpec, ...]:
    """Promised outputs of the graph."""
    return mask_detector_outputs(fixed_length(config))


def example_inputs(config: ModelSettings) -> tuple[Tensor, Tensor]:
    """Make the inputs that graphs are traced with; no parity check ever uses these sizes together."""
    generator = torch.Generator().manual_seed(0)
    length = fixed_length(config) or TRACED_LENGTH
    features = torch.randn(TRACED_BATCH, length, config.feature_channels, generator=generator)
    return features, torch.randn(TRACED_CLASSES, config.embed_dim, generator=generator)


def dynamic_axes(config: ModelSettings) -> tuple[dict[int, Any], ...]:
    """Name the axes of both inputs that stay open in every recorded graph: B, K, and T where it is not fixed."""
    batch, length, classes = (torch.export.Dim(name) for name in ("B", "T", "K"))
    snippets = {0: batch} if fixed_length(config) is not None else {0: batch, 1: length}
    return snippets, {0: classes}


def linear_modules(model: nn.Module, names: Sequence[str]) -> dict[str, nn.Linear]:
    """Find the linear layers at or below modules named as in `model.named_modules()`.

    Raises:
        ValueError: a name is no module of the model, or has no linear layer.
    """
    found: dict[str, nn.Linear] = {}
    known = dict(model.named_modules())
    for name in names:
        if name not in known:
            raise ValueError(f"the detector has no module {name!r} to keep in float32; it has {', '.join(known)}")
        layers = {
            f"{name}.{child}" if child else name: module
            for child, module in known[name].named_modules()
            if isinstance(module, nn.Linear)
        }
        if not layers:
            raise ValueError(f"module {name!r}, to be kept in float32, has no linear layer")
        found.update(layers)
    return found


def float32_modules(model: nn.Module, precision: Precision) -> tuple[str, ...]:
    """Name the modules whose linear layers low precision leaves in float32, as far as the detector has them.

    `masking.query_weights`: the last few weights before the gate, where a rounding error switches a snippet off.
    In int8 besides: `temporal.project`, since CLIP features have channels of very different range, which one scale for
    all rounds coarsely, and every later layer sees the error; `localizer.dynamic`, whose outputs are weights.
    On the demo's detectors (seeds 0, 1) the two bring flipped snippets from 82 and 78 down to 16 and 24 of 20,000, and
    the change of average mAP from +0.18 and -0.49 to +0.09 and -0.01 points, at 3 % of the weights.
    In static int8 both keep the product of attention weights and snippets in the temporal embedding
    (`keeps_activations`): eight bits leave diffuse attention a few levels. The public network keeps what its masks, and
    so its gate, come from too, `localizer`: on a detector trained on the demo's data they bring 96.4 % of matched
    detections to 98.8. The paper's keeps what its masks are made of, `localizer.base` and `localizer.controller`, less
    than 1 % of the work, and the feed-forward layers of its temporal embedding: on three networks trained on simulated
    data, with OpenVINO and the rest in bf16, these and that product bring 98.1, 97.2 and 97.1 % of detections found
    again to 98.7, 98.5 and 98.5.
    """
    before_gate, first, dynamic = "masking.query_weights", "temporal.project", "localizer.dynamic"
    whiten = "temporal.normalize.whiten"  # features as they come, and what it divides by differs by a thousand
    int8 = (before_gate, whiten, first, dynamic)
    names = {"fp32": (), "fp16": (before_gate, whiten), "int8": int8}
    known = dict(model.named_modules())
    feedforward = [name for name in known if name.startswith("temporal.") and name.endswith(".feedforward")]
    localizer = ("localizer.0", "localizer.2", "localizer.base", "localizer.controller")
    names["int8-static"] = (*int8, *localizer, *feedforward)
    return tuple(name for name in names[precision] if name in known)


def keeps_activations(products: Sequence[Product]) -> set[str]:
    """Name the nodes of products of activations that static int8 leaves in float32 where nothing was searched.

    In the temporal embedding attention weights times snippets, the second such product of its module; in the paper's
    localizer the dynamic networks, which make the masks.
    """
    places: dict[str, int] = {}
    kept = set()
    for product in products:
        if product.weight is None:
            place = places.get(product.module, 0)
            places[product.module] = place + 1
            temporal = product.module == "temporal" or product.module.startswith("temporal.")
            if (temporal and place == 1) or product.module == "localizer":
                kept.add(product.node)
    return kept


@contextlib.contextmanager
def in_eval_mode(model: nn.Module) -> Iterator[None]:
    """Evaluate without dropout and gradients; afterwards every module trains or not as before."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, training in modes.items():
            module.training = training


@contextlib.contextmanager
def expect_warnings(*expected: tuple[str, type[Warning]]) -> Iterator[None]:
    """Silence the warnings that are known to come here, by message and category; all others pass."""
    with warnings.catch_warnings():
        for message, category in expected:
            warnings.filterwarnings("ignore", message=message, category=category)
        yield
