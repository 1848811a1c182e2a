"""Simulated data sets: ordinary folders whose features have the statistics of real CLIP features."""

import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stale_edge.bundle.class_bank import ClassBank
from stale_edge.config import FeatureSpec, SimulateConfig, to_dict
from stale_edge.data import simulate_features
from stale_edge.data.annotations import (
    Action,
    Annotations,
    VideoAnnotation,
    read_annotations,
)
from stale_edge.data.folder import (
    ANNOTATIONS_FILE,
    CLASS_BANK_FILE,
    FEATURE_SPEC_FILE,
    FEATURES_FOLDER,
    SCORES_FILE,
    SPLITS_FOLDER,
    DataSet,
    open_data_set,
    write_feature_spec,
)
from stale_edge.data.public import find_public_layout, read_public_annotations
from stale_edge.data.simulate_features import FeatureModel
from stale_edge.data.simulate_names import name_pool, simulated_class_bank
from stale_edge.data.simulate_timeline import Span, Timeline, add_distractors, draw_actions
from stale_edge.errors import DataError, shown
from stale_edge.paths import check_distinct, inside
from stale_edge.progress import Progress, silent

_DEFAULT_VIDEOS = 800
_NOTE = (
    "Simulated, not extracted from any video. Norm, outlier channel, shared mean direction, contrast between action "
    "and background, spectrum and autocorrelation follow one real video's CLIP ViT-B/32 frames; the task does not."
)
_RESULTS = (ANNOTATIONS_FILE, FEATURES_FOLDER, FEATURE_SPEC_FILE, SPLITS_FOLDER, SCORES_FILE, CLASS_BANK_FILE)


def simulate(
    out: Path,
    *,
    config: SimulateConfig | None = None,
    annotations: Path | None = None,
    class_bank: ClassBank | None = None,
    progress: Progress = silent,
) -> DataSet:
    """Write a data set of simulated features.

    The folder holds `features/<video>.npy` (T, C) float16, `annotations.json`, `splits/train.list` (seen classes) and
    `splits/test.list` (unseen ones), `scores.json` (video-level classes of a stated accuracy) and `feature_spec.json`,
    whose key `simulation` holds every parameter. Classes have text embeddings: those of `class_bank`, or simulated
    ones, which are then written to `class_bank.npz`. The same arguments give the same bytes; a video's features depend
    on its own name and annotations, not on the other videos.

    Args:
        out: folder to write into; it may hold other files, such as a text encoder, but no data set.
        config: the simulated task; None: the defaults.
        annotations: a file in ActivityNet layout, or a folder in the public STALE layout; its videos, durations and
            segments are kept. None: videos are invented.
        class_bank: embeddings of the class names, `config.channels` wide. It must hold every label of `annotations`;
            without annotations its names are the classes.
        progress: called with ("simulate", videos done, videos).

    Returns:
        The data set, opened.

    Raises:
        ValueError: the class bank lacks a label, or is not as wide as the features.
        DataError: `out` holds a data set already, or the annotation file cannot be used: no actions, a single class,
            or a video whose name is no file name.
    """
    out, config = Path(out), config or SimulateConfig()
    present = [name for name in _RESULTS if (out / name).exists()]
    if present:
        raise DataError(f"{out}: already holds {', '.join(present)}; simulate into an empty folder")
    given = None if annotations is None else _sampled(_read(annotations), config)
    if given is not None:
        names: tuple[str, ...] = given.classes
    else:
        names = class_bank.names if class_bank is not None else class_names(config)
    bank = class_bank.select(names) if class_bank is not None else simulated_class_bank(names, width=config.channels)
    model = FeatureModel(config, bank.embeddings)
    seen, unseen = _split(names, config)
    invented = given is None
    truth = _invented(names, unseen, config) if given is None else given

    features_folder = out / FEATURES_FOLDER
    files = {video: inside(features_folder, video, suffix=".npy") for video in truth.videos}
    check_distinct(files, what="videos")
    features_folder.mkdir(parents=True)
    for done, (video, annotation) in enumerate(truth.videos.items()):
        progress("simulate", done, len(truth.videos))
        features = _features(video, annotation, names, model, config)
        np.save(files[video], features, allow_pickle=False)
    progress("simulate", len(truth.videos), len(truth.videos))
    (out / SPLITS_FOLDER).mkdir()
    for name, part in (("train", seen), ("test", unseen)):
        (out / SPLITS_FOLDER / f"{name}.list").write_text("".join(f"{label}\n" for label in part), encoding="utf-8")
    if class_bank is None:
        bank.save(out / CLASS_BANK_FILE)
    _write_json(out / SCORES_FILE, _scores(truth, names, config))
    spec = FeatureSpec(
        encoder=f"simulated-clip/1 seed {config.seed}", channels=config.channels, fps=config.fps, stride=config.stride
    )
    write_feature_spec(out / FEATURE_SPEC_FILE, spec, extra={"simulation": _documentation(config, bank, invented)})
    # Written last, so that a killed simulation does not look like a data set.
    _write_json(out / ANNOTATIONS_FILE, truth.to_layout())
    return open_data_set(out)


