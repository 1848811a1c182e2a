"""`stale-edge bench --video`: seconds of every stage from a video file to its detections, by engine and precision."""

import contextlib
import dataclasses
import importlib.util
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from stale_edge.benchmarking.cpus import BUSY_LOAD, choose_cpus, load_average
from stale_edge.benchmarking.decisions import MIN_MATCHED
from stale_edge.benchmarking.extras import NEEDS_TORCH, has_torch
from stale_edge.benchmarking.whole_path_child import PROBED_BATCHES, Trial
from stale_edge.bundle import read_bundle
from stale_edge.bundle.encoder_folder import ENCODER_FOLDER, find_encoder
from stale_edge.config import ExtractConfig, Preprocessing, to_dict
from stale_edge.config.runtimes import PRECISIONS, RUNTIMES
from stale_edge.errors import ConfigError, MissingExtraError, StaleEdgeError
from stale_edge.evaluation.agreement import count_matched
from stale_edge.machine import allowed_cpus, machine_card
from stale_edge.progress import Progress, silent
from stale_edge.runtime.encoder_engines import RUNTIMES as ENCODER_RUNTIMES
from stale_edge.runtime.encoder_engines import has_bf16
from stale_edge.runtime.encoder_recommendation import EncoderChoice, choose_encoder, write_encoder_recommendation
from stale_edge.segments import CONFIDENT, Detection

SCHEMA = "stale-edge-bench-video/1"
STAGES = ("decode", "preprocess", "encoder", "detector", "postprocess", "whole")
DEFAULT = ("onnxruntime", "fp32")
"""Runtime and precision of the encoder that `detect` uses unless told otherwise, with exact pictures in batches of
`ExtractConfig.batch`."""
NOTES = {
    "order": "rows take turns: every round runs each way once, in an order drawn anew",
    "isolation": "every trial is a fresh process, pinned to its CPUs; it opens everything, then reads the whole file",
    "whole": "from the file to its detections, without start-up; stages are the main thread's time, so with several "
    "threads the encoder's seconds are those spent waiting for it",
    "cpu_seconds": "of all threads during `whole`; still means something where other programs are at work",
    "start_up_seconds": "from the start of the process until encoder and detector are open; the files' bytes are in "
    "the system's cache",
    "batch": f"of the default row {ExtractConfig.batch}; elsewhere the faster of "
    f"{', '.join(map(str, PROBED_BATCHES))} in ONNX Runtime, measured before; OpenVINO encodes one by one",
    "found_again": "share of the default row's detections with the same label and tIoU >= 0.95; those below "
    f"{CONFIDENT:g} of the best score are left out",
}


@dataclass(frozen=True)
class WholePath:
    """What is measured.

    encoder: an encoder folder, or a bundle that holds one.
    bundle: the detector; None: a full-size network of the paper's architecture with random weights, whose detections
        mean nothing and are not compared.
    threads: numbers of threads, each >= 1.
    runtimes, precisions: of the encoder; empty: all that its files and this machine allow.
    preprocessing, skip_similar: measure every way with these shortcuts too, besides the exact one.
    """

    video: Path
    encoder: Path
    bundle: Path | None = None
    threads: tuple[int, ...] = (1,)
    runtimes: tuple[str, ...] = ()
    precisions: tuple[str, ...] = ()
    preprocessing: Preprocessing = "exact"
    skip_similar: float | None = None
    repeats: int = 3

    @property
    def has_shortcuts(self) -> bool:
        """Whether ways with shortcuts are measured besides the exact ones."""
        return self.preprocessing != "exact" or self.skip_similar is not None


@dataclass
class Way:
    """One way to run the path, and its trials so far."""

    trial: Trial
    is_default: bool
    answers: list[dict[str, Any]] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Describe the way in a few words."""
        one = self.trial
        said = [one.runtime, one.precision, f"{one.threads} thread{'s' if one.threads > 1 else ''}"]
        said += [] if one.preprocessing == "exact" else [one.preprocessing]
        said += [] if one.skip_similar is None else [f"skip {one.skip_similar:g}"]
        return " ".join([*said, "as detect does unasked"] if self.is_default else said)

    def median(self, key: str, stage: str = "") -> float:
        """Median over trials of a number, or of a stage's seconds."""
        return float(statistics.median(answer[key][stage] if stage else answer[key] for answer in self.answers))


