"""What a training run may read of a video's annotation, and what it starts from."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from stale_edge.data.annotations import VideoAnnotation
from stale_edge.model.checkpoint import read_checkpoint
from stale_edge.model.weak.labels import VideoLabels
from stale_edge.training.class_sources import ClassSource, encoder_of

Supervision = Callable[[str, VideoAnnotation], Any]
"""Turns the annotation of a named video into what an objective's `targets` reads."""


def annotated_actions(_video: str, annotation: VideoAnnotation) -> Any:
    """Full supervision: all actions, with their times."""
    return annotation.actions


@dataclass(frozen=True)
class FromVideoLabels:
    """Weak supervision: the set of a video's classes, and its pseudo-labels (T, K) where there are some."""

    pseudo: Mapping[str, NDArray[np.int8]] = field(default_factory=dict)

    def __call__(self, video: str, annotation: VideoAnnotation) -> VideoLabels:
        """Read the class names; times are left behind."""
        return VideoLabels(frozenset(action.label for action in annotation.actions), self.pseudo.get(video))

    def digest(self) -> str:
        """Hash the pseudo-labels."""
        digest = hashlib.sha256()
        for video, labels in sorted(self.pseudo.items()):
            digest.update(f"{video} {labels.shape}".encode())
            digest.update(labels.tobytes())
        return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Step:
    """One training run among others of a procedure; the defaults are those of a run by itself.

    supervision: what of the annotations is read.
    start: checkpoint whose weights the run starts from; None: fresh weights.
    encoder: of the features, as in `open_data_set`.
    """

    supervision: Supervision = annotated_actions
    start: Path | None = None
    encoder: str = ""

    def identity(self) -> dict[str, Any]:
        """Say what else makes two runs the same run; nothing for a run by itself."""
        if not isinstance(self.supervision, FromVideoLabels):
            return {}
        return {"supervision": {"pseudo": self.supervision.digest(), "continues": self.start is not None}}


ALONE = Step()
"""A run by itself."""


def start_from(checkpoint: Path, *, detector: nn.Module, classes: ClassSource) -> None:
    """Give a detector, and the learned parts of its class embeddings, the weights of a checkpoint.

    Raises:
        CheckpointError: it cannot be read.
    """
    start = read_checkpoint(checkpoint)
    detector.load_state_dict(start.model.state_dict())
    encoder = encoder_of(classes)
    if encoder is not None and start.text_encoder is not None:
        encoder.load_state_dict(start.text_encoder.state_dict())
