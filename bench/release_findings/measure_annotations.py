"""Count the real annotations that the public data loader keeps, and compute the mAP of a network without any error."""

import json
import statistics
from pathlib import Path
from typing import Any

import quirks

from stale_edge.data.public import find_public_layout, read_public_annotations
from stale_edge.evaluation import mean_average_precision
from stale_edge.model.targets import snippet_span


def count_annotations(folder: Path) -> dict[str, Any]:
    """Count the real annotations that the loader keeps, and compare the durations in the two files."""
    layout = find_public_layout(folder)
    if layout is None:
        raise SystemExit(f"{folder}: no anet_anno_action.json")
    document = json.loads(layout.annotations.read_text())
    subsets = {name: video.subset for name, video in _public(layout).videos.items()}
    found: dict[str, Any] = {}
    for subset in ("training", "validation"):
        database, factors = {}, []
        for name, entry in document.items():
            if subsets[name] == subset and entry["annotations"]:
                factor = entry["feature_frame"] / entry["duration_frame"]
                database[name] = {
                    "duration": factor * entry["duration_second"],
                    "annotations": entry["annotations"],
                }
                factors.append(abs(1 - factor))
        found[subset] = quirks.count_loaded(database)
        found[subset]["videos_of_several_classes"] = sum(
            len({a["label"] for a in entry["annotations"]}) > 1 for entry in database.values()
        )
        found[subset]["mean_difference_of_durations_percent"] = 100 * statistics.fmean(factors)
        found[subset]["largest_difference_of_durations_percent"] = 100 * max(factors)
    found["ceilings"] = measure_ceilings(document, subsets)
    return found


def measure_ceilings(document: dict[str, Any], subsets: dict[str, str]) -> dict[str, float]:
    """Compute the mAP of a network without any error on the real validation videos, T = 100."""
    truth: dict[str, Any] = {}
    perfect: dict[str, dict[str, list[dict[str, Any]]]] = {}

    def add(way: str, video: str, label: str, start: float, end: float) -> None:
        if end > start:
            row = {"label": label, "score": 1.0, "segment": [start, end]}
            perfect.setdefault(way, {}).setdefault(video, []).append(row)

    for video, entry in document.items():
        if subsets[video] != "validation" or not entry["annotations"]:
            continue
        whole = entry["duration_second"]
        loaded = whole * entry["feature_frame"] / entry["duration_frame"]
        truth[video] = {"duration": whole, "subset": "validation", "annotations": entry["annotations"]}
        kept = quirks.loaded_annotations(entry["annotations"], duration_s=loaded, quirks=("last-only", "short"))
        for action in entry["annotations"]:
            start, end = (min(max(t / loaded, 0.0), 1.0) for t in action["segment"])
            first, stop = snippet_span(start, end, duration_s=1.0, n_snippets=100) if start < 1 else (100, 100)
            add("snippets of T = 100", video, action["label"], first / 100 * loaded, stop / 100 * loaded)
            if kept:
                add("videos that the loader keeps", video, action["label"], first / 100 * loaded, stop / 100 * loaded)
            # Training labels [floor(start) + 1, floor(end) - 1); decoding ends at the start of the last snippet.
            inset, inset_stop = int(100 * start) + 1, int(100 * end) - 1
            for way, begin, final, seconds in (
                ("trained inset", inset, inset_stop, loaded),
                ("decoded to the last snippet", first, stop - 1, loaded),
                ("both", inset, inset_stop - 1, loaded),
                ("both, and the other duration", inset, inset_stop - 1, whole),
            ):
                add(way, video, action["label"], begin / 100 * seconds, final / 100 * seconds)
    layout = {"database": truth}
    found = {way: mean_average_precision(layout, {"results": results}).average_mAP for way, results in perfect.items()}
    kept_rows = perfect["videos that the loader keeps"]
    forgetful = mean_average_precision(quirks.forgetful_truth(layout, kept_rows), {"results": kept_rows})
    return {**found, "videos that the loader keeps, forgetful": forgetful.average_mAP}


def _public(layout: Any) -> Any:
    return read_public_annotations(layout.annotations, layout.video_info)
