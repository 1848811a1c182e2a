"""The vocabulary and videos of a run, and why others were left out."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stale_edge.config import Config, FeatureSpec, to_dict
from stale_edge.data.annotations import TRAINING_SUBSETS, VALIDATION_SUBSETS, VideoAnnotation
from stale_edge.data.folder import DataSet
from stale_edge.data.splits import read_split, read_video_list
from stale_edge.errors import ConfigError, DataError
from stale_edge.model.targets import is_outside


@dataclass(frozen=True)
class TrainingPlan:
    """The videos and classes of a run.

    vocabulary: the K classes trained on, in the order of the rows of the logits.
    videos: of the training subset, in the order of the annotations.
    validation_subset: subset that is validated on; None: the data set has none with features and known actions.
    notes: messages about what was left out.
    feature_spec: what the features are.
    """

    vocabulary: tuple[str, ...]
    videos: tuple[str, ...]
    validation_subset: str | None
    notes: tuple[str, ...]
    feature_spec: FeatureSpec

    def identity(self, config: Config) -> dict[str, Any]:
        """Say what makes two runs the same run, in plain values."""
        videos = "\n".join(self.videos)
        return {
            "config": to_dict(config),
            "feature_spec": to_dict(self.feature_spec),
            "vocabulary": list(self.vocabulary),
            # A cosine spans all epochs, so a run of more epochs differs from its first step on.
            **({"epochs of the cosine": config.train.epochs} if config.train.schedule == "cosine" else {}),
            "videos": f"{len(self.videos)}, sha256 {hashlib.sha256(videos.encode()).hexdigest()[:16]}",
        }


def plan_training(config: Config, data_set: DataSet, *, vocabulary: tuple[str, ...] = ()) -> TrainingPlan:
    """Choose classes and videos.

    With `config.classes` (an open-set split) videos that show only other classes are left out, as in the published
    protocol; in videos that show both, the other classes' snippets are ignored (`assign_targets`). Videos without any
    action stay: they are background. Videos without features are left out, and the plan's notes say so.

    Args:
        config: settings of the run.
        data_set: an open data set folder.
        vocabulary: the classes to train on; empty: those of `config.classes`, or all.

    Raises:
        ConfigError, DataError: the class file is unreadable, names no class that is trained on, the video file names a
            video that is not for training, or the data set has no training subset, no action in it, or features of none
            of its videos.
        ConfigError: the features are not as wide as the model, or not as long as the one length it takes.
    """
    annotations = data_set.annotations
    if data_set.feature_spec.channels != config.model.feature_channels:
        raise ConfigError(
            f"{data_set.root}: features have {data_set.feature_spec.channels} channels; set "
            f"model.feature_channels={data_set.feature_spec.channels} (it is {config.model.feature_channels})"
        )
    n_snippets, fixed = config.train.n_snippets, config.model.length_rule.fixed
    if fixed is not None and n_snippets != fixed:
        raise ConfigError(
            f"the {config.model.architecture} architecture takes one length: train.n_snippets is {n_snippets} and "
            f"model.temporal_scale is {fixed}; set both to the same number"
        )
    subset = next((name for name in TRAINING_SUBSETS if name in annotations.subsets), None)
    if subset is None:
        there = ", ".join(annotations.subsets) or "none"
        raise DataError(f"{data_set.root}: no subset to train on; expected 'training' (or 'train'), there are: {there}")
    vocabulary = vocabulary or (read_split(Path(config.classes)) if config.classes else annotations.classes)
    listed = _listed(config, data_set, subset)
    kept = [name for name in listed if _is_trained_on(annotations.videos[name], set(vocabulary))]
    found = [name for name in kept if name in data_set.features]
    seen = {action.label for name in found for action in annotations.videos[name].actions}
    if not seen & set(vocabulary):
        raise DataError(
            f"{data_set.root}: none of {len(listed)} videos of subset {subset!r} has features and an action of the "
            f"{len(vocabulary)} classes to train on" + (f" (of {config.classes})" if config.classes else "")
        )
    notes = _notes(data_set, listed=listed, kept=kept, found=found)
    validation = next((name for name in VALIDATION_SUBSETS if name in annotations.subsets), None)
    if validation is not None and not _can_be_scored(data_set, validation, set(vocabulary)):
        notes.append(
            f"no validation: no video of subset {validation!r} has features and an action of a class trained on"
        )
        validation = None
    return TrainingPlan(
        vocabulary=tuple(vocabulary),
        videos=tuple(found),
        validation_subset=validation,
        notes=tuple(notes),
        feature_spec=data_set.feature_spec,
    )


def _listed(config: Config, data_set: DataSet, subset: str) -> tuple[str, ...]:
    """List the training videos, or those of them that the config's file names, in the order of the annotations."""
    listed = data_set.annotations.in_subset(subset)
    if not config.videos:
        return listed
    chosen = set(read_video_list(Path(config.videos)))
    foreign = sorted(chosen - set(listed))
    if foreign:
        raise DataError(
            f"{config.videos}: {len(foreign)} of {len(chosen)} videos are not in subset {subset!r} of "
            f"{data_set.root} (the first: {foreign[0]})"
        )
    return tuple(name for name in listed if name in chosen)


def _can_be_scored(data_set: DataSet, subset: str, vocabulary: set[str]) -> bool:
    return any(
        name in data_set.features
        and any(action.label in vocabulary for action in data_set.annotations.videos[name].actions)
        for name in data_set.annotations.in_subset(subset)
    )


def _is_trained_on(video: VideoAnnotation, vocabulary: set[str]) -> bool:
    return not video.actions or any(action.label in vocabulary for action in video.actions)


def _notes(data_set: DataSet, *, listed: tuple[str, ...], kept: list[str], found: list[str]) -> list[str]:
    notes = []
    if len(kept) < len(listed):
        notes.append(f"{len(listed) - len(kept)} of {len(listed)} training videos show only classes not trained on")
    if len(found) < len(kept):
        first = next(name for name in kept if name not in data_set.features)
        notes.append(f"{len(kept) - len(found)} of {len(kept)} training videos have no features (the first: {first})")
    videos = [data_set.annotations.videos[name] for name in found]
    outside = sum(
        is_outside(action.start_s, action.end_s, duration_s=video.duration_s)
        for video in videos
        for action in video.actions
    )
    if outside:
        notes.append(f"{outside} training actions lie outside their video")
    return notes