def run_whole_path(path: WholePath, *, recommend: bool = False, progress: Progress = silent) -> dict[str, Any]:
    """Measure every way, in turns.

    Args:
        recommend: also write the fastest ways that keep the detections where `--encoder-runtime auto` finds them.
        progress: called with (stage, done, total, note).

    Returns:
        JSON values: `schema`, `machine`, `video`, `encoder`, `protocol`, `rows`, and with `recommend` `recommendation`.

    Raises:
        ConfigError: more threads than CPUs, or no such runtime or precision.
        StaleEdgeError: a file cannot be read, or torch is missing and no bundle is given.
    """
    if max(path.threads) > len(allowed_cpus()):
        raise ConfigError(f"--threads {max(path.threads)}: this process may use {len(allowed_cpus())} CPUs")
    machine = machine_card() | {"load_average_before": load_average()}
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        bundle = path.bundle or _made_detector(path, scratch, progress)
        ways = list(_ways(path, bundle))
        order = random.Random(0)
        for turn in range(path.repeats):
            order.shuffle(ways)
            for done, way in enumerate(ways):
                progress(f"round {turn + 1} of {path.repeats}", done, len(ways), way.name)
                file = scratch / f"{id(way)}.npy"
                way.answers.append(_measured(dataclasses.replace(way.trial, features=str(file))))
        ways.sort(key=lambda way: (way.trial.threads, not way.is_default, way.median("seconds", "whole")))
        compared = {way.name: _compared(way, ways, scratch, with_detections=path.bundle is not None) for way in ways}
    manifest = find_encoder(path.encoder).manifest
    answer = ways[0].answers[0]
    results: dict[str, Any] = {
        "schema": SCHEMA,
        "machine": machine | {"load_average_after": load_average()},
        "video": {"file": path.video.name, "seconds": answer["video_s"], "frames": answer["frames_sampled"]}
        | _video_facts(path.video),
        "encoder": {"name": manifest.name, "image_size": list(manifest.image_size), "embed_dim": manifest.embed_dim},
        "detector": str(path.bundle) if path.bundle else "paper, full size, random weights: detections not compared",
        "protocol": {"rounds": path.repeats, "notes": NOTES | _load_note(machine)},
    }
    chosen: dict[int, str] = {}
    if recommend:
        results["recommendation"], chosen = _recommend(path, ways, compared, int(answer["frames_sampled"]))
    results["rows"] = [row for way in ways for row in _rows(way, compared[way.name], way.name in chosen.values())]
    return results


def _ways(path: WholePath, bundle: Path) -> Iterator[Way]:
    """List the ways: for each number of threads the default first."""
    for given, known in ((path.runtimes, ENCODER_RUNTIMES), (path.precisions, tuple(PRECISIONS))):
        unknown = [name for name in given if name not in known]
        if unknown:
            raise ConfigError(f"the encoder runs with {', '.join(known)}; got {', '.join(unknown)}")
    manifest = find_encoder(path.encoder).manifest
    files = {entry.precision for entry in manifest.files}
    fps, stride = _sampling(path)
    pairs = [
        (runtime, precision)
        for runtime in path.runtimes or _installed()
        for precision in path.precisions or RUNTIMES[runtime].precisions
        if precision in RUNTIMES[runtime].precisions and PRECISIONS[precision].file in files
        if precision != "fp16" and (runtime, precision) not in _impossible()
    ]
    shortcuts: list[dict[str, Any]] = [{}]
    if path.has_shortcuts:
        shortcuts.append({"preprocessing": path.preprocessing, "skip_similar": path.skip_similar})
    for threads in path.threads:
        base = Trial(
            str(path.video), str(path.encoder), str(bundle), fps, stride, *DEFAULT, threads, ExtractConfig.batch,
            cpus=tuple(choose_cpus(threads) or ()),
        )  # fmt: skip
        yield Way(base, is_default=True)
        for runtime, precision in pairs:
            for extra in shortcuts:
                trial = dataclasses.replace(base, runtime=runtime, precision=precision, batch=0, **extra)
                yield Way(trial, is_default=False)


def _installed() -> tuple[str, ...]:
    return tuple(name for name in ENCODER_RUNTIMES if importlib.util.find_spec(name) is not None)


def _impossible() -> tuple[tuple[str, str], ...]:
    """List the pairs that would be emulated here."""
    if "openvino" not in _installed() or has_bf16():
        return ()
    return ("openvino", "bf16"), ("openvino", "int8-bf16")


def _sampling(path: WholePath) -> tuple[float, int]:
    contract = None if path.bundle is None else read_bundle(path.bundle).manifest.feature_contract
    if contract is None or contract.fps is None or contract.stride is None:
        return ExtractConfig.fps, ExtractConfig.stride
    return contract.fps, contract.stride


def _made_detector(path: WholePath, scratch: Path, progress: Progress) -> Path:
    if not has_torch():
        raise MissingExtraError(NEEDS_TORCH)
    from stale_edge.benchmarking.network_sizes import Network
    from stale_edge.benchmarking.torch_rows.made_bundles import make_bundle
    from stale_edge.config import ModelConfig

    channels = find_encoder(path.encoder).manifest.embed_dim
    network = Network(ModelConfig(architecture="paper", feature_channels=channels), 200)
    make_bundle(scratch / "detector", network, [DEFAULT], seed=0, progress=progress)
    return scratch / "detector"


