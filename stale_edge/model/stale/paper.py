"""STALE as its paper describes it: Nag, Zhu, Song & Xiang, ECCV 2022, section 3 and Figure 2."""

import math
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stale_edge.bundle.manifest import TensorSpec, mask_detector_outputs
from stale_edge.config import ModelConfig
from stale_edge.model.detector import DetectorNetwork
from stale_edge.model.input_checks import check_inputs
from stale_edge.model.layers import MASKED_OUT, DecoderLayer, l2_normalize
from stale_edge.model.rescoring import foreground_mean, rescored_logits
from stale_edge.model.stale.mask_head import MaskHead
from stale_edge.model.stale.masking import ForegroundGate, Masking, build_masking
from stale_edge.model.stale.output import StaleLogits, StaleOutput, logits_of
from stale_edge.model.stale.temporal import TemporalEmbedding

LOWEST_TEMPERATURE = 0.01
"""CLIP's own bound on how sharp the classifier may become."""


class PaperStale(DetectorNetwork[ModelConfig]):
    """Find actions in snippets: classes and instance masks in parallel. Any number of snippets, videos and classes.

    Raises:
        ValueError: `config` asks for the other architecture.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        if config.architecture != "paper":
            raise ValueError(f"PaperStale needs architecture 'paper'; the config says {config.architecture!r}")
        self.config = config
        self.temporal = TemporalEmbedding(config)
        self.background = nn.Parameter(torch.randn(1, config.embed_dim))
        self.masking = build_masking(config)
        self.gate = ForegroundGate(config.foreground_threshold)
        self.adaption = CrossModalAdaption(config)
        self.classifier = Classifier(config.temperature_init)
        self.localizer = MaskHead(config)

    def forward(self, features: Tensor, class_embeddings: Tensor, foreground: Tensor | None = None) -> StaleOutput:
        """Localize and classify actions.

        Args:
            features: (B, T, C) float, snippet features.
            class_embeddings: (K, D) float, one text embedding a class, of any length > 0; background is not among them.
            foreground: (B, T) in [0, 1], the true foreground; given if and only if `masking` is `ground-truth`
                (Table 4), never by a deployed model.

        Returns:
            `StaleOutput`: class_logits (B, K + 1, T) with background last, masks (B, T, T), foreground (B, T),
            embedding (B, T, D).

        Raises:
            ValueError: a shape does not fit, or `foreground` is missing or must not be given.
        """
        embedding = self._embed(features, class_embeddings, foreground)
        if foreground is None:
            foreground = self.masking(embedding)  # eq. 3, 4: L̂, (B, T)
        class_logits = self._rescored_classes(embedding, class_embeddings, foreground)
        masks = self.localizer(embedding)  # eq. 8: M, (B, T, T), row i by snippet i
        return StaleOutput(class_logits, masks, foreground, embedding)

    def logits(self, features: Tensor, class_embeddings: Tensor, foreground: Tensor | None = None) -> StaleLogits:
        """Compute what `forward` does, before the sigmoids of masks and foreground; training reads these."""
        embedding = self._embed(features, class_embeddings, foreground)
        given = None if foreground is None else logits_of(foreground)
        logits = cast(Masking, self.masking).logits(embedding) if given is None else given
        class_logits = self._classify(embedding, class_embeddings, torch.sigmoid(logits))
        return StaleLogits(class_logits, self.localizer.logits(embedding), logits, embedding)

    def _embed(self, features: Tensor, class_embeddings: Tensor, foreground: Tensor | None) -> Tensor:
        """Check the inputs; embed the snippets, eq. 1: F_vis, (B, T, D)."""
        check_inputs(features, class_embeddings, channels=self.config.feature_channels, dim=self.config.embed_dim)
        self._check_foreground(foreground)
        return cast(Tensor, self.temporal(features))

    def _rescored_classes(self, embedding: Tensor, class_embeddings: Tensor, foreground: Tensor) -> Tensor:
        """Score classes as `_classify` does, and rescore them where the settings say so."""
        class_logits = self._classify(embedding, class_embeddings, foreground)
        if self.config.rescoring == "none":
            return class_logits
        summary = foreground_mean(l2_normalize(embedding), foreground)  # (B, 1, D)
        video_logits = self.classifier(l2_normalize(class_embeddings).unsqueeze(0), summary)  # (B, K, 1)
        return rescored_logits(class_logits, video_logits)

    def _classify(self, embedding: Tensor, class_embeddings: Tensor, foreground: Tensor) -> Tensor:
        """Score every class at every snippet of a foreground (B, T), eq. 2 and 5 to 7; (B, K + 1, T)."""
        background = l2_normalize(self.background)  # (1, D)
        text = torch.cat([l2_normalize(class_embeddings), background])  # eq. 2: F_lan, (K + 1, D)
        gate = self.gate(foreground)  # L̂_bin, (B, T) of 0 and 1
        snippets = select_foreground(embedding, gate, background)  # F_fg, (B, T, D)
        text = self.adaption(text, snippets, gate)  # eq. 5, 6: F̂_lan, (B, K + 1, D)
        return cast(Tensor, self.classifier(text, snippets))  # eq. 7: P, (B, K + 1, T)

    def output_specs(self) -> tuple[TensorSpec, ...]:
        """Class logits, masks and foreground."""
        return mask_detector_outputs(self.config.length_rule.fixed)

    def undecided(self, outputs: Mapping[str, NDArray[Any]]) -> NDArray[np.float64]:
        """How far above θ_bin each snippet's foreground is, (B, T): there the gate lets it through."""
        return np.asarray(outputs["foreground"].astype(np.float64) - self.config.foreground_threshold)

    def _check_foreground(self, foreground: Tensor | None) -> None:
        if (foreground is not None) != (self.config.masking == "ground-truth"):
            given = "missing" if foreground is None else "given"
            raise ValueError(
                f"foreground is {given}, masking is {self.config.masking!r}: only 'ground-truth' takes it, and needs it"
            )


