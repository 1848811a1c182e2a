"""The videos of an epoch as batches: which data set reads them, and this process' part of every global batch."""

import math
from collections.abc import Iterator
from typing import Any, cast

import torch
from torch.utils.data import DataLoader

from stale_edge.config import Config, TrainConfig
from stale_edge.data.annotations import VideoAnnotation
from stale_edge.data.dataset import Item, SnippetDataset
from stale_edge.data.folder import DataSet
from stale_edge.model.batch_part import BatchPart, longest_of_batch
from stale_edge.model.detector import CountsOverBatch, Objective
from stale_edge.runtime.contract import time_grid
from stale_edge.training.batches import Batch, Share, collate, epoch_batches, share_of
from stale_edge.training.cropping import CroppedDataset
from stale_edge.training.plan import TrainingPlan
from stale_edge.training.supervision import Supervision
from stale_edge.training.torch_localizer import feature_contract

TrainingSet = SnippetDataset[Any] | CroppedDataset


class EpochBatches:
    """This process' part of the global batches of every epoch.

    Args:
        dataset: the training videos.
        config: batch size, seed and number of workers.
        objective: stacks the targets.
        rank, n_processes: which process this is.
    """

    def __init__(
        self, dataset: TrainingSet, config: TrainConfig, objective: Objective, *, rank: int, n_processes: int
    ) -> None:
        self._dataset = dataset
        self._config = config
        self._objective = objective
        self._rank = rank
        self._n_processes = n_processes

    def __len__(self) -> int:
        return math.ceil(len(self._dataset) / self._config.batch_size)

    def of(self, epoch: int) -> Iterator[Batch]:
        """Read the batches of an epoch, counted from 1."""
        if isinstance(self._dataset, CroppedDataset):
            self._dataset.epoch = epoch
        config = self._config
        globals_ = epoch_batches(len(self._dataset), batch_size=config.batch_size, seed=config.seed, epoch=epoch)
        shares = [share_of(batch, rank=self._rank, n_processes=self._n_processes) for batch in globals_]
        loader: DataLoader[list[Item[Any]]] = DataLoader(
            cast(Any, self._dataset),
            batch_sampler=[list(share.items) for share in shares],
            collate_fn=list,
            num_workers=config.workers,
            generator=torch.Generator().manual_seed(0),  # or making the iterator would draw from the dropout's
        )
        for items, share in zip(loader, shares, strict=True):
            part = self._part(items, share)
            longest = None if part is None else part.n_snippets
            yield collate(items, share, stack=self._objective.stack, n_snippets=longest)

    def _part(self, items: list[Item[Any]], share: Share) -> BatchPart | None:
        """Describe this process' part of a batch to an objective that counts over the whole batch."""
        if self._n_processes == 1 or not isinstance(self._objective, CountsOverBatch):
            return None
        longest = longest_of_batch(max(len(item.features) for item in items))
        part = BatchPart(share.batch_size, torch.tensor(share.weights) > 0, longest)
        self._objective.part = part
        return part


def open_training_set(
    config: Config, data_set: DataSet, plan: TrainingPlan, objective: Objective, supervision: Supervision
) -> TrainingSet:
    """Open the training videos: resampled to `train.n_snippets`, or random parts where the model does not resample."""
    contract = feature_contract(config, data_set.feature_spec)

    def make_targets(name: str, video: VideoAnnotation, n_snippets: int) -> Any:
        return objective.targets(
            supervision(name, video),
            vocabulary=plan.vocabulary,
            grid=time_grid(contract, duration_s=video.duration_s),
            n_snippets=n_snippets,
        )

    if config.model.resampling == "none":
        return CroppedDataset(
            data_set,
            plan.videos,
            channels=config.model.feature_channels,
            make_targets=make_targets,
            objective=objective,
            seed=config.train.seed,
        )
    return SnippetDataset(
        data_set,
        plan.videos,
        n_snippets=config.train.n_snippets,
        channels=config.model.feature_channels,
        make_targets=lambda name, video: make_targets(name, video, config.train.n_snippets),
    )
