"""The quirks of the public STALE code, each as a function or a switch, so that its effect can be measured.

Sources: the lines named below, of sauradip/STALE at fd7a7e8. The `measure_*.py` in this folder use it; the package does
not. The package's own copy of the post-processing, with all quirks at once, is `csrc/decode_release.cpp`.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

DECODE_QUIRKS: dict[str, str] = {
    "hull": "the snippets between the first and the last one above a threshold all count (stale_inference.py:156, 190)",
    "last-snippet": "a segment ends where its last snippet begins (stale_inference.py:159, 197, 213)",
    "one-class": "every proposal gets the class with the highest mean logit (stale_inference.py:129, 210, 214)",
    "overlap": "soft-NMS measures an overlap that is no tIoU (utils/postprocess_utils.py:104-109)",
    "decay": "soft-NMS divides its decay by 0.6 (utils/postprocess_utils.py:83)",
    "last-candidate": "soft-NMS never picks its last candidate (utils/postprocess_utils.py:77)",
}
TOP_SNIPPETS, MAX_DETECTIONS = 10, 100
CLASS_THRESHOLDS = tuple(k / 10 for k in range(10))
MASK_THRESHOLDS = tuple(np.float32(k) for k in (0.0, 0.2, 0.4, 0.6, 0.8))
SHORTEST_RUN = 0.02
"""Share of the video that the longest run above a mask threshold must exceed (stale_inference.py:201)."""
CROWD = 6
"""`num_frame` + 1. The data loader divides an action's snippets by it and keeps the action if the result is above 1
(stale_lib/stale_dataloader.py:113, 120): actions shorter than 6 of 100 snippets are not trained on."""


class Segment(NamedTuple):
    """A proposal or a detection; start and end as fractions of the video, `label` a row of the class logits."""

    start: float
    end: float
    score: float
    label: int


# --- post-processing -------------------------------------------------------------------------------------------------


def decode(
    class_logits: np.ndarray,
    masks: np.ndarray,
    *,
    quirks: Collection[str],
    chance: np.random.Generator | None = None,
) -> list[Segment]:
    """Turn a network's outputs into detections as the public scripts do, with some of `DECODE_QUIRKS` or none.

    Args:
        class_logits: (K + 1, T) float32, background last.
        masks: (T, T) float32 in [0, 1].
        quirks: active quirks; with all of them the result is that of `stale_edge.decoding.decode(policy="release")`.
        chance: draws the order of equal scores, as in the script; None: the order of the package.

    Returns:
        At most 100 detections, best first.
    """
    unknown = set(quirks) - set(DECODE_QUIRKS)
    if unknown:
        raise ValueError(f"no such quirk: {', '.join(sorted(unknown))}; there are: {', '.join(DECODE_QUIRKS)}")
    proposals = propose(class_logits, masks, quirks=quirks)
    detections: list[Segment] = []
    for label in sorted({proposal.label for proposal in proposals}):
        own = [p for p in proposals if p.label == label]
        detections += soft_nms(own, quirks=quirks, n_snippets=class_logits.shape[1], chance=chance)
    return sorted(detections, key=lambda detection: -detection.score)[:MAX_DETECTIONS]


def propose(class_logits: np.ndarray, masks: np.ndarray, *, quirks: Collection[str]) -> list[Segment]:
    """List the distinct proposals of one video, stale_inference.py:120-228."""
    n_snippets = class_logits.shape[1]
    weights = np.exp(class_logits - class_logits.max(axis=0))
    probabilities = (weights / np.cumsum(weights, axis=0)[-1])[:-1]  # (K, T), summed in float32 from row to row
    video_class = int(np.argmax(class_logits[:-1].astype(np.float64).mean(axis=1)))
    best, own_class = probabilities.max(axis=0), probabilities.argmax(axis=0)
    tail = 0 if "last-snippet" in quirks else 1

    def label_of(classes: np.ndarray) -> int:
        return video_class if "one-class" in quirks else int(np.bincount(classes).argmax())

    class_regions = []
    for threshold in CLASS_THRESHOLDS:
        for first, last in regions(best.astype(np.float64) > threshold, quirks=quirks):
            if last - first > 1:
                class_regions.append((first, last, float(best[first:last].max()), label_of(own_class[first:last])))
    found: dict[tuple[float, ...], Segment] = {}

    def add(first: int, last: int, class_score: float, mask_score: float, label: int) -> None:
        start, end = first / n_snippets, min(last + tail, n_snippets) / n_snippets
        found[start, end, class_score, mask_score, label] = Segment(start, end, class_score * mask_score, label)

    for snippet in np.argsort(-best, kind="stable")[:TOP_SNIPPETS].tolist():
        mask = masks[snippet]
        label = label_of(own_class[snippet : snippet + 1])
        for threshold in MASK_THRESHOLDS:
            runs = regions(mask > threshold, quirks=())
            if not runs:
                continue
            first, last = max(runs, key=lambda run: run[1] - run[0])
            if not (last - first) / n_snippets > SHORTEST_RUN:
                continue
            inner = mask[first + 1 : last - 1] if first + 1 < last - 1 else mask[first : last + 1]
            shift = probabilities[label, first:last].max()
            scores = _decimal(shift * inner.max()), _decimal(shift * best[snippet])
            if "hull" in quirks:
                add(runs[0][0], runs[-1][1], *scores, label)
            else:
                for run in runs:
                    if run[1] - run[0] > 1:
                        add(*run, *scores, label)
            for region_first, region_last, score, region_label in class_regions:
                add(region_first, region_last, _decimal(mask[region_first:region_last].max()), score, region_label)
    return [found[key] for key in sorted(found)]


def regions(above: np.ndarray, *, quirks: Collection[str]) -> list[tuple[int, int]]:
    """Find where flags (T,) are set, as (first, last) snippets: connected runs, or with `hull` one region."""
    places = np.flatnonzero(above)
    if not len(places):
        return []
    if "hull" in quirks:
        return [(int(places[0]), int(places[-1]))]
    breaks = np.flatnonzero(np.diff(places) > 1)
    firsts = places[np.concatenate([[0], breaks + 1])]
    lasts = places[np.concatenate([breaks, [len(places) - 1]])]
    return list(zip(firsts.tolist(), lasts.tolist(), strict=True))


def soft_nms(
    candidates: Sequence[Segment],
    *,
    quirks: Collection[str],
    n_snippets: int = 100,
    chance: np.random.Generator | None = None,
) -> list[Segment]:
    """Pick candidates by score and decay the others, utils/postprocess_utils.py:62-100.

    Of equal scores the one with the lower `order_of_equals` is first; with `chance` the order is random.
    """
    if len(candidates) < 2:
        return list(candidates)
    if chance is None:
        left = sorted(candidates, key=lambda c: (-c.score, order_of_equals(c, n_snippets), c.start, c.end))
    else:
        left = sorted((candidates[i] for i in chance.permutation(len(candidates))), key=lambda c: -c.score)
    start, end, score = (np.array([c[i] for c in left]) for i in range(3))
    is_left = np.ones(len(left), dtype=bool)
    picked: list[Segment] = []
    until = 1 if "last-candidate" in quirks else 0
    while is_left.sum() > until and len(picked) < MAX_DETECTIONS:
        best = int(np.argmax(np.where(is_left, score, -1.0)))
        if not score[best] > 0:
            break
        picked.append(left[best]._replace(score=float(score[best])))
        is_left[best] = False
        measure = release_overlap if "overlap" in quirks else tiou
        overlap = measure(start[best], end[best], start, end)
        decay = np.exp(-10 * overlap**2) / (0.6 if "decay" in quirks else 1.0)
        score = np.where((overlap > 0) & is_left, score * decay, score)
    return picked


def order_of_equals(segment: Segment, n_snippets: int) -> int:
    """Hash a row, so that no kind of segment is favoured; `release_order` in csrc/decode_release.cpp."""
    start, end = round(segment.start * n_snippets), round(segment.end * n_snippets)
    x = (28657 * start + end) % 46337
    x = (17711 * x + segment.label + 12345) % 46337
    return int(x**3 % 46337)


def release_overlap(start: Any, end: Any, other_start: Any, other_end: Any) -> np.ndarray:
    """Compute the IOU of the public code, utils/postprocess_utils.py:104-109; the first segment is the picked one."""
    hull = np.maximum(end, other_end) - np.minimum(start, other_start)
    shared = np.minimum(end, other_end) - np.minimum(start, other_start)
    apart = (other_start > end) | (start > other_end)
    below = hull - shared + (other_end - other_start)
    return np.where(apart, 0.0, np.divide(shared, below, out=np.zeros_like(shared), where=below != 0))


def tiou(start: Any, end: Any, other_start: Any, other_end: Any) -> np.ndarray:
    """Compute the temporal intersection over union; 0 if the union is empty."""
    shared = np.maximum(np.minimum(end, other_end) - np.maximum(start, other_start), 0.0)
    union = (end - start) + (other_end - other_start) - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def _decimal(value: np.float32) -> float:
    """Round a number as the script's CSV file does (stale_inference.py:226-233): shortest decimal of a float32."""
    return float(str(value))


