"""Videos of the parity check: from the training distribution, at sizes that no graph was traced with."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import nn

from stale_edge.bundle import ClassBank, FeatureContract, TensorSpec
from stale_edge.config import ModelSettings, SimulateConfig
from stale_edge.data import open_data_set, resample
from stale_edge.data.simulate_features import FeatureModel
from stale_edge.data.simulate_timeline import draw_actions
from stale_edge.errors import DataError
from stale_edge.exporting.graph.detector_graph import fixed_length, output_specs, with_sizes
from stale_edge.model.normalization import FeatureNormalization
from stale_edge.progress import Progress, silent
from stale_edge.runtime.contract import check_feature_spec
from stale_edge.segments import FloatArray

MOST_VIDEOS = 256
"""Largest number of videos compared, evenly spread over a larger validation set, so that an export takes minutes."""

MOST_NUMBERS = 50_000_000
"""Largest count of numbers in all reference outputs, which are held in memory; limits the videos where T is large."""

SIMULATED_VIDEOS = 24

_SMALLEST_SIMULATION = 16


@dataclass(frozen=True)
class ParityVideo:
    """One video as an input of the detector: features (T, C) float32, resampled where the contract says so."""

    name: str
    features: FloatArray
    duration_s: float


@dataclass(frozen=True)
class ParityData:
    """Videos to compare decisions on.

    contract: description of their features.
    truth: annotations of these videos only, in ActivityNet's layout; None: mAP cannot be measured.
    no_truth: reason why there are no annotations; empty where there are.
    """

    contract: FeatureContract
    source: Literal["validation", "simulated"]
    description: str
    videos: tuple[ParityVideo, ...]
    truth: dict[str, Any] | None
    no_truth: str


@dataclass(frozen=True)
class ShapeCase:
    """A batch of a size that differs from the traced one: features (B, T, C), class embeddings (K, D)."""

    features: FloatArray
    class_embeddings: FloatArray


def parity_videos(
    data: Path | None, model: nn.Module, *, contract: FeatureContract, bank: ClassBank, progress: Progress = silent
) -> ParityData:
    """Take the validation videos of a data set (`validation_data`); without one, simulate some (`simulated_data`)."""
    if data is None:
        return simulated_data(model, contract=contract, bank=bank)
    return validation_data(data, contract=contract, bank=bank, outputs=output_specs(model), progress=progress)


def validation_data(
    root: Path,
    *,
    contract: FeatureContract,
    bank: ClassBank,
    outputs: Sequence[TensorSpec] = (),
    progress: Progress = silent,
) -> ParityData:
    """Take the validation videos of a data set.

    Args:
        root: the data set.
        contract: what the features must be, and what they are resampled to.
        bank: the vocabulary of the bundle.
        outputs: the detector's outputs; if they need much memory, fewer videos are taken.
        progress: called with ("read validation videos", done, total).

    Raises:
        DataError: no such data set, no validation video, or a feature file cannot be used.
        FeatureContractError: the data set's features are of another kind than the detector's.
    """
    data_set = open_data_set(root)
    check_feature_spec(contract, data_set.feature_spec)
    try:
        names = data_set.videos("validation")
    except ValueError as error:
        raise DataError(f"{root}: parity is decided on validation videos: {error}") from error
    chosen = [names[i] for i in np.unique(np.linspace(0, len(names) - 1, min(len(names), MOST_VIDEOS)).astype(int))]
    videos: list[ParityVideo] = []
    numbers = 0
    for done, name in enumerate(chosen):
        progress("read validation videos", done, len(chosen))
        features = data_set.load(name)
        if contract.resample_to is not None:
            features = resample(features, contract.resample_to)
        numbers += _numbers(outputs, n_snippets=len(features), n_classes=len(bank))
        if videos and numbers > MOST_NUMBERS:
            break
        videos.append(ParityVideo(name, features, data_set.annotations.videos[name].duration_s))
    progress("read validation videos", len(chosen), len(chosen))
    database = data_set.annotations.to_layout()["database"]
    truth = {"database": {video.name: database[video.name] for video in videos}}
    labels = {action["label"] for entry in truth["database"].values() for action in entry["annotations"]}
    known = bool(labels & set(bank.names))
    return ParityData(
        contract=contract,
        source="validation",
        description=f"{len(videos)} of {len(names)} validation videos",
        videos=tuple(videos),
        truth=truth if known else None,
        no_truth="" if known else "no validation video has an action of a class in the class bank",
    )


def simulated_data(model: nn.Module, *, contract: FeatureContract, bank: ClassBank, seed: int = 0) -> ParityData:
    """Simulate videos with CLIP's statistics, shifted and scaled to the training features' if these are known."""
    rng = np.random.default_rng(seed)
    channels = contract.channels
    width = max(channels, _SMALLEST_SIMULATION)
    shares_space = bank.width == width and len(bank) >= 2 and bool(np.ptp(bank.embeddings, axis=0).any())
    embeddings = bank.embeddings if shares_space else rng.standard_normal((8, width)).astype(np.float32)
    config = SimulateConfig(channels=width)
    features_of = FeatureModel(config, embeddings)
    snippet_s = config.stride / config.fps
    videos = []
    for i in range(SIMULATED_VIDEOS):
        timeline = draw_actions(config, rng, classes=(int(rng.integers(len(embeddings))),))
        n_snippets = max(1, round(timeline.duration_s / snippet_s))
        features = features_of.render(timeline, n_snippets=n_snippets, snippet_s=snippet_s, rng=rng)[:, :channels]
        if contract.resample_to is not None:
            features = resample(features, contract.resample_to)
        videos.append(ParityVideo(f"simulated_{i:02d}", np.ascontiguousarray(features), timeline.duration_s))
    moved, statistics = _with_training_statistics(model, videos)
    return ParityData(
        contract=contract,
        source="simulated",
        description=f"{len(videos)} simulated videos, {statistics}",
        videos=moved,
        truth=None,
        no_truth="no labelled validation videos were given (--data), so no mAP can be measured",
    )


def shape_cases(data: ParityData, *, config: ModelSettings, bank: ClassBank) -> tuple[ShapeCase, ...]:
    """Cut batches of several B, T and K from the videos; none has the size of the traced example."""
    length = fixed_length(config)
    half = max(1, len(bank) // 2)
    sizes = (
        [(1, 1, 1), (1, 2, len(bank)), (3, 41, half), (1, 100, len(bank)), (2, 300, 1)]
        if length is None
        else [(1, length, 1), (3, length, half), (1, length, len(bank))]
    )
    cases = []
    for n_videos, n_snippets, n_classes in sizes:
        videos = islice(cycle(data.videos), n_videos)
        batch = np.stack([resample(video.features, n_snippets) for video in videos])
        cases.append(ShapeCase(batch, bank.embeddings[-n_classes:]))  # the last classes: a prefix would hide an offset
    return tuple(cases)


def _numbers(outputs: Sequence[TensorSpec], *, n_snippets: int, n_classes: int) -> int:
    """Count the numbers in a detector's outputs for one video. A pyramid over T snippets has about 2 T points."""
    sizes = {"B": 1, "T": n_snippets, "K": n_classes, "P": 2 * n_snippets}
    return sum(math.prod(int(size) for size in spec.shape) for spec in with_sizes(outputs, sizes))


def _with_training_statistics(model: nn.Module, videos: list[ParityVideo]) -> tuple[tuple[ParityVideo, ...], str]:
    """Shift and scale simulated features to the detector's training features, if it has their statistics."""
    known = next((module for module in model.modules() if isinstance(module, FeatureNormalization)), None)
    if known is None or not bool(known.center.any()):
        return tuple(videos), "with the statistics of CLIP features (the checkpoint stores none of its own)"
    mean = np.concatenate([video.features for video in videos]).mean(axis=0)
    centers = [video.features.mean(axis=0) if known.normalize == "video-mean" else mean for video in videos]
    left = np.concatenate([video.features - center for video, center in zip(videos, centers, strict=True)])
    rms = float(np.sqrt(np.square(left).mean()))
    factor, offset = 1 / (rms * float(known.scale)), known.center.detach().cpu().numpy()
    moved = tuple(
        ParityVideo(video.name, ((video.features - mean) * factor + offset).astype(np.float32), video.duration_s)
        for video in videos
    )
    return moved, "with the mean and scale of the training features that the checkpoint stores"