def select_foreground(embedding: Tensor, gate: Tensor, background: Tensor) -> Tensor:
    """Keep the direction of foreground snippets and point all others at the background embedding.

    The paper selects F_vis by L̂_bin and does not say what replaces it where L̂_bin is 0. Zeros would make eq. 7 give
    every class the logit 0 there, a uniform answer that neither eq. 9 nor inference can use; with the background
    embedding eq. 7 calls a gated-off snippet background, which is what it is, and the gate gets a useful gradient.

    Args:
        embedding: (B, T, D).
        gate: (B, T), 1 where a snippet is foreground, else 0.
        background: (1, D) of length 1.

    Returns:
        (B, T, D), rows of length 1: eq. 7 asks for l2-normalised features.
    """
    on = gate.unsqueeze(-1)
    return on * l2_normalize(embedding) + (1 - on) * background


class CrossModalAdaption(nn.Module):
    """Let the class embeddings attend to the foreground of the video, eq. 5 and 6.

    Ê_c = T_c(F_lan, F_fg, F_fg), a transformer layer: self-attention among the classes, co-attention to the foreground
    snippets, feed-forward network. F̂_lan = F_lan + α Ê_c with a small learnable α, so that language is kept at first.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dim = config.embed_dim
        self.snippet_norm = nn.LayerNorm(dim)
        self.layer = DecoderLayer(
            dim, n_heads=config.n_heads, feedforward_dim=config.feedforward_dim, dropout=config.dropout
        )
        self.norm = nn.LayerNorm(dim)
        self.alpha = nn.Parameter(torch.full((dim,), config.residual_scale_init))

    def forward(self, text: Tensor, snippets: Tensor, gate: Tensor) -> Tensor:
        """Adapt text (K + 1, D) to snippets (B, T, D) where gate (B, T) is 1; gives (B, K + 1, D)."""
        # The gate's gradient flows through the snippets; through this bias it would be 1e4 times too large.
        hide_background = (1 - gate.detach()) * MASKED_OUT
        visual_text = self.norm(self.layer(text.unsqueeze(0), self.snippet_norm(snippets), hide_background))  # Ê_c
        return cast(Tensor, text + self.alpha * visual_text)


class Classifier(nn.Module):
    """Score every class at every snippet by cosine over a learnable temperature, eq. 7."""

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self.log_temperature = nn.Parameter(torch.tensor(math.log(temperature)))

    def forward(self, text: Tensor, snippets: Tensor) -> Tensor:
        """Compare text (B, K + 1, D) with snippets (B, T, D) of length 1; gives logits (B, K + 1, T)."""
        scale = torch.exp(-self.log_temperature).clamp(max=1 / LOWEST_TEMPERATURE)
        return (l2_normalize(text) * scale) @ snippets.transpose(1, 2)
