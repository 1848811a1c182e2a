"""Measure the effect of windows on long videos: mAP on the demo's videos, time and memory at full size.

    python bench/windows.py quality DEMO [DEMO ...] [--together 8] [--json FILE]
    python bench/windows.py growth [--lengths 1000,3000] [--window 200] [--overlap 100] [--repeats 5] [--json FILE]

`quality` takes folders of `stale-edge demo --out DEMO`, or any folder with a data set `data` and a bundle `bundle`. It
detects in the validation videos one by one, in those longer than the window, and in videos of a quarter of an hour,
glued together from eight each. Windows are compared with one pass over the whole video, resampled as in the bundle,
and not resampled (the network takes any length). Each demo is listed with the mean over all: demos with different
seeds show how large a difference must be to be reliable.

`growth` times `Localizer.detect(window=, overlap=)` of a full-size `release` network with random weights (200 classes,
ONNX Runtime fp32, one thread) on memory-mapped feature files. Lengths take turns, each in its own process; medians of
processor seconds. Random weights give about as many segments as a window may hold, so joining takes the longest
possible time.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from stale_edge import Detection, Localizer, load_bundle, mean_average_precision
from stale_edge.data import DataSet, open_data_set, open_features
from stale_edge.decoding import decode
from stale_edge.report.formats import to_layout

SCHEMAS = {"quality": "stale-edge-bench-windows-quality/2", "growth": "stale-edge-bench-windows-growth/1"}
PLANS = ((100, 50), (150, 75), (150, 37), (200, 100), (200, 50), (300, 150))


class Video(NamedTuple):
    """Features and actions of one video; a snippet counts as one second."""

    features: np.ndarray
    actions: list[tuple[str, float, float]]


def glue(data_set: DataSet, names: list[str]) -> Video:
    """Join videos one after the other."""
    features, actions, offset = [], [], 0.0
    for name in names:
        x, annotation = data_set.load(name), data_set.annotations.videos[name]
        scale = len(x) / annotation.duration_s
        actions += [(a.label, offset + a.start_s * scale, offset + a.end_s * scale) for a in annotation.actions]
        features.append(x)
        offset += len(x)
    return Video(np.concatenate(features), actions)


def average_map(videos: Mapping[str, Video], detect: Callable[[np.ndarray], list[Detection]]) -> dict[str, float]:
    """Detect in videos and compute mAP, in percent."""
    database = {
        name: {
            "duration": float(len(video.features)),
            "subset": "validation",
            "annotations": [{"label": label, "segment": [start, end]} for label, start, end in video.actions],
        }
        for name, video in videos.items()
    }
    found = {name: detect(video.features) for name, video in videos.items()}
    result = mean_average_precision({"database": database}, to_layout(found)).to_json()
    return {"average_mAP": result["average_mAP"], "mAP@0.5": result["mAP"][0]}


class Demo(NamedTuple):
    """A demo's validation videos and its localizer, as functions of features."""

    single: dict[str, Video]
    glued: dict[str, Video]
    whole: Callable[[np.ndarray], list[Detection]]
    as_it_is: Callable[[np.ndarray], list[Detection]]
    windowed: Callable[[int, int], Callable[[np.ndarray], list[Detection]]]


def open_demo(folder: Path, *, together: int) -> Demo:
    """Open the folder of a demo."""
    data_set, localizer = open_data_set(folder / "data"), load_bundle(folder / "bundle")
    names = list(data_set.videos("validation"))
    order = np.random.default_rng(0).permutation(names).tolist()
    glued = {
        f"glued {i // together}": glue(data_set, order[i : i + together])
        for i in range(0, len(order) - together + 1, together)
    }

    def whole(x: np.ndarray) -> list[Detection]:
        return localizer.detect(x, duration_s=float(len(x)))

    def as_it_is(x: np.ndarray) -> list[Detection]:
        outputs = localizer.forward(x)
        return decode(
            outputs["class_logits"],
            outputs["masks"],
            class_names=localizer.class_bank.names,
            duration_s=float(len(x)),
            config=localizer.decode_config,
        )

    def windowed(window: int, overlap: int) -> Callable[[np.ndarray], list[Detection]]:
        return lambda x: localizer.detect(x, duration_s=float(len(x)), window=window, overlap=overlap)

    return Demo({name: glue(data_set, [name]) for name in names}, glued, whole, as_it_is, windowed)


def quality(demos: list[Path], *, together: int) -> dict:
    """Compare windows with whole videos, demo by demo."""
    rows = [_quality(open_demo(folder, together=together)) for folder in demos]
    summary = {
        videos: [
            _over_demos([row[videos]["windows"][i] for row in rows], plan, [_whole(row[videos], i) for row in rows])
            for i, plan in enumerate(PLANS)
        ]
        for videos in ("longer than the window", "single", "glued")
    }
    command = " ".join(["bench/windows.py quality", *("DEMO" for _ in demos)])
    return {"command": command, "demos": [_name(folder) for folder in demos], "mean": summary, "by_demo": rows}


