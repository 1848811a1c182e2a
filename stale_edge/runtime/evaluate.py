"""Evaluation of any detector: mAP by ActivityNet's rules, with the training-free baseline beside it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from stale_edge.bundle import ClassBank
from stale_edge.data import ONE_CLASS, DataSet, VideoScore, as_one_class, open_data_set, read_split
from stale_edge.data.folder import CLASS_BANK_FILE
from stale_edge.decoding import training_free_detections
from stale_edge.errors import DataError
from stale_edge.evaluation import ACTIVITYNET_THRESHOLDS, EvaluationResult, mean_average_precision
from stale_edge.progress import Progress, silent
from stale_edge.report.formats import to_layout
from stale_edge.runtime.base import BaseLocalizer
from stale_edge.runtime.contract import check_feature_spec
from stale_edge.runtime.fusion import Fusion
from stale_edge.runtime.loading import load_bundle
from stale_edge.runtime.text_encoder import choose_classes
from stale_edge.segments import Detection, FloatArray, find_video


@dataclass(frozen=True)
class EvaluationReport:
    """mAP of a localizer on a data set, and of a baseline without training.

    result: mAP of the localizer.
    baseline: mAP of the training-free baseline on the same videos; None if it cannot be computed.
    baseline_note: embeddings that the baseline used, or the reason why there is no baseline.
    predictions: the localizer's detections in ActivityNet's layout.
    n_videos: number of videos requested, including those in `missing_features`.
    missing_features: videos without a feature file; they have no detections, and their actions count as missed.
    unknown_classes: annotated classes that were evaluated but are not in the vocabulary; their AP is 0.
    provider: what computed a bundle's detector, as `Localizer.provider`; empty for a checkpoint.
    one_class: the detector names no classes, so every annotated action counted as the same one.
    """

    result: EvaluationResult
    baseline: EvaluationResult | None
    baseline_note: str
    predictions: dict[str, Any]
    n_videos: int
    missing_features: tuple[str, ...]
    unknown_classes: tuple[str, ...]
    provider: str = ""
    one_class: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the object that `evaluate` writes: the keys of `score`, the baseline, and what was left out."""
        return {
            **self.result.to_json(),
            "baseline": None if self.baseline is None else self.baseline.to_json(),
            "baseline_note": self.baseline_note,
            "n_videos": self.n_videos,
            "missing_features": list(self.missing_features),
            "unknown_classes": list(self.unknown_classes),
            **({"provider": self.provider} if self.provider else {}),
            **({"one_class": True} if self.one_class else {}),
        }


@dataclass(frozen=True)
class EvaluationSettings:
    """What is evaluated and how.

    subset: of the annotations.
    tiou_thresholds: each in (0, 1]; ActivityNet's, or `evaluation.THUMOS_THRESHOLDS`.
    scores: video-level scores for score enhancement, by video; labels of other classes are ignored. None: none are
        used.
    class_scores: {video: {class: score}} for score fusion with a detector that names no classes; None: no fusion.
    window, overlap: as in `Localizer.detect`; None: whole videos.
    device: `cpu`, `cuda` or `auto`, where a bundle or checkpoint is opened; a localizer is already somewhere.
    """

    subset: str = "validation"
    tiou_thresholds: Sequence[float] = ACTIVITYNET_THRESHOLDS
    scores: Mapping[str, VideoScore] | None = None
    class_scores: Mapping[str, Mapping[str, float]] | None = None
    window: int | None = None
    overlap: int | None = None
    device: str = "cpu"

    @property
    def windows(self) -> dict[str, Any]:
        """Arguments of `Localizer.detect`."""
        return {} if self.window is None else {"window": self.window, "overlap": self.overlap}


