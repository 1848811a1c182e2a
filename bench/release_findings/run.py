"""Measure the effect of each quirk of the public STALE code: the figures of docs/release-findings.md.

    python bench/release_findings/run.py [--annotations FOLDER] [--json bench/results/release-findings.json]

Each part can run alone (`--only loader,time`); its results are added to the JSON.

annotations  the real annotations that the data loader keeps (needs --annotations, the public layout)
loader       training on the annotations that the public data loader keeps, one rule at a time
postprocess  the public post-processing on the outputs of one trained network, with each quirk repaired alone
evaluator    the two errors of the public evaluator, on the detections of that network
network      the public network, trained unchanged and with one repair at a time
time         text tower, cold call, gradients, anomaly mode, quantization

Features are simulated; with `--annotations` the timelines (durations, segments, classes) are real. Trainings are kept
in `--work`, so that a stopped run can continue. mAP in percent, average over tIoU 0.5:0.05:0.95.
"""

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from figures import put_part
from made_data import config_for, make_data, trained
from measure_annotations import count_annotations
from measure_evaluator import measure_evaluator
from measure_loader import measure_loader
from measure_network import measure_network
from measure_postprocess import measure_postprocess
from measure_time import measure_time

ROOT = Path(__file__).resolve().parent.parent.parent
PARTS = ("annotations", "loader", "postprocess", "evaluator", "network", "time")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(PARTS), help="comma-separated parts")
    parser.add_argument("--annotations", type=Path, help="folder with anet_anno_action.json and video_info_new.csv")
    parser.add_argument("--videos", type=int, default=600)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=2, help="trainings of each kind")
    parser.add_argument("--length", type=int, default=100, help="T of the part `time`")
    parser.add_argument("--processes", type=int, default=3, help="cold starts")
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "stale-edge-release-findings")
    parser.add_argument("--json", type=Path, default=ROOT / "bench" / "results" / "release-findings.json")
    arguments = parser.parse_args()
    parts = [part.strip() for part in arguments.only.split(",") if part.strip()]
    if set(parts) - set(PARTS):
        parser.error(f"--only takes some of {', '.join(PARTS)}; got {arguments.only}")
    torch.set_num_threads(1)
    work = arguments.work
    work.mkdir(parents=True, exist_ok=True)
    settings = {"videos": arguments.videos, "epochs": arguments.epochs, "real_timelines": bool(arguments.annotations)}
    _require_same(work / "settings.json", settings)
    data = make_data(work / "data", n_videos=arguments.videos, seed=0, annotations=arguments.annotations)
    closed = config_for(epochs=arguments.epochs, seed=0)
    opened = config_for(epochs=arguments.epochs, seed=0, classes=data.root / "splits" / "train.list")
    for part in parts:
        began = time.monotonic()
        if part == "annotations":
            if arguments.annotations is None:
                continue
            result = count_annotations(arguments.annotations)
        elif part == "loader":
            result = measure_loader(data, work, epochs=arguments.epochs, seeds=arguments.seeds)
        elif part == "postprocess":
            result = measure_postprocess(data, trained(closed, data.root, work / "runs" / "closed"))
        elif part == "evaluator":
            result = measure_evaluator(
                data,
                trained(closed, data.root, work / "runs" / "closed"),
                trained(opened, data.root, work / "runs" / "open"),
            )
        elif part == "network":
            result = measure_network(data, work, epochs=arguments.epochs, seeds=arguments.seeds)
        else:
            result = measure_time(data, length=arguments.length, processes=arguments.processes)
        result["took_s"] = round(time.monotonic() - began, 1)
        put_part(arguments.json, part, result, settings)


def _require_same(path: Path, settings: dict[str, Any]) -> None:
    if path.is_file() and json.loads(path.read_text()) != settings:
        raise SystemExit(f"{path.parent} was made with other settings; choose another --work or delete it")
    path.write_text(json.dumps(settings))


if __name__ == "__main__":
    main()
