"""The kinds of work that `tests/faults.py` disturbs: how each is prepared, run or resumed, checked, and compared."""

import hashlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

import exporting_case
import tiny
import training_data
import video_files
import vision_encoder
import vision_tower

from stale_edge.bundle import add_classes, list_classes, verify_bundle
from stale_edge.bundle.encoder_folder import verify_encoder
from stale_edge.jobs.detection import detect_many
from stale_edge.jobs.extraction import FeatureJob, extract_all
from stale_edge.model import read_checkpoint
from stale_edge.runtime.detect_settings import DetectSettings
from stale_edge.study import Column, FinishedRun, Run, Summary, Table, run_study
from stale_edge.training import train
from stale_edge.training.run_folder import read_state_file

Result = dict[str, Any]


@dataclass(frozen=True)
class Work:
    """One kind of work.

    prepare: makes the inputs in an empty folder.
    run: runs the work there, or resumes it.
    check: raises if something is incomplete after a disturbance.
    result: gives the values that must be equal at the end.
    share: fraction of the kills that are for this work.
    """

    name: str
    prepare: Callable[[Path], object]
    run: Callable[[Path], object]
    check: Callable[[Path], object]
    result: Callable[[Path], Result]
    share: float


def hashes(folder: Path, pattern: str) -> Result:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob(pattern))
        if path.is_file()
    }


def leftovers(folder: Path) -> list[str]:
    """List leftovers of writers; there must be none after the work has ended."""
    return [str(path.relative_to(folder)) for path in folder.rglob(".*") if path.suffix in (".part", ".old", ".lock")]


def add_one_class(root: Path) -> None:
    if "added" not in list_classes(root / "bundle"):
        add_classes(root / "bundle", tiny.bank(("added",)))
    else:  # it was added before the kill; the next writer sweeps
        add_classes(root / "bundle", tiny.bank(("swept",)))


def check_bundle(root: Path) -> None:
    names = verify_bundle(root / "bundle").class_bank.names
    assert names in (tiny.NAMES, (*tiny.NAMES, "added")), names


CLASSES = Work(
    "classes",
    lambda root: tiny.write(root / "bundle"),
    add_one_class,
    check_bundle,
    lambda root: {"names": [name for name in list_classes(root / "bundle") if name != "swept"]},
    0.35,
)


def prepare_detect(root: Path) -> None:
    tiny.write(root / "bundle")
    (root / "inputs").mkdir()
    for i in range(6):
        np.save(root / "inputs" / f"v{i}.npy", tiny.features(10 + i, seed=i))


def run_detect(root: Path) -> None:
    run = detect_many(DetectSettings(root / "bundle"), [root / "inputs"], root / "results")
    assert not run.errors, run.errors


def results_of(root: Path) -> Result:
    return {path.name: json.loads(path.read_text())["detections"] for path in (root / "results").glob("*.json")}


DETECT = Work("detect --results", prepare_detect, run_detect, results_of, results_of, 0.2)


def prepare_features(root: Path) -> None:
    vision_encoder.write(root / "encoder")
    (root / "videos").mkdir()
    for i in range(3):
        video_files.write(root / "videos" / f"v{i}.mkv", times_ms=range(0, 2000 + 500 * i, 100))


def run_features(root: Path) -> None:
    report = extract_all([root / "videos"], FeatureJob(root / "encoder", root / "out", fps=5.0, stride=1))
    assert not report.errors, report.errors


def check_features(root: Path) -> None:
    for path in (root / "out" / "features").glob("*.npy"):
        np.load(path)
    for path in (root / "out" / "sources").glob("*.json"):
        json.loads(path.read_text())


FEATURES = Work(
    "features", prepare_features, run_features, check_features, lambda root: hashes(root / "out", "*.npy"), 0.15
)


def is_begun(out: Path) -> bool:
    """Tell whether a training left anything, so that it must be resumed."""
    return out.exists() and any(out.iterdir())


