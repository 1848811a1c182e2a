"""Run every stage of the demo in order, keep the results, and write the report."""

import json
from pathlib import Path
from typing import Any

from stale_edge.benchmarking import run_benchmark
from stale_edge.config import BenchConfig
from stale_edge.data.folder import TEXT_ENCODER_FOLDER
from stale_edge.demo.feature_world import (
    DEMO_ARCHITECTURES,
    check_demo_architecture,
    detector_name,
    make_data_set,
    training_config,
)
from stale_edge.demo.outcome import Outcome
from stale_edge.demo.report import write_report
from stale_edge.demo.stages import lower_rungs, make_room, rung_of, timed
from stale_edge.errors import DataError
from stale_edge.exporting import export_checkpoint
from stale_edge.model.architectures import architecture_of
from stale_edge.progress import Progress, silent
from stale_edge.runtime import load_bundle, load_text_encoder
from stale_edge.runtime.detect import detect_files
from stale_edge.runtime.evaluate import evaluate_localizer
from stale_edge.training import evaluate_checkpoint, train

RESULT_FILE = "demo.json"
REPORT_FILE = "report.html"
BENCH_LENGTHS = (100, 200, 400)


def run_demo(
    out: Path,
    *,
    architecture: str = DEMO_ARCHITECTURES[0],
    seed: int = 0,
    scale: float = 1.0,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Run the project's main job once, on data that it makes itself.

    Everything stays in `out`: `data/`, `run/`, `bundle/`, `detections.json`, `demo.json`, `report.html`.

    Args:
        out: folder; must be empty, not exist, or hold an earlier demo, which is replaced.
        architecture: one of `DEMO_ARCHITECTURES`.
        seed: seed of the simulated task and of the training, >= 0.
        scale: share of the videos, in (0, 1].
        progress: called during the stages.

    Returns:
        JSON values, schema `stale-edge-demo/1`.

    Raises:
        ValueError: the demo does not train this architecture.
        DataError: `out` holds files that are not a demo.
        ParityError: an exported file failed the parity check; earlier results stay in `out`.
    """
    check_demo_architecture(architecture, DEMO_ARCHITECTURES)
    # A closed vocabulary is rows of the last layer: no name can be added to it.
    takes_names = architecture == "stale" or architecture_of(architecture).space == "text"
    out = Path(out)
    make_room(out)
    seconds: dict[str, float] = {}
    data, run, bundle = out / "data", out / "run", out / "bundle"
    with timed(seconds, "simulate"):
        data_set = make_data_set(data, seed=seed, scale=scale, progress=progress)
    with timed(seconds, "train"):
        trained = train(training_config(data_set, seed=seed, architecture=architecture), data, run, progress=progress)
    with timed(seconds, "evaluate"):
        closed = evaluate_checkpoint(trained.best, data, split=data / "splits" / "train.list", progress=progress)
        unseen = (
            evaluate_checkpoint(trained.best, data, split=data / "splits" / "test.list", progress=progress)
            if takes_names
            else None
        )
    with timed(seconds, "train and evaluate the linear probe"):
        probe = training_config(data_set, seed=seed, architecture="linear")
        lower = lower_rungs(probe, data_set, out / "linear", progress=progress)
        ladder = (*lower, rung_of(detector_name(architecture), closed, unseen))
    with timed(seconds, "export and check"):
        classes = data_set.class_names if takes_names else None
        exported = export_checkpoint(trained.best, bundle, classes=classes, data=data, progress=progress)
    on_device = None
    if takes_names:
        with timed(seconds, "evaluate the bundle on new classes"):
            names = load_text_encoder(bundle).encode(data_set.split("test.list"))
            on_device = evaluate_localizer(load_bundle(bundle), data_set, classes=names, progress=progress)
    with timed(seconds, "detect"):
        features = [data_set.features.sources(video)[0].path for video in data_set.videos("validation")]
        detected = detect_files(bundle, features, progress=progress)
        if detected.errors:
            raise DataError("; ".join(detected.errors))
        (out / "detections.json").write_text(detected.text, encoding="utf-8")
    with timed(seconds, "bench"):
        bench = run_benchmark(
            BenchConfig(lengths=BENCH_LENGTHS, repeats=3, seed=seed),
            bundle=bundle,
            text_encoder=data / TEXT_ENCODER_FOLDER if takes_names else None,
            progress=progress,
        )
    outcome = Outcome(
        out=out,
        seed=seed,
        data_set=data_set,
        trained=trained,
        closed=closed,
        unseen=unseen,
        ladder=ladder,
        on_device=on_device,
        exported=exported,
        bench=bench,
        seconds=seconds,
    )
    with timed(seconds, "report"):
        write_report(outcome, out / REPORT_FILE)
    result = outcome.to_json()
    (out / RESULT_FILE).write_text(json.dumps(result, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    return result
