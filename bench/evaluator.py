"""Time the evaluator against a loop that takes one prediction at a time (the oracle of the tests).

    python bench/evaluator.py [--videos 4926] [--detections 100] [--repeats 5] [--json FILE]

The task has the size of ActivityNet v1.3's validation set: 4,926 videos with 1.55 actions on average, 200 classes, 100
detections per video, ten tIoU thresholds. It is simulated: segments are random, one detection in five is near an
action, and nine in ten have their video's class, as after score enhancement. All read the same data, in turns, in one
process with one thread. Prints medians of CPU seconds, which other programs disturb less, and of wall seconds.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import oracle  # noqa: E402

from stale_edge.evaluation import ACTIVITYNET_THRESHOLDS, mean_average_precision, score_files  # noqa: E402


def make_task(*, n_videos: int, n_detections: int, n_classes: int = 200, seed: int = 0):
    """Make ground truth and predictions in ActivityNet's layouts."""
    rng = np.random.default_rng(seed)
    database, results = {}, {}
    for i in range(n_videos):
        duration = float(rng.uniform(10, 240))
        labels = [f"class {k:03d}" for k in rng.integers(n_classes, size=5)]
        actions = []
        for _ in range(1 + min(4, rng.geometric(0.65) - 1)):
            start, end = sorted(rng.uniform(0, duration, 2).tolist())
            actions.append({"segment": [start, end], "label": labels[0]})
        rows = []
        for j in range(n_detections):
            start, end = sorted(rng.uniform(0, duration, 2).tolist())
            label = labels[1 + j % 4] if j % 10 == 9 else labels[0]
            if j % 5 == 0:
                action = actions[int(rng.integers(len(actions)))]
                start, end = sorted((np.array(action["segment"]) + rng.normal(0, 0.05 * duration, 2)).tolist())
            rows.append({"label": label, "score": float(rng.random()), "segment": [start, end]})
        database[f"v{i:05d}"] = {"duration": duration, "subset": "validation", "annotations": actions}
        results[f"v{i:05d}"] = rows
    return {"database": database}, {"results": results}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=4926)
    parser.add_argument("--detections", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()

    truth, predictions = make_task(n_videos=arguments.videos, n_detections=arguments.detections)
    cpu_s: dict[str, list[float]] = {"loop": [], "evaluator": [], "files": []}
    wall_s: dict[str, list[float]] = {name: [] for name in cpu_s}
    with tempfile.TemporaryDirectory() as folder:
        paths = Path(folder, "truth.json"), Path(folder, "predictions.json")
        for path, document in zip(paths, (truth, predictions), strict=True):
            path.write_text(json.dumps(document))
        subjects = {
            "loop": lambda: oracle.mean_average_precision(truth, predictions, "validation", ACTIVITYNET_THRESHOLDS),
            "evaluator": lambda: mean_average_precision(truth, predictions),
            "files": lambda: score_files(*paths),
        }
        answers = {}
        for _ in range(arguments.repeats):
            for name, subject in subjects.items():
                wall_began, cpu_began = time.perf_counter(), time.process_time()
                answers[name] = subject()
                cpu_s[name].append(time.process_time() - cpu_began)
                wall_s[name].append(time.perf_counter() - wall_began)
    by_loop = 100 * float(np.mean(list(answers["loop"].values())))
    difference = abs(by_loop - answers["evaluator"].average_mAP)
    cpu = {name: statistics.median(values) for name, values in cpu_s.items()}
    wall = {name: statistics.median(values) for name, values in wall_s.items()}
    report = {
        "schema": "stale-edge-bench-evaluator/1",
        "machine": {"processor": platform.processor() or platform.machine(), "load": os.getloadavg()[0]},
        "versions": {"python": platform.python_version(), "numpy": np.__version__},
        "videos": arguments.videos,
        "predictions": arguments.videos * arguments.detections,
        "repeats": arguments.repeats,
        "cpu_s": cpu_s,
        "wall_s": wall_s,
        "median_cpu_s": cpu,
        "median_wall_s": wall,
        "ratio": cpu["loop"] / cpu["evaluator"],
        "average_mAP": answers["evaluator"].average_mAP,
        "difference_of_average_mAP": difference,
    }
    print(f"{report['predictions']} predictions in {arguments.videos} videos, 10 tIoU thresholds, one thread; ", end="")
    print(f"medians of {arguments.repeats}, CPU (wall) seconds")
    for name, words in (("loop", "loop"), ("evaluator", "evaluator"), ("files", "evaluator, from JSON files")):
        print(f"{words:28} {cpu[name]:8.3f} ({wall[name]:.3f})")
    print(f"{report['ratio']:.1f} times faster than the loop; average mAP {report['average_mAP']:.4f} %, ", end="")
    print(f"the two differ by {difference:.1e}")
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
