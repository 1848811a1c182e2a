"""The learning objective of the STALE paper, eq. 9 to 12: one function a term, one number a video.

Terms are per video, so that the mean over a global batch does not depend on how processes share it. A snippet labelled
`IGNORED` counts nowhere.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stale_edge.model.targets import IGNORED, BatchTargets


def classification_loss(class_logits: Tensor, labels: Tensor) -> Tensor:
    """Compute the cross entropy of eq. 9, averaged over a video's snippets.

    Args:
        class_logits: (B, K+1, T), background last.
        labels: (B, T) int64 in 0..K, or `IGNORED`.

    Returns:
        (B,) float32; 0 for a video whose every snippet is ignored.
    """
    losses = F.cross_entropy(class_logits.float(), labels, ignore_index=IGNORED, reduction="none")  # (B, T)
    return _mean_where(losses, labels != IGNORED)


def mask_loss(mask_logits: Tensor, targets: Tensor, labels: Tensor, *, dice_weight: float) -> Tensor:
    """Compute the weighted cross entropy plus dice of eq. 10 for each predicted mask, averaged over a video's snippets.

    The printed equation lacks the minus before both sums and the factor 2 that its reference for the dice loss (V-Net,
    arXiv:1606.04797) has; with both, a perfect mask costs 0. As beta_fg and beta_bg are inverse proportions, each sum
    over T snippets is divided by T, which makes it the mean over the mask's foreground (background) alone.
    A background snippet's target is the empty mask, for which eq. 10 keeps the background sum and a constant dice of 1:
    that sum trains it to stay empty, which matters when detections are scored by max-mask.
    Action snippets and background snippets are averaged apart and added, so neither dominates.

    Args:
        mask_logits: (B, T, T), the masks before their sigmoid; row i predicted by snippet i.
        targets: (B, T, T) of 0 and 1.
        labels: (B, T) int64; rows of `IGNORED` snippets do not count.
        dice_weight: lambda_2, >= 0.

    Returns:
        (B,) float32.
    """
    logits = mask_logits.float()
    predicted = logits.sigmoid()
    entropy = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")  # (B, T, T)
    inside = targets.sum(dim=2)  # (B, T), snippets inside row i's action
    outside = targets.shape[2] - inside
    foreground_part = (entropy * targets).sum(dim=2) / inside.clamp(min=1)
    background_part = (entropy * (1 - targets)).sum(dim=2) / outside.clamp(min=1)
    overlap = 2 * (predicted * targets).sum(dim=2)
    dice = 1 - overlap / (predicted.square().sum(dim=2) + inside).clamp(min=1e-6)
    action_rows = inside > 0
    empty_rows = ~action_rows & (labels != IGNORED)
    action = foreground_part + background_part + dice_weight * dice
    return _mean_where(action, action_rows) + _mean_where(background_part, empty_rows)


def completeness_loss(foreground_logits: Tensor, targets: BatchTargets, *, n_classes: int) -> Tensor:
    """Compute the binary cross entropy of eq. 11 between the foreground mask and the true one.

    The equation prints log(g) * L for its second part, which is infinite wherever g is 0; the text beside it says
    binary cross entropy, and that is what is computed.

    Args:
        foreground_logits: (B, T), the foreground before its sigmoid.
        targets: whose classes below K are foreground.
        n_classes: K.

    Returns:
        (B,) float32, averaged over a video's snippets.
    """
    truth = targets.foreground(n_classes)
    losses = F.binary_cross_entropy_with_logits(foreground_logits.float(), truth, reduction="none")
    return _mean_where(losses, targets.labels != IGNORED)


def consistency_loss(
    class_logits: Tensor,
    mask_logits: Tensor,
    class_features: Tensor,
    mask_features: Tensor,
    *,
    class_threshold: float,
    mask_threshold: float,
    top_snippets: int,
) -> Tensor:
    """Compute eq. 12: one minus the cosine between the foreground features of the two streams.

    Each stream picks its top scoring snippets among those above its threshold: by the largest class probability, and by
    the largest value of the mask the snippet predicts. The features of the picked snippets are averaged. Which snippets
    are picked has no gradient (the binarisation eta of the paper is a step); the features have one. The paper matches
    the feature width to K and to T, which would tie the weights to a vocabulary and a length; here it stays D.

    Args:
        class_logits: (B, K+1, T), background last.
        mask_logits: (B, T, T), the masks before their sigmoid.
        class_features, mask_features: (B, T, D), E_p and E_m.
        class_threshold, mask_threshold: theta_c and theta_m, in [0, 1).
        top_snippets: k, >= 1.

    Returns:
        (B,) float32 in [0, 2]; 0 for a video in which a stream finds no foreground.
    """
    with torch.no_grad():
        class_scores = class_logits.float().softmax(dim=1)[:, :-1].amax(dim=1)  # (B, T)
        mask_scores = mask_logits.float().sigmoid().amax(dim=2)  # (B, T)
    by_class, some_by_class = _top_mean(class_features.float(), class_scores, class_threshold, top_snippets)
    by_mask, some_by_mask = _top_mean(mask_features.float(), mask_scores, mask_threshold, top_snippets)
    distance = 1 - F.cosine_similarity(by_class, by_mask, dim=1)
    return torch.where(some_by_class & some_by_mask, distance, torch.zeros_like(distance))


class ConsistencyProjection(nn.Module):
    """The two 1-D convolutions of eq. 12, E_p and E_m; part of training alone, never of a checkpoint or an export.

    Without bias: two free constants could be made equal and the loss zero without any agreement.
    """

    def __init__(self, embed_dim: int) -> None:
        super().__init__()
        self.classes = nn.Conv1d(embed_dim, embed_dim, kernel_size=1, bias=False)
        self.masks = nn.Conv1d(embed_dim, embed_dim, kernel_size=1, bias=False)

    def forward(self, embedding: Tensor) -> tuple[Tensor, Tensor]:
        """Project the embedding (B, T, D) into E_p and E_m, both (B, T, D)."""
        channels_first = embedding.transpose(1, 2)
        return self.classes(channels_first).transpose(1, 2), self.masks(channels_first).transpose(1, 2)


def _mean_where(values: Tensor, counted: Tensor) -> Tensor:
    """Average (B, T) values over the snippets that count; 0 where none does."""
    weights = counted.to(values.dtype)
    return (values * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)


def _top_mean(features: Tensor, scores: Tensor, threshold: float, k: int) -> tuple[Tensor, Tensor]:
    """Average the features (B, T, D) of at most k best snippets above a threshold; also whether there is any, (B,)."""
    best, places = scores.topk(min(k, scores.shape[1]), dim=1)  # (B, k)
    chosen = (best > threshold).to(features.dtype)
    picked = features.gather(1, places[:, :, None].expand(-1, -1, features.shape[2]))  # (B, k, D)
    mean = (picked * chosen[:, :, None]).sum(dim=1) / chosen.sum(dim=1, keepdim=True).clamp(min=1)
    return mean, chosen.sum(dim=1) > 0