def _quality(demo: Demo) -> dict:
    longer = [{n: v for n, v in demo.single.items() if len(v.features) > window} for window, _ in PLANS]

    def row(videos: Mapping[str, Video], plan: tuple[int, int]) -> dict:
        scores = average_map(videos, demo.windowed(*plan)) if videos else {}
        return {"window": plan[0], "overlap": plan[1], "videos": len(videos), **scores}

    return {
        "single": {
            "videos": len(demo.single),
            "whole": average_map(demo.single, demo.whole),
            "windows": [row(demo.single, plan) for plan in PLANS],
        },
        "glued": {
            "videos": len(demo.glued),
            "snippets": [len(video.features) for video in demo.glued.values()],
            "whole": average_map(demo.glued, demo.whole),
            "whole, not resampled": average_map(demo.glued, demo.as_it_is),
            "windows": [row(demo.glued, plan) for plan in PLANS],
        },
        "longer than the window": {
            "whole": [average_map(videos, demo.whole) if videos else {} for videos in longer],
            "windows": [row(videos, plan) for videos, plan in zip(longer, PLANS, strict=True)],
        },
    }


def _whole(part: dict, plan: int) -> dict:
    """Results of one pass over the whole video; each plan has its own set of videos longer than the window."""
    whole = part["whole"]
    return whole[plan] if isinstance(whole, list) else whole


def _over_demos(windows: list[dict], plan: tuple[int, int], whole: list[dict]) -> dict:
    """Average mAP of one plan, mean over demos that have such videos; differences are windows minus whole."""
    pairs = [(w["average_mAP"], o["average_mAP"]) for w, o in zip(windows, whole, strict=True) if w["videos"]]
    row = {"window": plan[0], "overlap": plan[1], "videos": [w["videos"] for w in windows]}
    if not pairs:
        return row
    windowed, at_once = (statistics.mean(values) for values in zip(*pairs, strict=True))
    return {
        **row,
        "windows": windowed,
        "whole": at_once,
        "difference": windowed - at_once,
        "differences": [w - o for w, o in pairs],
    }


def _name(demo: Path) -> str:
    """Give the name of the simulation that made a demo's features."""
    return load_bundle(demo / "bundle").feature_contract.encoder


def growth(lengths: list[int], *, window: int, overlap: int, repeats: int) -> dict:
    """Time windows at full size; lengths take turns, each in its own process."""
    from stale_edge.benchmarking.network_sizes import FULL_SIZE
    from stale_edge.benchmarking.torch_rows.made_bundles import make_bundle

    seconds: dict[int, list[float]] = {length: [] for length in lengths}
    peaks: dict[int, list[int]] = {length: [] for length in lengths}
    with tempfile.TemporaryDirectory() as folder:
        bundle = Path(folder) / "bundle"
        make_bundle(bundle, FULL_SIZE.at(window), [("onnxruntime", "fp32")], seed=0, progress=lambda *_: None)
        for length in lengths:
            x = np.random.default_rng(length).standard_normal((length, FULL_SIZE.model.feature_channels))
            np.save(Path(folder) / f"{length}.npy", x.astype(np.float32))
        for _ in range(repeats):
            for length in lengths:
                arguments = ["one", bundle, Path(folder) / f"{length}.npy", window, overlap]
                done = subprocess.run(
                    [sys.executable, __file__, *map(str, arguments)], capture_output=True, text=True, check=True
                )
                result = json.loads(done.stdout)
                seconds[length].append(result["cpu_s"])
                peaks[length].append(result["peak_rss_bytes"])
    rows = [
        {
            "length": length,
            "median_cpu_s": statistics.median(seconds[length]),
            "cpu_s": seconds[length],
            "peak_rss_bytes": max(peaks[length]),
        }
        for length in lengths
    ]
    first, last = rows[0], rows[-1]
    return {
        "window": window,
        "overlap": overlap,
        "rows": rows,
        "time_ratio": last["median_cpu_s"] / first["median_cpu_s"],
        "memory_ratio": last["peak_rss_bytes"] / first["peak_rss_bytes"],
    }


def one(bundle: Path, features: Path, window: int, overlap: int) -> dict:
    """Time one pass after a warm-up on a single window."""
    localizer: Localizer = load_bundle(bundle)
    x = open_features(features)
    localizer.detect(x[:window], duration_s=float(window), window=window, overlap=overlap)
    began = time.process_time()
    found = localizer.detect(x, duration_s=float(len(x)), window=window, overlap=overlap)
    cpu_s = time.process_time() - began
    status = Path("/proc/self/status").read_text()
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    return {"cpu_s": cpu_s, "peak_rss_bytes": 1024 * peak, "detections": len(found)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_subparsers(dest="what", required=True)
    asked = what.add_parser("quality")
    asked.add_argument("demo", type=Path, nargs="+")
    asked.add_argument("--together", type=int, default=8)
    grown = what.add_parser("growth")
    grown.add_argument("--lengths", default="1000,3000")
    grown.add_argument("--window", type=int, default=200)
    grown.add_argument("--overlap", type=int, default=100)
    grown.add_argument("--repeats", type=int, default=5)
    single = what.add_parser("one")
    for name, kind in (("bundle", Path), ("features", Path), ("window", int), ("overlap", int)):
        single.add_argument(name, type=kind)
    for command in (asked, grown):
        command.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.what == "one":
        print(json.dumps(one(arguments.bundle, arguments.features, arguments.window, arguments.overlap)))
        return
    if arguments.what == "quality":
        report = quality(arguments.demo, together=arguments.together)
    else:
        lengths = [int(text) for text in arguments.lengths.split(",")]
        report = growth(lengths, window=arguments.window, overlap=arguments.overlap, repeats=arguments.repeats)
    machine = {"processor": platform.processor() or platform.machine(), "load": os.getloadavg()[0]}
    report = {"schema": SCHEMAS[arguments.what], "machine": machine, **report}
    text = json.dumps(report, indent=2) + "\n"
    print(text, end="")
    if arguments.json:
        arguments.json.write_text(text)


if __name__ == "__main__":
    main()
