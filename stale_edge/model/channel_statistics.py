"""Mean and standard deviation of each feature channel."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stale_edge.segments import FloatArray


@dataclass(frozen=True)
class FeatureStatistics:
    """Statistics of typical input features, from which int8 gets its ranges.

    mean: (C,) float32. deviation: (C,) float32, > 0.
    """

    mean: Tensor
    deviation: Tensor

    @classmethod
    def of(cls, features: Iterable[FloatArray]) -> "FeatureStatistics":
        """Measure videos (T, C) or (B, T, C); every snippet counts alike. A channel that never varies is not scaled."""
        snippets = np.concatenate([video.reshape(-1, video.shape[-1]) for video in features]).astype(np.float64)
        deviation = snippets.std(axis=0)
        floor = max(float(np.median(deviation)) * 1e-2, np.finfo(np.float32).tiny)
        deviation = np.where(deviation > floor, deviation, 1.0)
        return cls(torch.from_numpy(snippets.mean(axis=0)).float(), torch.from_numpy(deviation).float())
