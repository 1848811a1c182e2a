"""Train on the annotations that the public data loader keeps, one rule at a time."""

import json
import shutil
from pathlib import Path
from typing import Any

import quirks
from figures import spread
from made_data import config_for, trained

from stale_edge.data import DataSet, open_data_set
from stale_edge.data.folder import ANNOTATIONS_FILE
from stale_edge.training import evaluate_checkpoint

LOADERS: dict[str, tuple[str, ...]] = {
    "every annotation": (),
    "last-only": ("last-only",),
    "short": ("short",),
    "last-only and short": ("last-only", "short"),
    "inset": ("inset",),
    "as published": ("last-only", "short", "inset"),
}


def with_training_annotations(data: DataSet, folder: Path, names: tuple[str, ...]) -> Path:
    """Make a data set with the training annotations that the public loader gives; features are shared."""
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    for entry in data.root.iterdir():
        if entry.name != ANNOTATIONS_FILE:
            (folder / entry.name).symlink_to(entry.resolve())
    document = data.annotations.to_layout()
    database = {}
    for video, entry in document["database"].items():
        actions = entry["annotations"]
        if entry["subset"] == "training":
            actions = quirks.loaded_annotations(actions, duration_s=entry["duration"], quirks=names)
        if actions:
            database[video] = {**entry, "annotations": actions}
    (folder / ANNOTATIONS_FILE).write_text(json.dumps({**document, "database": database}), encoding="utf-8")
    return folder


def measure_loader(data: DataSet, work: Path, *, epochs: int, seeds: int) -> dict[str, Any]:
    """Train with each variant of the loader; evaluate all on the same complete validation annotations."""
    rows = {}
    for name, active in LOADERS.items():
        folder = with_training_annotations(data, work / "annotations" / name.replace(" ", "-"), active)
        kept = [v for v in open_data_set(folder).annotations.videos.values() if v.subset == "training"]
        values = []
        for seed in range(seeds):
            run = work / "runs" / f"loader-{name.replace(' ', '-')}-{seed}"
            report = evaluate_checkpoint(trained(config_for(epochs=epochs, seed=seed), folder, run), data.root)
            values.append(report.result.average_mAP)
            print(f"loader {name:20} seed {seed}  {values[-1]:.2f}", flush=True)
        rows[name] = {
            "videos": len(kept),
            "actions": sum(len(video.actions) for video in kept),
            **spread(values),
        }
    return {"rows": rows, "seeds": seeds}
