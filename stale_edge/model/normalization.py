"""Normalisation of features as the first layer of a network, so that no runtime has to do it."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from stale_edge.config import FeaturesConfig
from stale_edge.model.layers import l2_normalize

LEAST_VARIANCE = 1e-3
"""`data-whiten` divides no direction by less than this part of the mean variance: less is rounding."""
NO_VARIANCE = 1e-12
"""Features whose variance is a smaller part of their squared mean are equal but for rounding."""


class FeatureNormalization(nn.Module):
    """Remove from features (B, T, C) what does not depend on actions; gives (B, T, C).

    CLIP features share a large common direction and one outlier channel, which would otherwise take most of the range
    that int8 has; what is left of them is mostly the scene of their video. `FeaturesConfig` lists what can be taken
    out. `video-mean` needs nothing but the snippets that the network is given at once, a whole video or one window of
    it; the others use constants of the training videos (`fit`).

    Args:
        config: with `normalize` resolved.
        channels: C.

    Raises:
        ValueError: `config.normalize` is None.
    """

    center: Tensor
    scale: Tensor

    def __init__(self, config: FeaturesConfig, channels: int) -> None:
        super().__init__()
        if config.normalize is None:
            raise ValueError("features.normalize is None; got no architecture's default, use that of ModelConfig")
        self.normalize, self.l2 = config.normalize, config.l2
        self.register_buffer("center", torch.zeros(channels))
        self.register_buffer("scale", torch.ones(()))
        if self.normalize == "data-whiten":
            self.whiten = nn.Linear(channels, channels, bias=False)
            self.whiten.weight.requires_grad_(False)
            nn.init.eye_(self.whiten.weight)

    def forward(self, features: Tensor) -> Tensor:
        if self.l2 == "before":
            features = l2_normalize(features)
        if self.normalize == "video-mean":
            features = (features - features.mean(dim=1, keepdim=True)) * self.scale
        elif self.normalize == "data-mean":
            features = (features - self.center) * self.scale
        elif self.normalize == "data-whiten":
            features = self.whiten(features - self.center)
        if self.l2 == "after":
            features = l2_normalize(features) * math.sqrt(features.shape[-1])
        return features

    @torch.no_grad()
    def fit(self, videos: Iterable[Tensor]) -> None:
        """Measure the constants on training videos, features (T, C) each, at least one; they are read once.

        `scale` becomes 1 over the root mean square of a channel after the mean is taken out.

        Raises:
            ValueError: a number is not finite, or nothing is left when the mean is taken out.
        """
        channels, n_snippets, within = len(self.center), 0, 0.0
        total, products = torch.zeros(channels).double(), torch.zeros(channels, channels).double()
        for features in videos:
            snippets = l2_normalize(features.double()) if self.l2 == "before" else features.double()
            total += snippets.sum(dim=0)
            products += snippets.T @ snippets
            within += float((snippets - snippets.mean(dim=0)).square().sum())
            n_snippets += len(snippets)
        mean = total / n_snippets  # (C,)
        covariance = products / n_snippets - torch.outer(mean, mean)
        variance = within / n_snippets if self.normalize == "video-mean" else float(covariance.trace())
        if not math.isfinite(variance):
            raise ValueError(f"features must be finite; their variance is {variance}")
        if variance <= NO_VARIANCE * float(mean.square().sum()):
            raise ValueError("nothing is left of the features when their mean is taken out; features must differ")
        self.center.copy_(mean)
        self.scale.fill_(math.sqrt(channels / variance))
        if self.normalize == "data-whiten":
            values, directions = torch.linalg.eigh(covariance)
            least = LEAST_VARIANCE * float(values.mean())
            self.whiten.weight.copy_((directions * values.clamp(min=least).rsqrt()) @ directions.T)
