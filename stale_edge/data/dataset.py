"""A data set's videos as PyTorch items: resampled features, and targets that the caller makes from the annotations."""

from collections.abc import Callable, Sequence
from typing import Generic, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.utils.data import Dataset

from stale_edge.data.annotations import VideoAnnotation
from stale_edge.data.feature_files import resample
from stale_edge.data.folder import DataSet

TargetT = TypeVar("TargetT")

CACHE_BYTES = 2 << 30
"""Largest total size of resampled features kept in memory; ActivityNet at T = 100 just fits."""


class Item(NamedTuple, Generic[TargetT]):
    """One video.

    video: its name.
    features: (T, C) float32, resampled to the data set's T.
    targets: result of `make_targets`.
    """

    video: str
    features: Tensor
    targets: TargetT


class SnippetDataset(Dataset[Item[TargetT]], Generic[TargetT]):
    """Read videos of a data set, resampled to one number of snippets.

    Targets are made when the dataset is built, so that a bad annotation fails before training; features are read
    when a video is first requested.

    Args:
        data_set: an open data set folder.
        videos: names of the videos, each in the annotations; their order is the order of the items.
        n_snippets: T, >= 1.
        channels: C, required of every feature file.
        make_targets: turns a video's annotation into its targets.
        cache_bytes: features are kept in memory if their total size is at most this; 0 keeps none.

    Raises:
        DataError, FeatureContractError: the features of an item cannot be read; the file is named.
    """

    def __init__(
        self,
        data_set: DataSet,
        videos: Sequence[str],
        *,
        n_snippets: int,
        channels: int,
        make_targets: Callable[[str, VideoAnnotation], TargetT],
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        self.videos = tuple(videos)
        self._data_set = data_set
        self._n_snippets = n_snippets
        self._channels = channels
        self._targets = [make_targets(video, data_set.annotations.videos[video]) for video in self.videos]
        fits = 4 * len(self.videos) * n_snippets * channels <= cache_bytes
        self._cache: dict[int, Tensor] | None = {} if fits else None

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, index: int) -> Item[TargetT]:
        return Item(self.videos[index], self._features(index), self._targets[index])

    def _features(self, index: int) -> Tensor:
        if self._cache is not None and index in self._cache:
            return self._cache[index]
        raw = self._data_set.features.load(self.videos[index], channels=self._channels)
        features = torch.from_numpy(resample(raw, self._n_snippets))
        if self._cache is not None:
            self._cache[index] = features
        return features
