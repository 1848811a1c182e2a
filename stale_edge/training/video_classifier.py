"""A video-level classifier of our own: multiple-instance learning with attention over snippets.

It replaces UntrimmedNets (Wang et al., CVPR 2017) and uses its soft selection: a snippet's attention is the weight of
its class scores in the video. It learns from the classes of whole videos, without any segment.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from stale_edge.bundle.files import write_file_atomically
from stale_edge.config import FeatureSpec, VideoClassifierConfig, from_dict, to_dict
from stale_edge.data import DataSet, VideoScore
from stale_edge.data.annotations import TRAINING_SUBSETS, VideoAnnotation
from stale_edge.data.dataset import SnippetDataset
from stale_edge.errors import CheckpointError, ConfigError, DataError, TrainingError
from stale_edge.progress import Progress, silent
from stale_edge.training.batches import epoch_batches, mix_seed

FORMAT = "stale-edge-video-classifier/1"


class VideoClassifier(nn.Module):
    """Classify videos by attention pooling.

    Args:
        n_channels: C of the features.
        n_classes: K.
        hidden_dim: width of the layer under classes and attention.
        dropout: dropout probability of that layer in training.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, *, n_channels: int, n_classes: int, hidden_dim: int, dropout: float) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(n_channels))
        self.register_buffer("scale", torch.ones(()))
        self.hidden = nn.Sequential(nn.Linear(n_channels, hidden_dim), nn.ReLU(), nn.Dropout(dropout))
        self.attention = nn.Linear(hidden_dim, 1)
        self.classes = nn.Linear(hidden_dim, n_classes)

    def forward(self, features: Tensor) -> Tensor:
        """Give class logits (B, K) of features (B, T, C)."""
        hidden = self.hidden((features - self.mean) / self.scale)  # (B, T, H)
        weights = self.attention(hidden).softmax(dim=1)  # (B, T, 1), over the video
        return (weights * self.classes(hidden)).sum(dim=1)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class TrainedVideoClassifier:
    """A classifier, and what its inputs and outputs are."""

    model: VideoClassifier
    class_names: tuple[str, ...]
    config: VideoClassifierConfig
    feature_spec: FeatureSpec


class _Bag(NamedTuple):
    """The target of a video: the classes it shows, equally likely, (K,)."""

    classes: Tensor


def train_video_classifier(
    data_set: DataSet,
    *,
    config: VideoClassifierConfig,
    videos: Sequence[str] | None = None,
    progress: Progress = silent,
) -> TrainedVideoClassifier:
    """Train on the classes of the training videos; the cross entropy is against their classes, equally likely.

    Args:
        data_set: annotations and features; segments are not used.
        config: sizes and training.
        videos: to train on, all of the training subset; None: the whole subset.
        progress: called with ("train scores", videos done, videos, note).

    Raises:
        DataError: there is no training subset, or no video of it has features and an action.
        TrainingError: the loss is not finite.
    """
    listed = training_list(data_set) if videos is None else tuple(videos)
    annotations = data_set.annotations.videos
    unknown = [video for video in listed if video not in annotations]
    if unknown:
        raise DataError(f"{data_set.root}: {len(unknown)} videos to train on are not annotated (first: {unknown[0]})")
    kept = [video for video in listed if annotations[video].actions and video in data_set.features]
    if not kept:
        raise DataError(f"{data_set.root}: none of {len(listed)} training videos has features and an action")
    names = tuple(sorted({action.label for video in kept for action in annotations[video].actions}))
    dataset = SnippetDataset(
        data_set,
        kept,
        n_snippets=config.n_snippets,
        channels=data_set.feature_spec.channels,
        make_targets=lambda _, video: _bag(video, names),
    )
    torch.manual_seed(config.seed)
    model = VideoClassifier(
        n_channels=data_set.feature_spec.channels,
        n_classes=len(names),
        hidden_dim=config.hidden_dim,
        dropout=config.dropout,
    )
    _measure(model, dataset)
    optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
    model.train()
    for epoch in range(1, config.epochs + 1):
        torch.manual_seed(mix_seed(config.seed, epoch) % (1 << 32))
        done = (epoch - 1) * len(kept)
        for batch in epoch_batches(len(kept), batch_size=config.batch_size, seed=config.seed, epoch=epoch):
            items = [dataset[i] for i in batch]
            logits = model(torch.stack([item.features for item in items]))
            targets = torch.stack([item.targets.classes for item in items])
            loss = nn.functional.cross_entropy(logits, targets)
            if not bool(loss.isfinite()):
                raise TrainingError(f"epoch {epoch}: the loss is not finite; lower the learning rate")
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            done += len(batch)
            note = f"epoch {epoch}/{config.epochs}  loss {loss.item():.3f}"
            progress("train scores", done, config.epochs * len(kept), note)
    return TrainedVideoClassifier(model.eval(), names, config, data_set.feature_spec)


