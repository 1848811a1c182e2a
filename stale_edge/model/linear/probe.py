"""A linear map of features to the text space, times class-agnostic actionness."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from stale_edge.bundle.manifest import TensorSpec
from stale_edge.config import LinearConfig
from stale_edge.model.detector import DetectorNetwork
from stale_edge.model.input_checks import check_inputs
from stale_edge.model.layers import l2_normalize
from stale_edge.model.normalization import FeatureNormalization


class LinearOutput(NamedTuple):
    """Raw outputs for B videos of T snippets and K classes; the first field is deployed.

    class_logits: (B, K + 1, T), background last; softmax over the rows gives class probability times actionness.
    snippet_logits: (B, K, T), of each snippet by itself, before the video's evidence is mixed in.
    actionness_logits: (B, T).
    """

    class_logits: Tensor
    snippet_logits: Tensor
    actionness_logits: Tensor


class LinearProbe(DetectorNetwork[LinearConfig]):
    """Find actions by two linear maps of normalised features; any number of snippets, videos and classes.

    The class of a snippet is a cosine in the text space. Most of it comes from the whole video, as the mean of its
    snippets weighted by their actionness squared (`LinearConfig.video_weight`), so that when something happens and what
    it is are decided apart. Text embeddings are compared without the mean of the training vocabulary, which they share.
    """

    text_center: Tensor

    def __init__(self, config: LinearConfig) -> None:
        super().__init__()
        self.config = config
        self.normalize = FeatureNormalization(config.features, config.feature_channels)
        self.project = nn.Linear(config.feature_channels, config.embed_dim, bias=False)
        start = nn.init.eye_ if config.feature_channels == config.embed_dim else nn.init.orthogonal_
        start(self.project.weight)
        self.actionness = nn.Linear(config.feature_channels, 1)
        nn.init.zeros_(self.actionness.weight)
        nn.init.zeros_(self.actionness.bias)
        self.register_buffer("text_center", torch.zeros(config.embed_dim))

    def forward(self, features: Tensor, class_embeddings: Tensor) -> LinearOutput:
        """Localize and classify actions.

        Args:
            features: (B, T, C) float.
            class_embeddings: (K, D) float, of any length > 0. In training their mean direction is kept.

        Raises:
            ValueError: a shape does not fit.
        """
        check_inputs(features, class_embeddings, channels=self.config.feature_channels, dim=self.config.embed_dim)
        text = l2_normalize(class_embeddings)  # (K, D)
        if self.training:
            self.text_center.copy_(text.detach().mean(dim=0) if len(text) > 1 else torch.zeros_like(self.text_center))
        text = l2_normalize(text - self.text_center) / self.config.temperature
        snippets = self.normalize(features)  # (B, T, C)
        actionness = self.actionness(snippets).squeeze(-1)  # (B, T)
        seen = self.project(snippets)  # (B, T, D)
        weights = torch.sigmoid(actionness).square().unsqueeze(-1)  # (B, T, 1)
        video = (weights * seen).sum(dim=1, keepdim=True) / weights.sum(dim=1, keepdim=True)  # (B, 1, D)
        mixed = torch.lerp(seen, video.expand_as(seen), self.config.video_weight)
        logits = text @ l2_normalize(mixed).transpose(1, 2)  # (B, K, T)
        background = torch.logsumexp(logits, dim=1, keepdim=True) - actionness.unsqueeze(1)
        snippet_logits = text @ l2_normalize(seen).transpose(1, 2)
        return LinearOutput(torch.cat([logits, background], dim=1), snippet_logits, actionness)

    def output_specs(self) -> tuple[TensorSpec, ...]:
        """Name the one deployed output."""
        return (TensorSpec("class_logits", "float32", ("B", "K+1", "T")),)
