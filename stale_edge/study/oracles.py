"""Detections made with a part of the ground truth; they show how much the errors of the other part cost."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from stale_edge.bundle import ClassBank
from stale_edge.config import DecodeSettings, RelativeGrid
from stale_edge.data import DataSet, VideoAnnotation, resample
from stale_edge.decoding import decode_outputs
from stale_edge.evaluation import EvaluationResult, mean_average_precision
from stale_edge.model.checkpoint import Checkpoint
from stale_edge.model.stale.output import StaleOutput
from stale_edge.model.targets import BatchTargets, assign_targets, stack_targets
from stale_edge.progress import Progress
from stale_edge.report.formats import to_layout
from stale_edge.segments import Detection, FloatArray
from stale_edge.training import TorchLocalizer

TOP_CLASSES = 2
"""Number of detections, each of another class, per proposal of the two-stage baseline."""
CLIP_TEMPERATURE = 100.0
"""CLIP's scale of cosines before the softmax over classes."""

Detect = Callable[[str, VideoAnnotation], list[Detection]]
"""Gives the detections of one video, by its name and annotation."""


def evaluate_detections(
    data_set: DataSet, detect: Detect, *, classes: Sequence[str], subset: str, progress: Progress
) -> EvaluationResult:
    """Detect in every video of a subset that has features and shows one of the classes, and score these classes.

    Args:
        data_set: its annotations are the ground truth.
        detect: called once per video.
        classes: classes to detect and score.
        subset: of the annotations.
        progress: called with (stage, done, total).
    """
    annotations = data_set.annotations.videos
    videos = [
        video
        for video in data_set.videos(subset)
        if video in data_set.features and any(action.label in classes for action in annotations[video].actions)
    ]
    found: dict[str, list[Detection]] = {}
    for done, video in enumerate(videos, start=1):
        found[video] = detect(video, annotations[video])
        progress("evaluate", done, len(videos))
    truth = data_set.annotations.to_layout()
    return mean_average_precision(truth, to_layout(found), subset=subset, classes=classes)


def with_true_foreground(checkpoint: Checkpoint, data_set: DataSet, bank: ClassBank) -> Detect:
    """Detect with the true foreground as representation mask: "GT-Mask" of the paper's Table 4.

    Args:
        checkpoint: trained with `masking = "ground-truth"`.
        data_set: whose features are read.
        bank: classes looked for; their actions are foreground.
    """

    def detect(video: str, annotation: VideoAnnotation) -> list[Detection]:
        targets = _targets(annotation, bank.names, checkpoint.config.train.n_snippets)
        features = resample(data_set.load(video), checkpoint.config.train.n_snippets)
        with torch.inference_mode():
            output: StaleOutput = checkpoint.model(
                torch.tensor(features)[None], torch.tensor(bank.embeddings), targets.foreground(len(bank))
            )
        return _decoded(
            output.class_logits[0].numpy(), output.masks[0].numpy(), annotation, bank, checkpoint.config.decode
        )

    return detect


def with_true_masks(checkpoint: Checkpoint, data_set: DataSet, bank: ClassBank) -> Detect:
    """Detect with predicted classes and the true instance masks: "GT masks" of the paper's Table 3."""
    localizer = TorchLocalizer.of(checkpoint, class_bank=bank)

    def detect(video: str, annotation: VideoAnnotation) -> list[Detection]:
        targets = _targets(annotation, bank.names, checkpoint.config.train.n_snippets)
        outputs = localizer.forward(resample(data_set.load(video), checkpoint.config.train.n_snippets))
        return _decoded(outputs["class_logits"], targets.masks[0].numpy(), annotation, bank, checkpoint.config.decode)

    return detect


def classified(proposals: Detect, data_set: DataSet, bank: ClassBank) -> Detect:
    """Classify proposals with CLIP, as the two-stage baseline B-I does.

    A proposal's feature is the mean of its snippets' directions; its class probabilities are CLIP's, the softmax of
    100 times the cosine. It becomes a detection of each of its two best classes, scored by its own score times theirs.

    Args:
        proposals: class-agnostic detections; their labels do not matter.
        data_set: whose features are read, as wide as the embeddings.
        bank: the class names, encoded by an untrained text encoder.
    """
    texts = _directions(bank.embeddings.astype(np.float64))

    def detect(video: str, annotation: VideoAnnotation) -> list[Detection]:
        snippets = _directions(data_set.load(video).astype(np.float64))
        per_second = len(snippets) / annotation.duration_s
        found = []
        for proposal in proposals(video, annotation):
            first = min(int(proposal.start_s * per_second), len(snippets) - 1)
            last = max(first + 1, int(np.ceil(proposal.end_s * per_second)))
            logits = CLIP_TEMPERATURE * texts @ _directions(snippets[first:last].mean(axis=0)[None])[0]
            weights = np.exp(logits - logits.max())
            probabilities = weights / weights.sum()
            found += [
                Detection(bank.names[k], float(proposal.score * probabilities[k]), proposal.start_s, proposal.end_s)
                for k in np.argsort(-probabilities, kind="stable")[:TOP_CLASSES].tolist()
            ]
        return sorted(found, key=lambda detection: -detection.score)

    return detect


def true_proposals(classes: Sequence[str]) -> Detect:
    """Propose every annotated action of some classes: "GT proposals" of the paper's Table 3."""

    def detect(video: str, annotation: VideoAnnotation) -> list[Detection]:  # noqa: ARG001
        return [
            Detection("action", 1.0, max(0.0, action.start_s), min(action.end_s, annotation.duration_s))
            for action in annotation.actions
            if action.label in classes and action.start_s < annotation.duration_s
        ]

    return detect


def predicted_proposals(localizer: TorchLocalizer, data_set: DataSet) -> Detect:
    """Give the detections of a detector as proposals."""

    def detect(video: str, annotation: VideoAnnotation) -> list[Detection]:
        return localizer.detect(data_set.load(video), duration_s=annotation.duration_s)

    return detect


def class_agnostic(annotations: Mapping[str, VideoAnnotation], seen: Sequence[str]) -> dict[str, Any]:
    """Call every action of the seen classes "action" and all others "other", in ActivityNet's layout.

    Training on the class "action" alone then ignores the snippets of the others.
    """
    database = {
        video: {
            "duration": entry.duration_s,
            "subset": entry.subset,
            "annotations": [
                {"segment": [a.start_s, a.end_s], "label": "action" if a.label in seen else "other"}
                for a in entry.actions
            ],
        }
        for video, entry in annotations.items()
    }
    return {"version": "class-agnostic", "taxonomy": [], "database": database}


def _targets(annotation: VideoAnnotation, names: Sequence[str], n_snippets: int) -> BatchTargets:
    return stack_targets(
        [assign_targets(annotation.actions, vocabulary=names, duration_s=annotation.duration_s, n_snippets=n_snippets)]
    )


def _decoded(
    class_logits: FloatArray, masks: FloatArray, annotation: VideoAnnotation, bank: ClassBank, config: DecodeSettings
) -> list[Detection]:
    return decode_outputs(
        {"class_logits": class_logits, "masks": masks},
        class_names=bank.names,
        grid=RelativeGrid(annotation.duration_s),
        config=config,
    )


def _directions(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0))
