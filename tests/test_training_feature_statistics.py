"""Mean and spread of training features against a plain computation, and the data that has none."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from stale_edge.errors import TrainingError
from stale_edge.training.feature_statistics import feature_statistics


class Videos:
    """As much of a data set as statistics need."""

    def __init__(self, *features: np.ndarray) -> None:
        self._features = features
        self.videos = tuple(f"v{i}" for i in range(len(features)))

    def __len__(self) -> int:
        return len(self._features)

    def __getitem__(self, index: int) -> SimpleNamespace:
        return SimpleNamespace(features=torch.from_numpy(self._features[index]))


def test_they_are_those_of_all_snippets_together() -> None:
    random = np.random.default_rng(0)
    videos = [random.normal(5.5, 0.3, size=(n, 4)).astype(np.float32) for n in (7, 30)]
    steps: list[tuple[str, int, int]] = []
    mean, rms = feature_statistics(
        Videos(*videos),  # type: ignore[arg-type]
        progress=lambda stage, done, total, _: steps.append((stage, done, total)),
    )
    together = np.concatenate(videos).astype(np.float64)
    np.testing.assert_allclose(mean.numpy(), together.mean(axis=0), rtol=1e-6)
    assert mean.dtype == torch.float32
    assert rms == pytest.approx(np.sqrt(((together - together.mean(axis=0)) ** 2).mean()), rel=1e-6)
    assert steps == [("read features", 1, 2), ("read features", 2, 2)]


def test_videos_without_any_difference_are_refused_by_name() -> None:
    same = np.ones((5, 3), dtype=np.float32)
    with pytest.raises(TrainingError, match=r"all 2 training videos is the same, 'v0' first"):
        feature_statistics(Videos(same, same), progress=lambda *_: None)  # type: ignore[arg-type]