def run_train(root: Path) -> None:
    out = root / "run"
    train(training_data.small_config(epochs=3), root / "data", out, resume=is_begun(out))


def check_train(root: Path) -> None:
    run = root / "run"
    if (run / "state.pt").exists():
        read_state_file(run / "state.pt")
    for name in ("last", "best"):
        if (run / name).exists():
            read_checkpoint(run / name)


def result_of_training(root: Path) -> Result:
    state = read_state_file(root / "run" / "state.pt")
    lines = (root / "run" / "metrics.jsonl").read_text().splitlines()
    records = [{k: v for k, v in json.loads(line).items() if "seconds" not in k} for line in lines]
    weights = {name: hashlib.sha256(value.numpy().tobytes()).hexdigest() for name, value in state.weights.items()}
    return {"epoch": state.epoch, "weights": weights, "metrics": records}


TRAIN = Work(
    "train",
    lambda root: training_data.write_data_set(root / "data", n_videos=6),
    run_train,
    check_train,
    result_of_training,
    0.15,
)


class Trainings:
    """A study of two short trainings."""

    name = "trainings"

    def __init__(self, data: Path) -> None:
        self.data = data

    def plan(self, progress: object) -> Sequence[Run]:  # noqa: ARG002
        return [Run(f"seed-{seed}", {"seed": seed}) for seed in (1, 2)]

    def execute(self, run: Run, *, scratch: Path, progress: object) -> Mapping[str, Any]:  # noqa: ARG002
        out = scratch / "run"
        config = training_data.small_config(epochs=2, seed=run.parameters["seed"])
        return {"average_mAP": train(config, self.data, out, resume=is_begun(out)).average_mAP}

    def summarise(self, finished: Sequence[FinishedRun]) -> Summary:
        rows = tuple({"run": done.run.key, **done.result} for done in finished)
        table = Table("trainings", "by seed", (Column("run", "run"), Column("average_mAP", "average mAP", 2)), rows)
        return Summary(title="Trainings", features="random", tables=(table,), plots=(), notes=())


def results_of_study(root: Path) -> Result:
    return {path.name: json.loads(path.read_text())["result"] for path in (root / "study" / "runs").glob("*.json")}


STUDY = Work(
    "study",
    lambda root: training_data.write_data_set(root / "data", n_videos=6),
    lambda root: run_study(Trainings(root / "data"), root / "study"),
    results_of_study,
    results_of_study,
    0.07,
)


def run_export(root: Path) -> None:
    from stale_edge.exporting import export_checkpoint

    if not (root / "bundle").exists():
        export_checkpoint(root / "checkpoint", root / "bundle", formats=("onnx",), precisions=("fp32",))


def check_export(root: Path) -> None:
    if (root / "bundle").exists():
        verify_bundle(root / "bundle")


EXPORT = Work(
    "export",
    lambda root: exporting_case.save_checkpoint(root / "checkpoint", exporting_case.trained_model()),
    run_export,
    check_export,
    lambda root: hashes(root / "bundle", "*.onnx"),
    0.05,
)


def run_encoder_export(root: Path) -> None:
    from stale_edge.exporting.encoder import export_encoder

    if not (root / "encoder").exists():
        export_encoder(root / "tower", root / "encoder", precisions=("fp32",))


def check_encoder(root: Path) -> None:
    if (root / "encoder").exists():
        verify_encoder(root / "encoder")


ENCODER = Work(
    "encoder export",
    lambda root: vision_tower.write(root / "tower"),
    run_encoder_export,
    check_encoder,
    lambda root: hashes(root / "encoder", "*.onnx"),
    0.03,
)

QUICK = (CLASSES, DETECT, FEATURES, TRAIN)
ALL = (*QUICK, STUDY, EXPORT, ENCODER)
"""All kinds; the last three take many seconds each, so the tests leave them to the weekly run."""