def training_list(data_set: DataSet) -> tuple[str, ...]:
    """List the videos of the training subset.

    Raises:
        DataError: there is none.
    """
    subsets = data_set.annotations.subsets
    subset = next((name for name in TRAINING_SUBSETS if name in subsets), None)
    if subset is None:
        raise DataError(f"{data_set.root}: no subset to train on; there are: {', '.join(subsets) or 'none'}")
    return data_set.videos(subset)


def score_videos(
    classifier: TrainedVideoClassifier,
    data_set: DataSet,
    videos: Sequence[str],
    *,
    progress: Progress = silent,
) -> dict[str, VideoScore]:
    """Give each video its most likely class and its softmax probability; videos without features are left out.

    Raises:
        FeatureContractError: features are of another width than the classifier was trained on.
        DataError: a feature file cannot be read.
    """
    found = [video for video in videos if video in data_set.features]
    dataset = SnippetDataset(
        data_set,
        found,
        n_snippets=classifier.config.n_snippets,
        channels=classifier.feature_spec.channels,
        make_targets=lambda *_: None,
        cache_bytes=0,
    )
    scores = {}
    for done, video in enumerate(found):
        with torch.inference_mode():
            probabilities = classifier.model(dataset[done].features[None])[0].softmax(dim=0)
        best = int(probabilities.argmax())
        scores[video] = VideoScore(classifier.class_names[best], float(probabilities[best]))
        progress("score videos", done + 1, len(found), "")
    return scores


def write_video_classifier(path: Path, classifier: TrainedVideoClassifier) -> None:
    """Write a classifier as one safetensors file, atomically, with its classes and settings in the header.

    Raises:
        OSError: the file cannot be written.
    """
    header = {
        "format": FORMAT,
        "class_names": json.dumps(classifier.class_names, ensure_ascii=False),
        "config": json.dumps(to_dict(classifier.config)),
        "feature_spec": json.dumps(to_dict(classifier.feature_spec)),
    }
    weights = {name: weight.contiguous() for name, weight in classifier.model.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file_atomically(path, save(weights, metadata=header))


def read_video_classifier(path: Path) -> TrainedVideoClassifier:
    """Read a classifier.

    Raises:
        CheckpointError: the file is missing, truncated, foreign, or its parts do not fit each other.
    """
    path = Path(path)
    try:
        with safe_open(path, framework="pt") as file:
            header: Mapping[str, str] = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: not a readable safetensors file: {error}") from error
    if header.get("format") != FORMAT:
        raise CheckpointError(f"{path}: must be a {FORMAT} of `stale-edge scores train`; got {header.get('format')!r}")
    try:
        names = tuple(json.loads(header["class_names"]))
        config = from_dict(VideoClassifierConfig, json.loads(header["config"]))
        spec = from_dict(FeatureSpec, json.loads(header["feature_spec"]))
        model = VideoClassifier(
            n_channels=spec.channels, n_classes=len(names), hidden_dim=config.hidden_dim, dropout=config.dropout
        )
        model.load_state_dict(weights)
    except (KeyError, ValueError, RuntimeError, ConfigError) as error:
        raise CheckpointError(f"{path}: parts are missing or do not fit each other: {error}") from error
    return TrainedVideoClassifier(model.eval(), names, config, spec)


def _bag(video: VideoAnnotation, names: Sequence[str]) -> _Bag:
    shown = {action.label for action in video.actions}
    classes = torch.tensor([float(name in shown) for name in names])
    return _Bag(classes / classes.sum())


def _measure(model: VideoClassifier, dataset: SnippetDataset[_Bag]) -> None:
    """Set the model's mean and scale to those of the training features."""
    total, square, n_snippets = torch.zeros(()), torch.zeros(()), 0
    for index in range(len(dataset)):
        features = dataset[index].features.double()  # (T, C)
        total, square = total + features.sum(dim=0), square + features.square().sum(dim=0)
        n_snippets += len(features)
    mean = total / n_snippets
    scale = (square / n_snippets - mean.square()).clamp(min=0).mean().sqrt()
    if not float(scale):
        raise TrainingError("every snippet of every training video is the same")
    model.mean.copy_(mean)
    model.scale.copy_(scale)