def _measured(trial: Trial) -> dict[str, Any]:
    """Run one trial in a process of its own.

    Raises:
        StaleEdgeError: it refused or died.
    """
    environment = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(trial.threads))
    trial = dataclasses.replace(trial, started=time.time())
    done = subprocess.run(
        [sys.executable, "-m", "stale_edge.benchmarking.whole_path_child"],
        input=json.dumps(to_dict(trial)) + "\n",
        capture_output=True,
        text=True,
        encoding="utf-8",
        env=environment,
        check=False,
    )
    if done.returncode != 0 or not done.stdout:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise StaleEdgeError(
            f"the process that measured {trial.runtime} {trial.precision} ended with status {done.returncode}: {last}"
        )
    answer: dict[str, Any] = json.loads(done.stdout)
    if "error" in answer:
        raise StaleEdgeError(f"{trial.runtime} {trial.precision} cannot be measured: {answer['error']}")
    return answer


def _compared(way: Way, ways: Sequence[Way], scratch: Path, *, with_detections: bool) -> dict[str, Any]:
    """Compare features and detections with the default's of the same number of threads."""
    default = next(one for one in ways if one.is_default and one.trial.threads == way.trial.threads)
    ours, theirs = (np.load(scratch / f"{id(one)}.npy").astype(np.float64) for one in (way, default))
    cosine = (ours * theirs).sum(1) / np.maximum(np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1), 1e-30)
    said: dict[str, Any] = {"min_cosine": float(cosine.min()), "mean_cosine": float(cosine.mean())}
    if with_detections:
        found, wanted = ([Detection(*one) for one in w.answers[0]["detections"]] for w in (way, default))
        matched = count_matched(wanted, found, confident=CONFIDENT)
        said |= {
            "n_detections": matched.total,
            "found_again": matched.matched / matched.total if matched.total else 1.0,
        }
    return said


def _rows(way: Way, compared: dict[str, Any], recommended: bool) -> Iterator[dict[str, Any]]:
    video_s = way.answers[0]["video_s"]
    for stage in STAGES:
        seconds = [answer["seconds"][stage] for answer in way.answers]
        median = statistics.median(seconds)
        row: dict[str, Any] = {
            "stage": stage,
            "encoder_runtime": way.trial.runtime,
            "encoder_precision": way.trial.precision,
            "threads": way.trial.threads,
            "preprocessing": way.trial.preprocessing,
            "skip_similar": way.trial.skip_similar,
            "batch": way.answers[0]["batch"],
            "seconds": {"median": median, "min": min(seconds), "max": max(seconds)},
            "times_real_time": video_s / median if median > 0 else None,
            "frames_sampled": way.answers[0]["frames_sampled"],
            "frames_encoded": way.answers[0]["frames_encoded"],
        }
        if stage == "whole":
            row |= {
                "cpu_seconds": way.median("cpu_seconds"),
                "start_up_seconds": way.median("start_up_seconds"),
                "default": way.is_default,
                "recommended": recommended,
                **compared,
            }
        yield row


def _recommend(
    path: WholePath, ways: Sequence[Way], compared: dict[str, dict[str, Any]], n_pictures: int
) -> tuple[dict[str, Any], dict[int, str]]:
    """Keep the exact ways with the default's detections, and write them; the fastest for this video is marked."""
    said: dict[str, Any] = {
        "rule": f"at least {MIN_MATCHED:.0%} of the default's detections found again; then the least start-up and "
        "whole together, for the video's number of pictures"
        if path.bundle is not None
        else "every encoder file passed its parity check at export; no bundle was given to compare detections with",
        "by_threads": {},
    }
    chosen = {}
    for threads in path.threads:
        kept = [
            way
            for way in ways
            if way.trial.threads == threads
            and (way.trial.preprocessing, way.trial.skip_similar) == ("exact", None)
            and compared[way.name].get("found_again", 1.0) >= MIN_MATCHED
        ]
        choices = {
            way.name: EncoderChoice(
                way.trial.runtime,
                way.trial.precision,
                int(way.answers[0]["batch"]),
                way.median("start_up_seconds"),
                way.median("seconds", "whole") / n_pictures,
            )
            for way in kept
        }
        best = choose_encoder(list(choices.values()), n_pictures)
        chosen[threads] = next(name for name, choice in choices.items() if choice is best)
        file = write_encoder_recommendation(path.encoder, list(choices.values()), threads=threads)
        said["by_threads"][str(threads)] = {"file": str(file), "chosen": vars(best)}
    return said, chosen


def _video_facts(video: Path) -> dict[str, Any]:
    from stale_edge.video import open_video

    with open_video(video) as source:
        height, width = next(iter(source)).shape
        return {"width": width, "height": height, "fps": source.fps}


def _load_note(machine: dict[str, Any]) -> dict[str, str]:
    load = machine["load_average_before"]
    if load is None or load[0] <= BUSY_LOAD:
        return {}
    return {"load": f"other programs were at work (load {load[0]:.2f}): ratios hold better than seconds"}


def own_encoder(bundle: Path | None) -> Path | None:
    """Return the bundle if it holds an encoder."""
    return bundle if bundle is not None and (bundle / ENCODER_FOLDER).is_dir() else None
