"""The objective of both branches: video labels, and pseudo-labels where there are some. All losses are our choice."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from stale_edge.config import TimeGrid
from stale_edge.model.layers import l2_normalize
from stale_edge.model.targets import IGNORED, assign_targets
from stale_edge.model.weak.branches import BranchOutput
from stale_edge.model.weak.labels import UNKNOWN, VideoLabels
from stale_edge.model.weak.settings import VlpConfig, WeakConfig, WeakLossConfig

MOST_COMPARED = 64
"""Largest number of snippets of each kind that the contrast compares in a video."""
SMALLEST = 1e-6
"""Smallest probability inside a logarithm."""


class WeakTargets(NamedTuple):
    """The targets of B videos; without the axis B those of one.

    classes: (B, K), 1 for the classes that a video shows.
    labels: (B, T, K) int8, 1, 0 or -1 for unknown.
    labelled: (B,), 1 where `labels` are pseudo-labels or the truth, 0 where all are unknown.
    """

    classes: Tensor
    labels: Tensor
    labelled: Tensor

    def to(self, device: torch.device) -> "WeakTargets":
        """Move all tensors to a device."""
        return WeakTargets(*(tensor.to(device) for tensor in self))


class WeakObjective(nn.Module):
    """Multiple-instance learning from video labels, and distillation from pseudo-labels."""

    terms = ("mil", "suppression", "sparsity", "guide", "distillation", "contrast")

    def __init__(self, model: WeakConfig | VlpConfig, loss: WeakLossConfig) -> None:
        super().__init__()
        self.config = loss
        self.reads_video_labels = isinstance(model, WeakConfig)

    def targets(
        self, actions: VideoLabels | Sequence[Any], *, vocabulary: Sequence[str], grid: TimeGrid, n_snippets: int
    ) -> WeakTargets:
        """Make the targets of one video from its labels, or, for full supervision, from its annotated actions."""
        if isinstance(actions, VideoLabels):
            classes = torch.tensor([float(name in actions.names) for name in vocabulary])
            if actions.pseudo is None:
                unknown = torch.full((n_snippets, len(vocabulary)), UNKNOWN, dtype=torch.int8)
                return WeakTargets(classes, unknown, torch.tensor(0.0))
            return WeakTargets(classes, torch.from_numpy(actions.pseudo), torch.tensor(1.0))
        found = assign_targets(actions, vocabulary=vocabulary, duration_s=grid.duration_s, n_snippets=n_snippets)
        labels = (found.labels[:, None] == torch.arange(len(vocabulary))).to(torch.int8)
        labels[found.labels == IGNORED] = UNKNOWN
        return WeakTargets((labels == 1).any(dim=0).float(), labels, torch.tensor(1.0))

    def stack(self, targets: Sequence[WeakTargets]) -> WeakTargets:
        """Put the targets of videos of equal T together."""
        return WeakTargets(*(torch.stack(parts) for parts in zip(*targets, strict=True)))

    def inputs(self, _targets: WeakTargets, _n_classes: int) -> tuple[Tensor, ...]:
        """The detector takes nothing more in training."""
        return ()

    def losses(self, outputs: BranchOutput, targets: WeakTargets) -> dict[str, Tensor]:
        """Compute every term for every video, each (B,)."""
        logits, attention = outputs.class_logits.float(), outputs.attention.float()
        shares = logits.softmax(dim=1)  # (B, K + 1, T)
        scores = shares[:, :-1].transpose(1, 2) * attention[:, :, None]  # (B, T, K), those of deployment
        unlabelled = 1 - targets.labelled
        return {
            "mil": self._video_loss(logits, targets.classes, background=1.0),
            "suppression": self._video_loss(logits * attention[:, None], targets.classes, background=0.0),
            "sparsity": attention.mean(dim=1) * unlabelled,
            "guide": (1 - attention - shares[:, -1]).abs().mean(dim=1) * unlabelled,
            "distillation": _distillation(scores, targets.labels),
            "contrast": self._contrast(outputs.embedding.float(), targets),
        }

    def total(self, terms: Mapping[str, Tensor]) -> Tensor:
        """Add the terms with their weights, (B,); the VLP branch learns from pseudo-labels alone."""
        own = self.terms if self.reads_video_labels else ("distillation", "contrast")
        return torch.stack([getattr(self.config, name) * terms[name] for name in own]).sum(dim=0)

    def _video_loss(self, logits: Tensor, classes: Tensor, *, background: float) -> Tensor:
        """Cross entropy of the video's logits, the mean of the highest of each class; 0 where nothing is present."""
        n_top = max(1, int(logits.shape[2] * self.config.top_share))
        video = logits.topk(n_top, dim=2).values.mean(dim=2)  # (B, K + 1)
        wanted = torch.cat([classes, torch.full_like(classes[:, :1], background)], dim=1)
        wanted = wanted / wanted.sum(dim=1, keepdim=True).clamp(min=1)
        return -(wanted * video.log_softmax(dim=1)).sum(dim=1)

    def _contrast(self, embedding: Tensor, targets: WeakTargets) -> Tensor:
        """InfoNCE of snippets labelled 1: those of the same class against the video's background; 0 where one lacks."""
        losses = []
        for vectors, labels in zip(l2_normalize(embedding), targets.labels, strict=True):
            positive = _some((labels == 1).any(dim=1))
            negative = _some((labels == 0).all(dim=1))
            if len(positive) < 2 or len(negative) == 0:
                losses.append(vectors.sum() * 0)
                continue
            anchors = vectors[positive]
            kinds = (labels[positive] == 1).float().argmax(dim=1)
            near = (anchors @ anchors.T) / self.config.contrast_temperature
            far = (anchors @ vectors[negative].T / self.config.contrast_temperature).logsumexp(dim=1)
            same = kinds[:, None] == kinds[None]
            same.fill_diagonal_(False)
            together = near.masked_fill(~same, -1e4).logsumexp(dim=1)
            counted = same.any(dim=1).float()
            each = torch.logaddexp(together, far) - together
            losses.append((each * counted).sum() / counted.sum().clamp(min=1))
        return torch.stack(losses)


def _distillation(scores: Tensor, labels: Tensor) -> Tensor:
    """Mean cross entropy of snippets with certain pseudo-labels, (B,): 1 of some class, or background.

    A background snippet is 0 for all classes. What counts there is the score that all classes have together, so that
    it goes to the background and not to another class. All snippets weigh the same: with half of the weight on those of
    1, which are a third of them, scores rise and segments grow beyond the actions.
    """
    positive, background = (labels == 1).float(), (labels == 0).all(dim=2).float()  # (B, T, K) and (B, T)
    shown = scores.clamp(min=SMALLEST).log()
    absent = (1 - scores.sum(dim=2)).clamp(min=SMALLEST).log()
    total = -(shown * positive).sum(dim=(1, 2)) - (absent * background).sum(dim=1)
    return total / (positive.sum(dim=(1, 2)) + background.sum(dim=1)).clamp(min=1)


def _some(chosen: Tensor) -> Tensor:
    """Number the snippets of a mask (T,), evenly thinned to `MOST_COMPARED`."""
    places = chosen.nonzero()[:, 0]
    if len(places) <= MOST_COMPARED:
        return places
    return places[torch.linspace(0, len(places) - 1, MOST_COMPARED, device=places.device).long()]
