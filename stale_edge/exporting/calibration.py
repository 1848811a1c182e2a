"""Calibration videos: int8 takes the ranges of activations from them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stale_edge.bundle import ClassBank, FeatureContract
from stale_edge.data import open_data_set, resample
from stale_edge.exporting.parity.videos import ParityData
from stale_edge.segments import FloatArray

MOST_VIDEOS = 48
"""Largest number of calibration videos; the extremes of activations are stable by then."""


@dataclass(frozen=True)
class Calibration:
    """A few typical inputs of the detector.

    features: videos (T, C) float32, resampled where the contract says so.
    class_embeddings: (K, D) float32.
    """

    features: tuple[FloatArray, ...]
    class_embeddings: FloatArray
    description: str

    def feeds(self) -> Iterator[Mapping[str, FloatArray]]:
        """Give the inputs of the graph, one video a call."""
        for video in self.features:
            yield {"features": video[None], "class_embeddings": self.class_embeddings}


def calibrate_on(
    data: Path | None, compared_on: ParityData, *, contract: FeatureContract, bank: ClassBank
) -> Calibration:
    """Choose calibration videos: training videos of a data set, since files are compared on validation videos.

    Args:
        data: the data set; None: there is none. Without training videos, every second video of `compared_on` is
            used, and the description says so.
        compared_on: videos of the parity check.
        contract: what the features must be, and what they are resampled to.
        bank: the vocabulary of the bundle.
    """
    videos = () if data is None else _training_videos(data, contract)
    if videos:
        return Calibration(videos, bank.embeddings, f"{len(videos)} training videos")
    videos = tuple(video.features for video in compared_on.videos[::2])
    return Calibration(videos, bank.embeddings, f"{len(videos)} {compared_on.source} videos, which are compared too")


def _training_videos(data: Path, contract: FeatureContract) -> tuple[FloatArray, ...]:
    data_set = open_data_set(data)
    if "training" not in data_set.annotations.subsets:
        return ()
    names = [name for name in data_set.videos("training") if name in data_set.features]
    if not names:
        return ()
    chosen = [names[int(i)] for i in np.linspace(0, len(names) - 1, min(MOST_VIDEOS, len(names)))]
    loaded = [np.asarray(data_set.load(name), np.float32) for name in chosen]
    target = contract.resample_to
    return tuple(video if target is None else resample(video, target) for video in loaded)
