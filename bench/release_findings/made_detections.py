"""The outputs of one trained network, and its detections with some of the quirks."""

from pathlib import Path
from typing import Any

import numpy as np
import quirks

from stale_edge.data import DataSet, read_scores, resample
from stale_edge.data.folder import SCORES_FILE
from stale_edge.model.checkpoint import read_checkpoint
from stale_edge.training.torch_localizer import TorchLocalizer


def network_outputs(data: DataSet, checkpoint: Path, *, subset: str = "validation") -> dict[str, Any]:
    """Run a network on every validation video: class logits, masks, and the row names of the logits."""
    read = read_checkpoint(checkpoint)
    localizer = TorchLocalizer.of(read)
    outputs = {}
    for video in data.videos(subset):
        found = localizer.forward(resample(data.load(video), 100))
        outputs[video] = (found["class_logits"], found["masks"])
    return {"names": list(localizer.class_bank.names), "outputs": outputs}


def detections(
    data: DataSet,
    network: dict[str, Any],
    names: Any,
    *,
    enhance: bool = False,
    chance: np.random.Generator | None = None,
) -> dict[str, Any]:
    """Decode all videos with some quirks into ActivityNet's layout; `chance` draws the order of equal scores."""
    scores = read_scores(data.root / SCORES_FILE) if enhance else {}
    results = {}
    for video, (logits, masks) in network["outputs"].items():
        duration_s = data.annotations.videos[video].duration_s
        rows = []
        for found in quirks.decode(logits, masks, quirks=names, chance=chance):
            label = network["names"][found.label]
            if enhance and found.score <= scores[video].score:
                label = scores[video].label
            segment = [found.start * duration_s, found.end * duration_s]
            rows.append({"label": label, "score": found.score, "segment": segment})
        results[video] = rows
    return {"version": "release-findings", "results": results, "external_data": {}}
