"""The formula of `stale_edge.decoding.training_free` as a network, so that it can be exported like any other."""

from typing import NamedTuple, NoReturn

import torch
from torch import Tensor

from stale_edge.bundle.manifest import TensorSpec
from stale_edge.config.training_free import BEND, LEAST_SPREAD, SLOPE, NoLossConfig, TrainingFreeConfig
from stale_edge.errors import ConfigError
from stale_edge.model.detector import DetectorNetwork
from stale_edge.model.input_checks import check_inputs
from stale_edge.model.layers import l2_normalize


class TrainingFreeOutput(NamedTuple):
    """class_logits: (B, K + 1, T), background last; a class is compared with the background alone."""

    class_logits: Tensor


class TrainingFree(DetectorNetwork[TrainingFreeConfig]):
    """Find actions by comparing class names with background prompts; any number of snippets, videos and classes.

    It has no trained weights: `background` holds embeddings of prompts that name no action (N, D), unit vectors
    without their mean, and `center` that mean. Both come from the text encoder (`set_background`).
    """

    background: Tensor
    center: Tensor

    def __init__(self, config: TrainingFreeConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("background", torch.zeros(config.n_background, config.embed_dim))
        self.register_buffer("center", torch.zeros(config.embed_dim))

    @torch.no_grad()
    def set_background(self, embeddings: Tensor) -> None:
        """Take the embeddings (N, D) of the background prompts.

        Raises:
            ValueError: another shape than `config` says.
        """
        if embeddings.shape != self.background.shape:
            raise ValueError(f"background must be {tuple(self.background.shape)}; got {tuple(embeddings.shape)}")
        units = l2_normalize(embeddings)
        self.center.copy_(units.mean(dim=0))
        self.background.copy_(l2_normalize(units - self.center))

    def forward(self, features: Tensor, class_embeddings: Tensor) -> TrainingFreeOutput:
        """Localize and classify actions.

        Args:
            features: (B, T, C) float, of any length.
            class_embeddings: (K, D) float, of any length > 0.

        Raises:
            ValueError: a shape does not fit.
        """
        check_inputs(features, class_embeddings, channels=self.config.feature_channels, dim=self.config.embed_dim)
        names = l2_normalize(l2_normalize(class_embeddings) - self.center)  # (K, D)
        snippets = l2_normalize(features)
        snippets = _smoothed(snippets - snippets.mean(dim=1, keepdim=True), self.config.smoothing)  # (B, T, D)
        against = snippets @ self.background.T  # (B, T, N)
        level = against.mean(dim=2, keepdim=True)  # (B, T, 1)
        variance = (against - level).square().mean(dim=(1, 2), keepdim=True)  # (B, 1, 1)
        spread = torch.sqrt(variance.clamp(min=LEAST_SPREAD**2))
        z = (snippets @ names.T - level) / spread  # (B, T, K)
        logits = SLOPE * (z - BEND)
        return TrainingFreeOutput(torch.cat([logits, torch.zeros_like(level)], dim=2).transpose(1, 2))

    def output_specs(self) -> tuple[TensorSpec, ...]:
        """Name the one output."""
        return (TensorSpec("class_logits", "float32", ("B", "K+1", "T")),)


def no_objective(_model: TrainingFreeConfig, _loss: NoLossConfig) -> NoReturn:
    """Refuse to train.

    Raises:
        ConfigError: always.
    """
    raise ConfigError(
        "model.architecture training-free has nothing to train; got it for training; allowed: an architecture with "
        "weights, for example linear; make its bundle with stale-edge export --arch training-free"
    )


def _smoothed(values: Tensor, share: float) -> Tensor:
    """Average (B, T, C) over the snippets around each one, fewer at the ends of the video."""
    places = torch.arange(values.shape[1], device=values.device)  # (T,)
    last = places[-1:]
    reach = ((last + 1) * (share / 2)).floor().to(places.dtype)
    starts, stops = (places - reach).clamp(min=0), torch.minimum(places + reach, last) + 1
    sums = torch.cat([torch.zeros_like(values[:, :1]), values.cumsum(dim=1)], dim=1)  # (B, T + 1, C)
    return (sums[:, stops] - sums[:, starts]) / (stops - starts).unsqueeze(-1)