def evaluate_localizer(
    localizer: BaseLocalizer,
    data_set: DataSet,
    *,
    classes: ClassBank | Sequence[str] | None = None,
    settings: EvaluationSettings | None = None,
    progress: Progress = silent,
) -> EvaluationReport:
    """Detect actions in every video of a subset and compare them with the annotations.

    Args:
        localizer: a `Localizer`, a PyTorch detector, or anything else with `detect` and `class_bank`.
        data_set: annotations and features.
        classes: detect and score only these classes (closed or open set): names in the localizer's bank, or a bank of
            the same text encoder; videos that show only other classes are left out, as in the open-set protocol of the
            paper. None: detect the localizer's whole vocabulary and score every annotated class, also unknown ones.
        settings: subset, thresholds, scores, windows; None: the defaults.
        progress: called with (stage, done, total) after every video.

    Raises:
        ClassBankError: (a ValueError) the localizer does not know one of `classes`.
        DataError: no video is in the subset, or none of the classes is annotated in it.
        DataError, FeatureContractError: a feature file cannot be read or does not fit.
    """
    settings = EvaluationSettings() if settings is None else settings
    subset, tiou_thresholds = settings.subset, settings.tiou_thresholds
    own = localizer.class_bank
    bank = classes if isinstance(classes, ClassBank) else own if classes is None else own.select(classes)
    names = None if classes is None else bank.names
    fusion = None
    if settings.class_scores is not None:
        fusion = Fusion(settings.class_scores, names=bank.names, known=data_set.class_names)
    one_class = fusion is None and bank.names == (ONE_CLASS,) and ONE_CLASS not in data_set.class_names
    if one_class:
        data_set = replace(data_set, annotations=as_one_class(data_set.annotations, data_set.class_names))
    videos = evaluated_videos(data_set, subset, names)
    words, baseline_note = _baseline_words(bank, data_set)
    found: dict[str, list[Detection]] = {}
    found_by_baseline: dict[str, list[Detection]] = {}
    missing = []
    for done, video in enumerate(videos, start=1):
        if video not in data_set.features:
            missing.append(video)
        else:
            duration_s = data_set.annotations.videos[video].duration_s
            features = data_set.load(video)
            chosen = {**_enhancement(video, settings.scores, bank), **settings.windows}
            found[video] = localizer.detect(features, duration_s=duration_s, class_bank=bank, **chosen)
            if fusion is not None:
                found[video] = fusion(video, found[video])
            if words is not None:
                found_by_baseline[video] = training_free_detections(
                    features, words.names.embeddings, words.background, class_names=bank.names, duration_s=duration_s
                )
        progress("evaluate", done, len(videos))
    if len(missing) == len(videos):
        raise DataError(
            f"{data_set.root}: none of the {len(videos)} videos of subset {subset!r} has features; "
            f"the first one looked for was {missing[0]}"
        )
    truth, predictions = data_set.annotations.to_layout(), to_layout(found)
    annotated = {action.label for video in videos for action in data_set.annotations.videos[video].actions}

    def score(detections: Mapping[str, Any]) -> EvaluationResult:
        return mean_average_precision(truth, detections, subset=subset, tiou_thresholds=tiou_thresholds, classes=names)

    return EvaluationReport(
        result=score(predictions),
        baseline=None if words is None else score(to_layout(found_by_baseline)),
        baseline_note=baseline_note,
        predictions=predictions,
        n_videos=len(videos),
        missing_features=tuple(missing),
        unknown_classes=tuple(sorted(annotated - set(bank.names))) if names is None and fusion is None else (),
        one_class=one_class,
    )


def evaluate_bundle(
    path: Path,
    data: Path,
    *,
    split: Path | None = None,
    settings: EvaluationSettings | None = None,
    runtime: str = "onnxruntime",
    precision: str = "fp32",
    progress: Progress = silent,
) -> EvaluationReport:
    """Measure a bundle's mAP on a data set, with the training-free baseline beside it.

    Args:
        path: the bundle.
        data: the data set folder.
        split: file of class names to detect and score, one per line; names that the bundle's class bank lacks are
            encoded by its text encoder. None: see `evaluate_localizer`.
        settings: as in `evaluate_localizer`.
        runtime, precision: as in `load_bundle`.
        progress: called with (stage, done, total).

    Raises:
        StaleEdgeError: the bundle or the data set cannot be read, or they do not match.
    """
    device = EvaluationSettings.device if settings is None else settings.device
    localizer = load_bundle(path, runtime=runtime, precision=precision, device=device)
    data_set = open_data_set(data)
    check_feature_spec(localizer.feature_contract, data_set.feature_spec)
    report = evaluate_localizer(
        localizer,
        data_set,
        classes=None if split is None else choose_classes(path, localizer.class_bank, read_split(split))[0],
        settings=settings,
        progress=progress,
    )
    return replace(report, provider=localizer.provider)


def evaluated_videos(data_set: DataSet, subset: str, classes: Sequence[str] | None) -> tuple[str, ...]:
    """List the videos to evaluate: all of the subset, except those that show only classes not requested."""
    try:
        videos = data_set.videos(subset)
    except ValueError as error:
        raise DataError(f"{data_set.root}: {error}") from error
    actions = {video: data_set.annotations.videos[video].actions for video in videos}
    if not any(actions.values()):
        raise DataError(f"{data_set.root}: no action is annotated in subset {subset!r}, so there is nothing to score")
    if classes is None:
        return videos
    kept = tuple(v for v in videos if not actions[v] or any(action.label in classes for action in actions[v]))
    if not any(actions[video] for video in kept):
        raise DataError(f"{data_set.root}: no action of {', '.join(classes)} is annotated in subset {subset!r}")
    return kept


class _Words(NamedTuple):
    """What the training-free detector compares snippets with: names (K, C), and a background (N, C)."""

    names: ClassBank
    background: FloatArray


def _baseline_words(bank: ClassBank, data_set: DataSet) -> tuple[_Words | None, str]:
    """Choose embeddings as wide as the features; all names of the vocabulary together are the background."""
    channels = data_set.feature_spec.channels
    path = data_set.root / CLASS_BANK_FILE
    if path.is_file():
        untrained = ClassBank.load(path)
        if untrained.width == channels and set(bank.names) <= set(untrained.names) and len(untrained) > 1:
            note = f"the class embeddings of the data set ({CLASS_BANK_FILE}); background: all of them"
            return _Words(untrained.select(bank.names), untrained.embeddings), note
    if bank.width != channels:
        return None, f"no baseline: features are {channels} wide, class embeddings {bank.width}, so no cosine exists"
    if len(bank) < 2:
        return None, "no baseline: names are compared with each other, and there is only one"
    return _Words(bank, bank.embeddings), "the class embeddings of the model; background: all of them"


def _enhancement(video: str, scores: Mapping[str, VideoScore] | None, bank: ClassBank) -> dict[str, Any]:
    name = find_video(video, scores) if scores is not None else None
    if scores is None or name is None or scores[name].label not in bank.names:
        return {}
    return {"video_label": scores[name].label, "video_score": scores[name].score}
