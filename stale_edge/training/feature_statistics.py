"""Mean and spread of the features that a detector is trained on; reads every file, so a bad one stops the run early."""

import math
from typing import Any

import torch
from torch import Tensor

from stale_edge.data.dataset import SnippetDataset
from stale_edge.errors import TrainingError
from stale_edge.progress import Progress


def feature_statistics(dataset: SnippetDataset[Any], *, progress: Progress) -> tuple[Tensor, float]:
    """Measure what `TemporalEmbedding.set_feature_statistics` takes.

    Args:
        dataset: at least one video.
        progress: called with ("read features", done, total, "") after every video.

    Returns:
        mean: (C,) float32, over all snippets of all videos.
        rms: root of the mean squared distance from it, over snippets and channels, > 0.

    Raises:
        TrainingError: every snippet is the same.
        DataError, FeatureContractError: a file cannot be used.
    """
    mean, square, n_snippets = torch.zeros(()), torch.zeros(()), 0
    for index in range(len(dataset)):
        features = dataset[index].features.double()  # (T, C)
        mean = mean + features.sum(dim=0)
        square = square + features.square().sum(dim=0)
        n_snippets += len(features)
        progress("read features", index + 1, len(dataset), "")
    mean = mean / n_snippets  # (C,)
    variance = (square / n_snippets - mean.square()).clamp(min=0)
    rms = math.sqrt(float(variance.mean()))
    if rms == 0:
        raise TrainingError(
            f"every snippet of all {len(dataset)} training videos is the same, {dataset.videos[0]!r} first; "
            "features must differ to be learned from. Look at the files, or extract them again"
        )
    return mean.float(), rms
