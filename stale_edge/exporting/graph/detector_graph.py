"""The computation of every exported graph, its inputs and outputs, and the example inputs for tracing."""

import contextlib
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from stale_edge.bundle.manifest import TensorSpec, detector_inputs
from stale_edge.config import DecodeSettings, ModelSettings
from stale_edge.config.runtimes import Precision
from stale_edge.decoding import decoder_of, missing_outputs
from stale_edge.exporting.graph.products import Product
from stale_edge.model.architectures import architecture_of
from stale_edge.model.detector import Detector

TRACED_BATCH = 2
"""An example batch of 1 would silently make the batch static."""
TRACED_LENGTH = 37
"""Snippets of the example where T is dynamic; a prime, like the example's K, so no other size equals it by chance."""
TRACED_CLASSES = 5


class DetectorGraph(nn.Module):
    """The part of a detector that deployment needs: only the outputs in its specification, in that order."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.names = [spec.name for spec in output_specs(model)]

    def forward(self, features: Tensor, class_embeddings: Tensor) -> tuple[Tensor, ...]:
        """Compute the outputs for features (B, T, C) and class embeddings (K, D)."""
        output = self.model(features, class_embeddings)
        return tuple(getattr(output, name) for name in self.names)


def model_config(model: nn.Module) -> ModelSettings:
    """Read the config that every detector of this package has.

    Raises:
        ValueError: it has none, or needs the true foreground, which no deployed graph has.
    """
    config: ModelSettings | None = getattr(model, "config", None)
    if not hasattr(config, "length_rule") or config is None:
        raise ValueError(f"only detectors with settings as `config` can be exported; got {type(model).__name__}")
    if not config.deployable:
        raise ValueError("a detector with masking 'ground-truth' reads the true foreground, so it cannot be deployed")
    return config


def fixed_length(config: ModelSettings) -> int | None:
    """Return the T that the graph is made for; None: any T."""
    return config.length_rule.fixed


def graph_inputs(config: ModelSettings) -> tuple[TensorSpec, ...]:
    """List the inputs in the graph's contract."""
    return detector_inputs(channels=config.feature_channels, embed_dim=config.embed_dim, length=fixed_length(config))


def output_specs(model: nn.Module) -> tuple[TensorSpec, ...]:
    """List the outputs in the contract of a detector's graph."""
    return cast(Detector, model).output_specs()


def read_outputs(decode: DecodeSettings, outputs: Iterable[TensorSpec]) -> tuple[str, ...]:
    """Name those of the given outputs that decoding reads.

    Raises:
        ValueError: one that the policy needs is missing.
    """
    decoder, names = decoder_of(decode), [spec.name for spec in outputs]
    missing = missing_outputs(decode, names)
    if missing:
        raise ValueError(
            f"the decode policy {decode.policy} reads {', '.join(decoder.reads)}; this detector has no "
            f"{', '.join(missing)}, its outputs are {', '.join(names)}: choose a policy that fits its outputs"
        )
    return (*decoder.reads, *(name for name in decoder.may_read if name in names))


def with_sizes(specs: Iterable[TensorSpec], sizes: Mapping[str, int]) -> tuple[TensorSpec, ...]:
    """Put numbers in place of symbols such as `K`, and of sums such as `K+1`; other symbols stay."""

    def number(size: int | str) -> int | str:
        symbol, _, more = str(size).partition("+")
        return sizes[symbol] + int(more or 0) if symbol in sizes else size

    return tuple(TensorSpec(spec.name, spec.dtype, tuple(map(number, spec.shape))) for spec in specs)


def example_inputs(config: ModelSettings) -> tuple[Tensor, Tensor]:
    """Make the inputs that graphs are traced with; the parity check never uses these sizes together."""
    generator = torch.Generator().manual_seed(0)
    length = fixed_length(config) or TRACED_LENGTH
    features = torch.randn(TRACED_BATCH, length, config.feature_channels, generator=generator)
    return features, torch.randn(TRACED_CLASSES, config.embed_dim, generator=generator)


def dynamic_axes(config: ModelSettings) -> tuple[dict[int, Any], ...]:
    """Name the dynamic axes of both inputs in every recorded graph: B, K, and T where it is not fixed."""
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
    """Name the modules whose linear layers stay in float32; see `KeptFloat32` of the architecture."""
    return architecture_of(model_config(model).architecture).float32.modules_of(model, precision)


def float32_products(model: nn.Module, products: Sequence[Product]) -> set[str]:
    """Name the products of activations that static int8 leaves in float32 without a layer search."""
    kept = architecture_of(model_config(model).architecture).float32
    counts: Counter[str] = Counter()
    nodes = set()
    for product in products:
        if product.weight is None:
            if kept.keeps_product(product.module, counts[product.module]):
                nodes.add(product.node)
            counts[product.module] += 1
    return nodes


@contextlib.contextmanager
def in_eval_mode(model: nn.Module) -> Iterator[None]:
    """Switch off dropout and gradients; afterwards restore the mode of every module."""
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
    """Silence the expected warnings, by message and category; all others pass."""
    with warnings.catch_warnings():
        for message, category in expected:
            warnings.filterwarnings("ignore", message=message, category=category)
        yield
