"""The data set folder: annotations, features, splits, scores and the feature spec."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from stale_edge.bundle.files import write_file_atomically
from stale_edge.config import FeatureSpec, from_dict, to_dict
from stale_edge.data.annotations import Annotations, read_annotations, read_json, refusing
from stale_edge.data.feature_files import FeatureFolder
from stale_edge.data.public import find_public_layout, read_public_annotations
from stale_edge.data.scores import VideoScore, read_scores
from stale_edge.data.splits import read_split
from stale_edge.errors import ConfigError, DataError, shown
from stale_edge.paths import inside
from stale_edge.segments import FloatArray, find_video

ANNOTATIONS_FILE = "annotations.json"
FEATURES_FOLDER = "features"
SPLITS_FOLDER = "splits"
SCORES_FILE = "scores.json"
FEATURE_SPEC_FILE = "feature_spec.json"
CLASS_BANK_FILE = "class_bank.npz"
"""Embeddings of the class names that no training has touched."""
TEXT_ENCODER_FOLDER = "text_encoder"
"""The text encoder that matches the features, in transformers' format."""


@dataclass(frozen=True)
class DataSet:
    """An opened data set: annotations in memory, features on disk.

    scores: video-level scores by annotated video, empty if the data set has none.
    """

    root: Path
    annotations: Annotations
    features: FeatureFolder
    feature_spec: FeatureSpec
    scores: Mapping[str, VideoScore]

    @property
    def class_names(self) -> tuple[str, ...]:
        """All annotated classes, sorted."""
        return self.annotations.classes

    @property
    def splits(self) -> tuple[str, ...]:
        """Paths of the split files relative to `splits/`, sorted."""
        folder = self.root / SPLITS_FOLDER
        return tuple(sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.list")))

    def videos(self, subset: str | None = None) -> tuple[str, ...]:
        """List the annotated videos of a subset, or all, in the order of the annotations.

        Raises:
            ValueError: no video is in the subset; the message lists the existing subsets.
        """
        return tuple(self.annotations.videos) if subset is None else self.annotations.in_subset(subset)

    def split(self, name: str) -> tuple[str, ...]:
        """Read the class names of one split file, named as in `splits`.

        Raises:
            DataError: there is no such split, it is outside `splits/`, or it is unreadable.
        """
        return read_split(inside(self.root / SPLITS_FOLDER, name, nested=True))

    def load(self, video: str) -> FloatArray:
        """Read one video's features, (T, C) float32, finite, C from the feature spec.

        Raises:
            DataError: there are no features, more than one file has them, or the file is unreadable.
            FeatureContractError: they are empty, not floating, not finite, or have another width.
        """
        return self.features.load(video, channels=self.feature_spec.channels)


def open_data_set(root: Path, *, encoder: str = "") -> DataSet:
    """Open a data set folder.

    It holds `annotations.json` and `features/`, and may hold `splits/`, `scores.json` and `feature_spec.json`. A folder
    in the layout of the public STALE code is opened too. Without `feature_spec.json` the width C is that of the first
    annotated video that has features.

    Args:
        root: the folder.
        encoder: name of a further encoder whose features the data set holds: those in `features_<encoder>/`, described
            by `feature_spec_<encoder>.json`; empty: those in `features/`.

    Raises:
        DataError: parts are missing (all are named), or one of the files cannot be read.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"{root}: no such data set folder")
    public = None if encoder or (root / ANNOTATIONS_FILE).is_file() else find_public_layout(root)
    features = features_folder(encoder)
    parts = {
        ANNOTATIONS_FILE: public is not None or (root / ANNOTATIONS_FILE).is_file(),
        f"{features}/": (root / features).is_dir(),
    }
    missing = [part for part, there in parts.items() if not there]
    if missing:
        raise DataError(
            f"{root}: not a data set folder, missing: {', '.join(missing)}; it needs {ANNOTATIONS_FILE} (ActivityNet "
            f"layout) and {features}/ (one <video>.npy a video); `stale-edge data simulate --out DIR` makes one"
        )
    if public is not None:
        return read_public_layout(root)
    scores = root / SCORES_FILE
    return _assemble(
        root,
        annotations=read_annotations(root / ANNOTATIONS_FILE),
        features=FeatureFolder(root / features),
        scores=read_scores(scores) if scores.is_file() else {},
        spec=root / feature_spec_file(encoder),
    )


def features_folder(encoder: str) -> str:
    """Name the folder of features of a further encoder; empty: the first one."""
    return f"{FEATURES_FOLDER}_{encoder}" if encoder else FEATURES_FOLDER


def feature_spec_file(encoder: str) -> str:
    """Name the file that describes the features of a further encoder; empty: the first one."""
    return f"feature_spec_{encoder}.json" if encoder else FEATURE_SPEC_FILE


def read_public_layout(root: Path, *, features: Path | None = None) -> DataSet:
    """Open a data set in the layout of the public STALE code.

    `anet_anno_action.json` and `video_info_new.csv` lie in `root` or, as in the public repository, in
    `data/activitynet_annotations/`; `stale_best_score.json` beside them or in `root`; class lists under `splits/`.

    Args:
        root: the folder.
        features: folder with `v_<id>.npy` (names without `v_` are found too); None: `root/features`.

    Raises:
        DataError: a file is missing or cannot be read.
    """
    root = Path(root)
    layout = find_public_layout(root)
    if layout is None:
        raise DataError(f"{root}: anet_anno_action.json is missing; it is not in the layout of the public STALE code")
    return _assemble(
        root,
        annotations=read_public_annotations(layout.annotations, layout.video_info),
        features=FeatureFolder(root / FEATURES_FOLDER if features is None else Path(features)),
        scores={} if layout.scores is None else read_scores(layout.scores),
    )


def read_feature_spec(path: Path) -> FeatureSpec:
    """Read `feature_spec.json`; keys that are not in `FeatureSpec`, such as `simulation`, are ignored.

    Raises:
        DataError: the file is unreadable, or a value is of the wrong type or out of range.
    """
    path = Path(path)
    document = read_json(path, refusing(path))
    if not isinstance(document, dict):
        raise DataError(f"{path}: must hold an object with encoder, channels, fps and stride; got {shown(document)}")
    known = {field.name for field in fields(FeatureSpec)}
    if "channels" not in document:
        raise DataError(f'{path}: "channels", the width C of the features, is missing')
    try:
        return from_dict(FeatureSpec, {key: value for key, value in document.items() if key in known})
    except ConfigError as error:
        raise DataError(f"{path}: {error}") from error


def write_feature_spec(path: Path, spec: FeatureSpec, *, extra: Mapping[str, Any] | None = None) -> None:
    """Write `feature_spec.json` atomically.

    Args:
        path: the file; its folder must exist.
        spec: the feature contract.
        extra: further keys with JSON values, such as the parameters of a simulation.

    Raises:
        ValueError: an extra key has the name of a field of the spec.
        DataError: the file cannot be written.
    """
    document = to_dict(spec)
    clash = sorted(set(document) & set(extra or {}))
    if clash:
        raise ValueError(f"extra keys must not be named like fields of the feature spec; got {', '.join(clash)}")
    text = json.dumps({**document, **(extra or {})}, indent=2) + "\n"
    try:
        write_file_atomically(Path(path), text.encode())
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error}") from error


def _assemble(
    root: Path,
    *,
    annotations: Annotations,
    features: FeatureFolder,
    scores: Mapping[str, VideoScore],
    spec: Path | None = None,
) -> DataSet:
    spec_path = root / FEATURE_SPEC_FILE if spec is None else spec
    described = read_feature_spec(spec_path) if spec_path.is_file() else _measured_spec(annotations, features)
    named = {find_video(video, annotations.videos) or video: score for video, score in scores.items()}
    return DataSet(root, annotations, features, described, named)


def _measured_spec(annotations: Annotations, features: FeatureFolder) -> FeatureSpec:
    for video in annotations.videos:
        if video in features:
            return FeatureSpec(channels=features.load(video).shape[1])
    raise DataError(f"{features.root}: no annotated video has features here; expected files such as <video>.npy")
