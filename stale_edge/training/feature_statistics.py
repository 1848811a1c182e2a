"""Fit a detector's normalisation to the training features; every file is read, so a bad one stops the run early."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from stale_edge.data.dataset import SnippetDataset
from stale_edge.errors import StaleEdgeError, TrainingError
from stale_edge.model.normalization import FeatureNormalization
from stale_edge.progress import Progress
from stale_edge.training.cropping import CroppedDataset


def fit_normalization(
    detector: nn.Module, dataset: SnippetDataset[Any] | CroppedDataset, *, progress: Progress
) -> None:
    """Fit the detector's `FeatureNormalization` to the videos of a data set; a detector without one reads nothing.

    Args:
        detector: changed in place.
        dataset: the training videos, at least one.
        progress: called with ("read features", done, total, "") after every video.

    Raises:
        TrainingError: every snippet is the same, or a number is not finite.
        DataError, FeatureContractError: a file cannot be used.
    """

    def videos() -> Iterator[Tensor]:
        for index in range(len(dataset)):
            yield dataset[index].features  # (T, C)
            progress("read features", index + 1, len(dataset), "")

    for module in detector.modules():
        if isinstance(module, FeatureNormalization):
            try:
                module.fit(videos())
            except StaleEdgeError:  # a file that cannot be used names itself
                raise
            except ValueError as error:
                raise TrainingError(
                    f"the {len(dataset)} training videos, {dataset.videos[0]!r} first, cannot be learned from: "
                    f"{error}. Look at the files, or extract them again"
                ) from error
