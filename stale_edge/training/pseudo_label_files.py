"""Pseudo-labels of all training videos: made by one branch, kept in a file, drawn."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stale_edge.bundle.files import write_file_atomically
from stale_edge.config import Config
from stale_edge.data.feature_files import resample
from stale_edge.data.folder import DataSet
from stale_edge.decoding import decoder_of
from stale_edge.errors import TrainingError
from stale_edge.model.checkpoint import read_checkpoint
from stale_edge.model.weak.labels import LabelCounts, count_labels, pseudo_labels
from stale_edge.model.weak.settings import VlpConfig, WeakLossConfig
from stale_edge.progress import Progress
from stale_edge.report.label_plot import label_plot
from stale_edge.training.torch_localizer import TorchLocalizer

CLASSES_KEY = "classes"
VIDEO_KEY = "video/"


@dataclass(frozen=True)
class PseudoLabels:
    """Pseudo-labels: (T, K) int8 of 1, 0 and -1 for each video, and the K class names."""

    classes: tuple[str, ...]
    videos: Mapping[str, NDArray[np.int8]]

    def counts(self, data_set: DataSet) -> LabelCounts:
        """Count the labels of each kind among the classes that each video shows."""
        each = [
            count_labels(labels, present_classes(data_set, video, self.classes))
            for video, labels in self.videos.items()
        ]
        return LabelCounts(*(sum(kind) for kind in zip(*each, strict=True)))

    def save(self, path: Path) -> None:
        """Write an .npz: `classes`, and one array `video/<name>` each."""
        buffer = io.BytesIO()
        arrays = {f"{VIDEO_KEY}{video}": labels for video, labels in self.videos.items()}
        np.savez_compressed(buffer, **{CLASSES_KEY: np.array(self.classes)}, **arrays)  # type: ignore[arg-type]
        path.parent.mkdir(parents=True, exist_ok=True)
        write_file_atomically(path, buffer.getvalue())

    @classmethod
    def load(cls, path: Path) -> "PseudoLabels":
        """Read an .npz of `save`.

        Raises:
            TrainingError: it is not readable, or holds something else.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                videos = {key.removeprefix(VIDEO_KEY): file[key] for key in file.files if key.startswith(VIDEO_KEY)}
                return cls(tuple(file[CLASSES_KEY].tolist()), videos)
        except Exception as error:  # numpy and zipfile raise a dozen types for a file that is not theirs
            raise TrainingError(
                f"{path}: not readable as pseudo-labels: {error}; delete it, it is made again"
            ) from error


def make_pseudo_labels(
    teacher: Path, data_set: DataSet, videos: Sequence[str], *, config: Config, progress: Progress
) -> tuple[PseudoLabels, bytes]:
    """Label the training videos with the scores of a branch.

    Args:
        teacher: its checkpoint.
        data_set: with the features of that branch.
        videos: to label.
        config: T of training and the thresholds, in `train` and `loss`.
        progress: called with ("pseudo-labels", done, total).

    Returns:
        The labels, and a PNG with their counts and the first video that shows a class.
    """
    checkpoint = read_checkpoint(teacher)
    localizer = TorchLocalizer.of(checkpoint)
    decode, classes = checkpoint.config.decode, checkpoint.vocabulary
    loss = config.loss
    if not isinstance(loss, WeakLossConfig):
        raise TypeError(f"losses of weak are needed; got {type(loss).__name__}")
    low = loss.vlp_low if isinstance(checkpoint.config.model, VlpConfig) else loss.low
    labels: dict[str, NDArray[np.int8]] = {}
    shown = None
    for done, video in enumerate(videos):
        features = resample(data_set.load(video), config.train.n_snippets)
        outputs = {name: values[0] for name, values in localizer.forward(features[None]).items()}
        scores = decoder_of(decode).class_scores(outputs, decode)
        present = present_classes(data_set, video, classes)
        labels[video] = pseudo_labels(scores, present, low=low, high=loss.high)
        if shown is None and present.any():
            row = int(np.flatnonzero(present)[0])
            shown = (f"{video}: {classes[row]}", scores[row], labels[video][:, row])
        progress("pseudo-labels", done + 1, len(videos), "")
    made = PseudoLabels(classes, labels)
    return made, label_plot(made.counts(data_set)._asdict(), example=shown)


def present_classes(data_set: DataSet, video: str, classes: Sequence[str]) -> NDArray[np.bool_]:
    """Say which classes a video shows, (K,); times are not read."""
    names = {action.label for action in data_set.annotations.videos[video].actions}
    return np.array([name in names for name in classes])