# --- the data loader -------------------------------------------------------------------------------------------------

LOADER_QUIRKS: dict[str, str] = {
    "last-only": "only a video's last annotation is kept, all else is background (stale_lib/stale_dataloader.py:120)",
    "short": "actions shorter than 6 of 100 snippets do not exist (stale_lib/stale_dataloader.py:113, 120)",
    "inset": "a trained segment lacks its first and its last snippet (stale_lib/stale_dataloader.py:145, 186-188)",
}


def loaded_annotations(
    annotations: Sequence[Mapping[str, Any]], *, duration_s: float, quirks: Collection[str], n_snippets: int = 100
) -> list[dict[str, Any]]:
    """List the annotations of a video that the public data loader gives, with some of `LOADER_QUIRKS` or none.

    Args:
        annotations: `{"segment": [start_s, end_s], "label"}`, in the order of the file.
        duration_s: length of the video, > 0.
        quirks: active quirks. `last-only` with `short`: a video whose last action is short has none.
        n_snippets: T.

    Returns:
        The same layout; empty if the loader drops the video.
    """
    kept = list(annotations[-1:] if "last-only" in quirks else annotations)
    if "short" in quirks:
        kept = [a for a in kept if (a["segment"][1] - a["segment"][0]) / duration_s * n_snippets / CROWD > 1]
    if "inset" not in quirks:
        return [dict(a) for a in kept]
    inset = []
    for annotation in kept:
        start, end = (min(max(t / duration_s, 0.0), 1.0) for t in annotation["segment"])
        first, last = math.floor(n_snippets * start) + 1, math.floor(n_snippets * end) - 1
        if last > first:
            segment = [first / n_snippets * duration_s, last / n_snippets * duration_s]
            inset.append({**annotation, "segment": segment})
    return inset


