"""What faster ways from a video file to its detections change in the detections of the rendered world.

    stale-edge demo --video --out DEMO
    python bench/video_decisions.py DEMO --json bench/results/video-decisions.json

Runs `detect` on the mp4 files of the demo's test videos, all names at once, in each way, and compares with the default
(exact pictures, encoder and detector in ONNX Runtime fp32): average mAP in points, and the share of its detections that
are found again (same label, tIoU >= 0.95). `recommended` is what `detect --encoder-runtime auto` does after
`bench DEMO/bundle --video FILE --recommend`, which this program runs on the first test video.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from stale_edge.benchmarking.cpus import load_average
from stale_edge.benchmarking.whole_path import WholePath, run_whole_path
from stale_edge.data import DataSet, open_data_set
from stale_edge.evaluation import mean_average_precision
from stale_edge.evaluation.agreement import SAME_SEGMENT, count_matched
from stale_edge.machine import machine_card
from stale_edge.report.formats import to_layout
from stale_edge.runtime.detect import Detector
from stale_edge.runtime.detect_inputs import find_inputs
from stale_edge.runtime.detect_settings import DetectSettings
from stale_edge.segments import CONFIDENT, Detection

WAYS: dict[str, dict[str, Any]] = {
    "default": {},
    "encoder int8": {"encoder_precision": "int8"},
    "encoder static int8": {"encoder_precision": "int8-static"},
    "encoder static int8, OpenVINO": {"encoder_precision": "int8-static", "encoder_runtime": "openvino"},
    "detector int8": {"precision": "int8"},
    "fast pictures": {"preprocessing": "fast"},
    "skip 0.02": {"skip_similar": 0.02},
    "skip 0.05": {"skip_similar": 0.05},
    "recommended": {"encoder_runtime": "auto"},
    "recommended, fast pictures, skip 0.05": {
        "encoder_runtime": "auto",
        "preprocessing": "fast",
        "skip_similar": 0.05,
    },
}
SUBSET = "validation"


def main() -> None:
    """Recommend, detect in every way, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("demo", type=Path, help="folder of `demo --video`")
    parser.add_argument("--json", type=Path, required=True)
    given = parser.parse_args()
    bundle, data = given.demo / "bundle", open_data_set(given.demo / "data")
    videos = [data.root / "videos" / f"{name}.mp4" for name in data.videos(SUBSET)]
    card = machine_card() | {"load_average_before": load_average()}
    path = WholePath(videos[0], bundle, bundle, repeats=1)
    recommended = run_whole_path(path, recommend=True)["recommendation"]["by_threads"]["1"]["chosen"]
    default: dict[str, list[Detection]] = {}
    rows = []
    for name, changes in WAYS.items():
        found, n_sampled, n_encoded = detect(replace(DetectSettings(bundle), **changes), videos)
        default = default or found
        rows.append({"way": name, "settings": changes} | compared(found, default, data))
        rows[-1] |= {"frames_sampled": n_sampled, "frames_encoded": n_encoded}
        print(json.dumps(rows[-1]), flush=True)
    for row in rows:
        row["change"] = row["average_mAP"] - rows[0]["average_mAP"]
    record = {
        "schema": "stale-edge-video-decisions/1",
        "machine": card,
        "demo": json.loads((given.demo / "demo.json").read_text(encoding="utf-8"))["seed"],
        "videos": len(videos),
        "rule": f"found again: same label, tIoU >= {SAME_SEGMENT:g}, scores of at least {CONFIDENT:g} of the best",
        "recommended": recommended,
        "rows": rows,
    }
    given.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def detect(settings: DetectSettings, videos: list[Path]) -> tuple[dict[str, list[Detection]], int, int]:
    """Detect in video files; gives the detections by video, the pictures that were sampled and those encoded."""
    detector = Detector(settings)
    detector.open_encoder(videos)
    found, n_sampled, n_encoded = {}, 0, 0
    for item in find_inputs(videos):
        one = detector.detect(item)
        found[item.video] = list(one.detections)
        n_sampled += one.timings.frames_sampled
        n_encoded += one.timings.frames_encoded
    return found, n_sampled, n_encoded


def compared(found: dict[str, list[Detection]], default: dict[str, list[Detection]], data: DataSet) -> dict[str, Any]:
    """Measure mAP in percent, and count the default's detections that are found again."""
    result = mean_average_precision(data.annotations.to_layout(), to_layout(found), subset=SUBSET)
    matches = [count_matched(wanted, found[video], confident=CONFIDENT) for video, wanted in default.items()]
    total, matched = sum(match.total for match in matches), sum(match.matched for match in matches)
    return {
        "average_mAP": result.average_mAP,
        "mAP_50": result.mAP[0],
        "n_detections": total,
        "found_again": matched / total,
    }


if __name__ == "__main__":
    main()
