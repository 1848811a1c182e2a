"""What windows and streams cost a network that subtracts the video's mean: average mAP by the mean that is subtracted.

    .venv/bin/python bench/video_mean.py --work DIR --json bench/results/video-mean.json

Detectors of `bench/baselines.py` (with the same DIR its runs are used) on validation videos of at least 120 snippets,
seeds 0 and 1, windows that overlap by half. `window` is the rule: inside a window the network subtracts the mean of the
window. The other two means are taken outside the network, only here: of all snippets up to the window's end (`running`)
and of the whole video. A stream must give the mAP of its windows, which is checked. Nothing is chosen on these figures.
"""

import argparse
import json
import os
import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from worlds import SPLITS, average_maps, open_world

from stale_edge import Detection, StreamingLocalizer
from stale_edge.bundle.files import write_file_atomically
from stale_edge.data import DataSet
from stale_edge.demo.feature_world import training_config
from stale_edge.machine import machine_card
from stale_edge.model.checkpoint import read_checkpoint
from stale_edge.runtime.evaluate import EvaluationSettings
from stale_edge.runtime.windows import WindowCandidates
from stale_edge.training import train
from stale_edge.training.torch_localizer import TorchLocalizer

SCHEMA = "stale-edge-bench-video-mean/1"
DETECTORS = ("light", "linear", "paper")
WINDOWS = (100, 60)
LEAST_SNIPPETS = 120
EQUAL = 1e-9
"""Allowed difference of a stream's mAP from that of its windows, in points."""


class OtherMean(TorchLocalizer):
    """Subtracts another mean than the window's: `running`, or that of the whole `video`."""

    mean = "running"
    video: np.ndarray

    def detect(self, features: Any, **settings: Any) -> list[Detection]:
        self.video = np.asarray(features, np.float32)
        normalize: Any = self._detector
        while not hasattr(normalize, "scale"):
            normalize = normalize.normalize if hasattr(normalize, "normalize") else normalize.temporal
        kept, self.scale = normalize.normalize, float(normalize.scale)
        normalize.normalize = "none"
        try:
            return super().detect(features, **settings)
        finally:
            normalize.normalize = kept

    def candidates(self, features: Any, **settings: Any) -> WindowCandidates:
        window = np.asarray(features, np.float32)
        start = int(np.flatnonzero((self.video == window[0]).all(axis=1))[0])
        known = self.video[: start + len(window)] if self.mean == "running" else self.video
        return super().candidates((window - known.mean(axis=0)) * self.scale, **settings)


class Streamed(TorchLocalizer):
    """Gets its snippets one after the other."""

    def detect(self, features: Any, *, duration_s: float, window: int, class_bank: Any, **_: Any) -> list[Detection]:
        stream = StreamingLocalizer(
            TorchLocalizer(
                self._detector,
                class_bank=class_bank,
                feature_contract=self.feature_contract,
                decode_config=self.decode_config,
            ),
            window=window,
            snippet_s=duration_s / len(features),
        )
        found = [detection for snippet in np.asarray(features) for detection in stream.push(snippet)]
        return [*found, *stream.finish()]


def long_videos(data_set: DataSet) -> DataSet:
    """Keep the validation videos of at least `LEAST_SNIPPETS`."""
    kept = {
        name: data_set.annotations.videos[name]
        for name in data_set.videos("validation")
        if len(data_set.load(name)) >= LEAST_SNIPPETS
    }
    return replace(data_set, annotations=replace(data_set.annotations, videos=kept))


def measure(data_set: DataSet, run: Path) -> dict[str, dict[str, float]]:
    """Give average mAP of seen and unseen classes for the whole video, and by window and mean."""
    checkpoint = read_checkpoint(run / "last")
    rows = {"whole video": average_maps(checkpoint, data_set)}
    for window in WINDOWS:
        settings = EvaluationSettings(window=window)
        kinds: dict[str, type[TorchLocalizer]] = {
            "window": TorchLocalizer,
            "stream": Streamed,
            "running": OtherMean,
            "video": type("VideoMean", (OtherMean,), {"mean": "video"}),
        }
        found = {mean: average_maps(checkpoint, data_set, kind=kind, settings=settings) for mean, kind in kinds.items()}
        for part, streamed in found["stream"].items():
            if abs(streamed - found["window"][part]) > EQUAL:
                raise SystemExit(f"{run.name}: a stream has {streamed} %, its windows {found['window'][part]} %")
        rows |= {f"{window} snippets, {mean}": parts for mean, parts in found.items()}
    return rows


def main() -> None:
    """Measure, write the record and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for data and runs")
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--seeds", default="0,1")
    parser.add_argument("--detectors", default=",".join(DETECTORS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    report: dict[str, Any] = {"schema": SCHEMA, "machine": machine_card(), "rows": {}}
    for architecture in arguments.detectors.split(","):
        for seed in arguments.seeds.split(","):
            world, started = arguments.work / f"seed-{seed}-cuts-0", time.perf_counter()
            data_set, run = open_world(world, seed=int(seed), scale=1.0), world / f"{architecture}-video-mean"
            config = training_config(data_set, seed=int(seed), architecture=architecture)
            train(config, data_set.root, run, resume=run.exists())
            found = measure(long_videos(data_set), run)
            for row, parts in found.items():
                report["rows"].setdefault(f"{architecture}, {row}", {})[seed] = parts
            print(f"{architecture}, seed {seed}: {found} ({time.perf_counter() - started:.0f} s)", flush=True)
            write_file_atomically(arguments.json, json.dumps(report, indent=1).encode())
    for row, seeds in report["rows"].items():
        cells = [f"{statistics.mean(found[part] for found in seeds.values()):.1f}" for part in SPLITS]
        print(f"| {row} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