def count_loaded(database: Mapping[str, Any], *, labels: Collection[str] | None = None) -> dict[str, int]:
    """Count the videos and actions of a subset that the loader keeps, with all quirks.

    Args:
        database: `{video: {"duration", "annotations"}}`; with the duration that the loader computes.
        labels: the classes of a split; None: all.

    Returns:
        videos, actions: annotated ones. videos_kept. videos_lost: dropped with all their actions.
        actions_as_background: the other actions of kept videos.
    """
    counts = {"videos": 0, "actions": 0, "videos_kept": 0, "videos_lost": 0, "actions_as_background": 0}
    for video in database.values():
        annotations = video["annotations"]
        if labels is not None and not any(a["label"] in labels for a in annotations):
            continue
        counts["videos"] += 1
        counts["actions"] += len(annotations)
        kept = loaded_annotations(annotations, duration_s=video["duration"], quirks=("last-only", "short"))
        if kept and (labels is None or kept[0]["label"] in labels):
            counts["videos_kept"] += 1
            counts["actions_as_background"] += len(annotations) - 1
        else:
            counts["videos_lost"] += 1
    return counts


# --- the evaluator ---------------------------------------------------------------------------------------------------


def forgetful_truth(truth: Mapping[str, Any], predicted: Collection[str]) -> dict[str, Any]:
    """Drop the annotations of videos without predictions, evaluation/eval_detection.py:95."""
    database = {video: entry for video, entry in truth["database"].items() if video in predicted}
    return {**truth, "database": database}


def collided_labels(
    predictions: Mapping[str, Any], *, truth_labels: Sequence[str], all_labels: Sequence[str]
) -> dict[str, Any]:
    """Rename predictions of classes without ground truth as the evaluator does, evaluation/eval_detection.py:147-150.

    Such a class gets its number from a fixed list, but annotated classes are numbered in the order of appearance. So it
    is taken for the annotated class of the same number, if there is one.

    Args:
        predictions: ActivityNet layout.
        truth_labels: the annotated classes in the order of their first annotation.
        all_labels: the fixed list.
    """
    number = {label: i for i, label in enumerate(all_labels)}
    renamed = {}
    for label in all_labels:
        if label in truth_labels:
            renamed[label] = label
        elif number[label] < len(truth_labels):
            renamed[label] = truth_labels[number[label]]
    results = {
        video: [{**row, "label": renamed.get(row["label"], row["label"])} for row in rows]
        for video, rows in predictions["results"].items()
    }
    return {**predictions, "results": results}


# --- the benchmark ---------------------------------------------------------------------------------------------------


def quantized_weights(module: Any) -> dict[str, dict[str, int]]:
    """Apply torch's dynamic quantization to linear layers and convolutions, like the thesis' code, and count.

    STALE_cpu/stale_quantized_inference.py:62-64 of the thesis authors' repository. Quantizes a copy of the module.

    Returns:
        By kind of layer: the number of `weights`, and how many of them became `int8`.
    """
    import torch
    from torch import nn

    kinds = {"Linear": nn.Linear, "Conv1d": nn.Conv1d, "Conv2d": nn.Conv2d, "MultiheadAttention": nn.MultiheadAttention}

    def weights(root: Any, kind: Any) -> dict[str, int]:
        if (
            kind is nn.MultiheadAttention
        ):  # the input projection; the output projection is a linear layer that never runs as one
            return {
                name: layer.in_proj_weight.numel() + layer.out_proj.in_features * layer.out_proj.out_features
                for name, layer in root.named_modules()
                if isinstance(layer, kind)
            }
        inside = [name for name, layer in root.named_modules() if isinstance(layer, nn.MultiheadAttention)]
        return {
            name: layer.weight.numel()
            for name, layer in root.named_modules()
            if isinstance(layer, kind) and not any(name.startswith(f"{outer}.") for outer in inside)
        }

    before = {kind: weights(module, layer) for kind, layer in kinds.items()}
    quantized = torch.ao.quantization.quantize_dynamic(  # type: ignore[no-untyped-call]
        module, {nn.Linear, nn.Conv1d, nn.Conv2d}, dtype=torch.qint8
    )
    after = {kind: weights(quantized, layer) for kind, layer in kinds.items()}
    return {
        kind: {
            "weights": sum(before[kind].values()),
            "int8": sum(n for name, n in before[kind].items() if name not in after[kind]),
        }
        for kind in kinds
    }
