"""Decode the outputs of one trained network with the public post-processing, with each quirk repaired alone."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import quirks
from made_detections import detections, network_outputs

from stale_edge.data import DataSet
from stale_edge.evaluation import mean_average_precision
from stale_edge.training import evaluate_checkpoint

DRAWS = 20
"""Number of random orders of equal scores."""


def measure_postprocess(data: DataSet, checkpoint: Path) -> dict[str, Any]:
    """Decode the outputs of one network with all quirks, all but one, one alone, and none."""
    network, truth = network_outputs(data, checkpoint), data.annotations.to_layout()
    everything = tuple(quirks.DECODE_QUIRKS)

    def score(names: Any, **arguments: Any) -> float:
        return mean_average_precision(truth, detections(data, network, names, **arguments)).average_mAP

    found: dict[str, Any] = {
        "as published": score(everything),
        "no quirk": score(()),
        "repaired alone": {q: score([other for other in everything if other != q]) for q in everything},
        "alone": {q: score([q]) for q in everything},
        "as published, score enhancement": score(everything, enhance=True),
        "no quirk, score enhancement": score((), enhance=True),
        "paper policy of the kit": evaluate_checkpoint(checkpoint, data.root).result.average_mAP,
    }
    drawn = [score(everything, chance=np.random.default_rng(seed)) for seed in range(DRAWS)]
    found["as published, equal scores in drawn orders"] = {
        "draws": DRAWS,
        "mean": float(np.mean(drawn)),
        "std": float(np.std(drawn, ddof=1)),
        "min": min(drawn),
        "max": max(drawn),
    }
    several = {
        video: entry
        for video, entry in truth["database"].items()
        if len(entry["annotations"]) > 1 and entry["subset"] == "validation"
    }
    repeated = {**truth, "database": several}
    for key, names in (("hull", everything), ("runs", [q for q in everything if q != "hull"])):
        predictions = detections(data, network, names)
        predictions["results"] = {v: rows for v, rows in predictions["results"].items() if v in several}
        found[f"videos of several actions, {key}"] = mean_average_precision(repeated, predictions).average_mAP
    found["videos of several actions"] = len(several)
    raised = [quirks.Segment(0.0, 0.2, 0.9, 0), quirks.Segment(0.2 * 0.9 / 1.1, 0.2 + 0.2 * 0.9 / 1.1, 0.5, 0)]
    found["decay at tIoU 0.1"] = quirks.soft_nms(raised, quirks=["decay"])[1].score / 0.5
    print(json.dumps(found, indent=1), flush=True)
    return found
