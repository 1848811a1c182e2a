"""The simulated worlds of the demo, made where they are missing, and what a detector finds of their classes."""

from pathlib import Path

from stale_edge.data import DataSet, open_data_set
from stale_edge.demo.feature_world import make_data_set
from stale_edge.model.checkpoint import Checkpoint
from stale_edge.runtime.evaluate import EvaluationSettings, evaluate_localizer
from stale_edge.training.class_sources import bank_for
from stale_edge.training.torch_localizer import TorchLocalizer

SPLITS = {"seen": "train.list", "unseen": "test.list"}


def open_world(world: Path, *, seed: int, scale: float, shot_s: float = 0.0) -> DataSet:
    """Open the data of a world, which is made first where it is missing; arguments as in `make_data_set`."""
    if not (world / "data").exists():
        make_data_set(world / "data", seed=seed, scale=scale, shot_s=shot_s)
    return open_data_set(world / "data")


def average_maps(
    checkpoint: Checkpoint,
    data_set: DataSet,
    *,
    kind: type[TorchLocalizer] = TorchLocalizer,
    settings: EvaluationSettings | None = None,
) -> dict[str, float]:
    """Give average mAP in percent of seen and unseen classes, as `evaluate_checkpoint` does of a checkpoint's file."""
    found = {}
    for part, split in SPLITS.items():
        names = data_set.split(split)
        localizer = kind.of(checkpoint, class_bank=bank_for(checkpoint, names, root=data_set.root))
        report = evaluate_localizer(localizer, data_set, classes=names, settings=settings)
        found[part] = report.result.average_mAP
    return found
