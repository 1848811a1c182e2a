"""Parts of every demo: its folder, the time of its stages, the linear probe, the table of detectors."""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stale_edge.config import Config
from stale_edge.data import DataSet
from stale_edge.errors import DataError
from stale_edge.evaluation.ladder import LINEAR, TRAINING_FREE, Rung
from stale_edge.progress import Progress
from stale_edge.runtime.evaluate import EvaluationReport
from stale_edge.training import evaluate_checkpoint, train

_STARTED_FILE = "demo.started"


def make_room(out: Path) -> None:
    """Empty the folder of an earlier demo; touch nothing else.

    Raises:
        DataError: `out` holds files that are not a demo.
    """
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not (out / _STARTED_FILE).is_file())):
        raise DataError(f"{out} exists and holds no demo; give a folder that is empty or does not exist yet")
    if out.is_dir():
        shutil.rmtree(out)
    out.mkdir(parents=True)
    (out / _STARTED_FILE).write_text("stale-edge demo writes into this folder and may replace it.\n", encoding="utf-8")


@contextmanager
def timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    """Store the seconds that a stage took."""
    started = time.monotonic()
    yield
    seconds[stage] = round(time.monotonic() - started, 2)


def lower_rungs(config: Config, data_set: DataSet, run: Path, *, progress: Progress) -> tuple[Rung, Rung]:
    """Train the linear probe into `run`; measure it and the training-free baseline on seen and unseen classes.

    Raises:
        DataError: there is no baseline.
    """
    last = train(config, data_set.root, run, progress=progress).last
    seen, unseen = (
        evaluate_checkpoint(last, data_set.root, split=data_set.root / "splits" / split, progress=progress)
        for split in ("train.list", "test.list")
    )
    free = Rung(TRAINING_FREE, baseline_of(seen), baseline_of(unseen))
    return free, Rung(LINEAR, seen.result.average_mAP, unseen.result.average_mAP)


def rung_of(detector: str, seen: EvaluationReport, unseen: EvaluationReport | None) -> Rung:
    """Give the results of the detector; `unseen` is None if it knows no other classes than those it is trained on."""
    return Rung(detector, seen.result.average_mAP, None if unseen is None else unseen.result.average_mAP)


def baseline_of(report: EvaluationReport) -> float:
    """Give the average mAP of the training-free baseline.

    Raises:
        DataError: there is none.
    """
    if report.baseline is None:
        raise DataError(f"the baseline could not be computed: {report.baseline_note}")
    return report.baseline.average_mAP
