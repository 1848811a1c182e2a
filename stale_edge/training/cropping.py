"""Videos at their own rate as PyTorch items: every epoch another part of each."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from stale_edge.data.annotations import VideoAnnotation
from stale_edge.data.dataset import CACHE_BYTES, Item
from stale_edge.data.folder import DataSet
from stale_edge.model.detector import Crops, Objective
from stale_edge.training.batches import mix_seed


class CroppedDataset(Dataset[Item[Any]]):
    """Read parts of videos that are not resampled.

    The part depends on the seed, the epoch and the video alone, so a resumed run gets the same parts.

    Args:
        data_set: an open data set folder.
        videos: names of the videos, each in the annotations; their order is the order of the items.
        channels: C that every feature file must have.
        make_targets: makes the targets of a whole video from its name, its annotation and its number of snippets.
        objective: draws the parts.
        seed: seed of the random parts.

    Raises:
        TypeError: the objective draws no parts.
        DataError, FeatureContractError: from an item whose features cannot be read; the file is named.
    """

    def __init__(
        self,
        data_set: DataSet,
        videos: Sequence[str],
        *,
        channels: int,
        make_targets: Callable[[str, VideoAnnotation, int], Any],
        objective: Objective,
        seed: int,
    ) -> None:
        if not isinstance(objective, Crops):
            raise TypeError(f"{type(objective).__name__} draws no parts of videos, so they must be resampled")
        self.videos = tuple(videos)
        self.epoch = 0
        self._data_set = data_set
        self._channels = channels
        self._make_targets = make_targets
        self._crops: Crops = objective
        self._seed = seed
        self._cache: dict[int, Tensor] = {}
        self._free_bytes = CACHE_BYTES

    def __len__(self) -> int:
        return len(self.videos)

    def __getitem__(self, index: int) -> Item[Any]:
        features = self._features(index)
        name = self.videos[index]
        targets = self._make_targets(name, self._data_set.annotations.videos[name], len(features))
        generator = torch.Generator().manual_seed(mix_seed(mix_seed(self._seed, self.epoch), index))
        start, part = self._crops.crop(targets, generator)
        return Item(self.videos[index], features[start : start + part.n_snippets], part)

    def _features(self, index: int) -> Tensor:
        if index in self._cache:
            return self._cache[index]
        features = torch.from_numpy(self._data_set.features.load(self.videos[index], channels=self._channels))
        if features.nbytes <= self._free_bytes:
            self._free_bytes -= features.nbytes
            self._cache[index] = features
        return features