def class_names(config: SimulateConfig, annotations: Path | None = None) -> tuple[str, ...]:
    """List the class names that `simulate` uses, sorted, for a text encoder to encode beforehand.

    Args:
        config: the simulated task; its classes are drawn by its seed.
        annotations: as in `simulate`; then the names are its labels.

    Raises:
        ValueError: the config has more classes than there are names.
        DataError: the annotation file cannot be used.
    """
    if annotations is not None:
        return _sampled(_read(annotations), config).classes
    pool = name_pool()
    if config.n_classes > len(pool):
        raise ValueError(
            f"simulate.n_classes is {config.n_classes}, but there are {len(pool)} invented class names; "
            "take fewer, or give a class bank or an annotation file with names of its own"
        )
    rng = np.random.default_rng([config.seed, 0])
    return tuple(sorted(pool[int(i)] for i in rng.choice(len(pool), size=config.n_classes, replace=False)))


def _read(path: Path) -> Annotations:
    path = Path(path)
    layout = find_public_layout(path if path.is_dir() else path.parent)
    if layout is not None and (path.is_dir() or path == layout.annotations):
        return read_public_annotations(layout.annotations, layout.video_info)
    return read_annotations(path)


def _sampled(annotations: Annotations, config: SimulateConfig) -> Annotations:
    """Take `config.n_videos` of the videos, in their order."""
    if not annotations.videos or not annotations.classes:
        raise DataError("the annotation file has no video with an action; there is nothing to simulate")
    if len(annotations.classes) < 2:
        raise DataError(
            f"the annotation file has one class, {shown(annotations.classes[0])}; at least two are needed, "
            "since simulated features differ by class"
        )
    if config.n_videos is None or config.n_videos >= len(annotations.videos):
        return annotations
    rng = np.random.default_rng([config.seed, 4])
    chosen = set(rng.choice(len(annotations.videos), size=config.n_videos, replace=False).tolist())
    return Annotations({video: entry for i, (video, entry) in enumerate(annotations.videos.items()) if i in chosen})


def _split(names: Sequence[str], config: SimulateConfig) -> tuple[list[str], list[str]]:
    n_unseen = min(max(1, round(config.unseen_fraction * len(names))), len(names) - 1)
    order = np.random.default_rng([config.seed, 3]).permutation(len(names))
    unseen = {names[i] for i in order[:n_unseen]}
    return [name for name in names if name not in unseen], [name for name in names if name in unseen]


def _invented(names: Sequence[str], unseen: Sequence[str], config: SimulateConfig) -> Annotations:
    """Invent videos; classes take turns within each subset."""
    n_videos = config.n_videos or _DEFAULT_VIDEOS
    n_validation = min(max(1, round(config.validation_fraction * n_videos)), n_videos - 1)
    rng = np.random.default_rng([config.seed, 5])
    turns = rng.permutation(len(names))
    videos: dict[str, VideoAnnotation] = {}
    for subset, count in (("training", n_videos - n_validation), ("validation", n_validation)):
        for i in range(count):
            first = int(turns[i % len(names)])
            classes: tuple[int, ...] = (first,)
            # The second class is from the same side of the split, so that training videos contain no unseen action.
            others = [k for k in range(len(names)) if k != first and (names[k] in unseen) == (names[first] in unseen)]
            if others and rng.random() < config.second_class_probability:
                classes = (first, others[int(rng.integers(len(others)))])
            timeline = draw_actions(config, rng, classes=classes)
            actions = tuple(Action(names[span.class_index], span.start_s, span.end_s) for span in timeline.actions)
            videos[f"v_sim_{len(videos):05d}"] = VideoAnnotation(timeline.duration_s, subset, actions)
    return Annotations(videos)


def _features(
    video: str, annotation: VideoAnnotation, names: Sequence[str], model: FeatureModel, config: SimulateConfig
) -> NDArray[np.float16]:
    rng = np.random.default_rng([config.seed, 2, zlib.crc32(video.encode())])
    index = {name: i for i, name in enumerate(names)}
    duration_s = annotation.duration_s
    actions = tuple(Span(index[action.label], action.start_s, action.end_s) for action in annotation.actions)
    timeline = add_distractors(Timeline(duration_s, actions), config, rng, n_classes=len(names))
    # A snippet is 1 / T of its video everywhere in this package, so the last one is never partial.
    n_snippets = max(1, round(duration_s * config.fps / config.stride))
    features = model.render(timeline, n_snippets=n_snippets, snippet_s=duration_s / n_snippets, rng=rng)
    return features.astype(np.float16)


def _scores(truth: Annotations, names: Sequence[str], config: SimulateConfig) -> dict[str, dict[str, Any]]:
    """Draw a video-level class per annotated video, correct as often as `config` says; correct ones score higher."""
    scores: dict[str, dict[str, Any]] = {}
    for video, annotation in truth.videos.items():
        labels = [action.label for action in annotation.actions]
        if not labels:
            continue
        rng = np.random.default_rng([config.seed, 6, zlib.crc32(video.encode())])
        wrong = [name for name in names if name not in labels]
        right = rng.random() < config.score_accuracy or not wrong
        label = max(sorted(set(labels)), key=labels.count) if right else wrong[int(rng.integers(len(wrong)))]
        scores[video] = {"class": label, "score": round(float(rng.beta(8, 1) if right else rng.beta(3, 3)), 6)}
    return scores


def _documentation(config: SimulateConfig, bank: ClassBank, invented: bool) -> dict[str, Any]:
    constants = {
        name.lower(): value
        for name, value in vars(simulate_features).items()
        if name.isupper() and isinstance(value, int | float)
    }
    return {
        "note": _NOTE,
        "annotations": "invented" if invented else "given",
        "parameters": to_dict(config),
        "constants": constants,
        "classes": list(bank.names),
        "text_embeddings": bank.fingerprint,
    }


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
