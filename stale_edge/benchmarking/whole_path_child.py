"""One trial of the whole path: a fresh process opens encoder and detector and finds the actions in a video.

`python -m stale_edge.benchmarking.whole_path_child` reads one `Trial` as JSON, and writes one JSON object.
"""

import json
import os
import sys
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from stale_edge.benchmarking.cpus import pin_all_threads
from stale_edge.config import Preprocessing, from_dict
from stale_edge.errors import StaleEdgeError

PROBED_BATCHES = (1, 8)
"""Numbers of pictures that are tried where the batch is to be measured."""
_PROBES = 2


@dataclass(frozen=True)
class Trial:
    """One way from a video to its detections.

    batch: pictures encoded together; 0: the faster of `PROBED_BATCHES`, measured before the video is read.
    started: seconds since the epoch at which the process was started.
    features: file to write the features to; empty: none.
    """

    video: str
    encoder: str
    bundle: str
    fps: float
    stride: int
    runtime: str
    precision: str
    threads: int
    batch: int
    preprocessing: Preprocessing = "exact"
    skip_similar: float | None = None
    cpus: tuple[int, ...] = ()
    started: float = 0.0
    features: str = ""


def run_trial(trial: Trial) -> dict[str, Any]:
    """Open everything, then read, encode and detect; seconds by stage.

    Raises:
        StaleEdgeError: the encoder cannot be run so, or the video cannot be read.
    """
    from stale_edge.runtime import load_bundle, load_encoder
    from stale_edge.video import FrameSettings, extract_features

    encoder = load_encoder(trial.encoder, precision=trial.precision, runtime=trial.runtime, at_once=trial.threads)
    localizer = load_bundle(trial.bundle, threads=trial.threads)
    ready = time.time()
    batch, probed = (trial.batch, {}) if trial.batch else _fastest_batch(encoder, trial)
    settings = FrameSettings(batch, trial.threads, trial.preprocessing, trial.skip_similar)
    begun, worked = time.perf_counter(), time.process_time()
    read = extract_features(trial.video, encoder, fps=trial.fps, stride=trial.stride, settings=settings)
    found = localizer.measure(read.features, duration_s=read.span_s)
    whole, worked = time.perf_counter() - begun, time.process_time() - worked
    if trial.features:
        np.save(trial.features, read.features)
    return {
        "seconds": {
            "decode": read.timings.decode_s,
            "preprocess": read.timings.preprocess_s,
            "encoder": read.timings.encoder_s,
            "detector": found.timings.detector_s,
            "postprocess": found.timings.postprocess_s,
            "whole": whole,
        },
        "cpu_seconds": worked,
        "start_up_seconds": ready - trial.started,
        "batch": batch,
        "seconds_per_picture_by_batch": probed,
        "frames_sampled": len(read.features),
        "frames_encoded": read.timings.n_encoded,
        "video_s": read.duration_s,
        "detections": [[d.label, d.score, d.start_s, d.end_s] for d in found.detections],
    }


def _fastest_batch(encoder: Any, trial: Trial) -> tuple[int, dict[str, float]]:
    """Time prepared noise in batches of several sizes; returns the fastest size, and seconds a picture by size."""
    if trial.runtime == "openvino":  # encodes one by one
        return 1, {}
    height, width = encoder.manifest.image_size
    seconds: dict[int, float] = {}
    for size in PROBED_BATCHES:
        pixels = np.random.default_rng(0).standard_normal((size, 3, height, width), dtype=np.float32)
        encoder.embed(pixels)
        laps = []
        for _ in range(_PROBES):
            start = time.perf_counter()
            encoder.embed(pixels)
            laps.append((time.perf_counter() - start) / size)
        seconds[size] = min(laps)
    return min(seconds, key=lambda size: seconds[size]), {str(size): lap for size, lap in seconds.items()}


def main() -> None:
    """Write the answer to the original standard output; libraries' prints go to standard error."""
    with os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8") as answers:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        trial = from_dict(Trial, json.loads(sys.stdin.readline()))
        if trial.cpus:
            pin_all_threads(trial.cpus)
        try:
            answer = run_trial(trial)
        except StaleEdgeError as error:
            answer = {"error": str(error)}
        answers.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main()
