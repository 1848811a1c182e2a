"""Measure `stale-edge find`: mAP, names that are found although absent, and seconds by stage.

    .venv/bin/python bench/find.py --work DIR --json bench/results/find.json

Three parts. Simulated features (the demo's world, seeds 0 to 2, which chose nothing; background prompts and names are
read by its random text tower), with and without cuts, whole and in windows. Rendered videos with the demo's tiny CLIP,
which was trained on captioned drawings: all test videos, all names of the demo and names that nobody drew. If
`../shared` exists next to the checkout, three real videos with a CLIP of that size and random weights: seconds mean
something there, and that no name should be found.

A name counts as found in a video if a detection scores at least `FOUND_SCORE`. Names in a video are present, absent (an
action of other videos) or nonsense.
"""

import argparse
import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

from stale_edge.bundle import FeatureContract
from stale_edge.bundle.files import write_file_atomically
from stale_edge.config.training_free import TRAINING_FREE_DECODE, TrainingFreeConfig
from stale_edge.data import open_data_set
from stale_edge.data.annotations import Annotations, read_annotations
from stale_edge.data.folder import ANNOTATIONS_FILE
from stale_edge.demo.feature_world import make_data_set
from stale_edge.demo.video.actions import SEEN, UNSEEN
from stale_edge.demo.video.clip import PREPROCESSING, _build, make_tokenizer, save_clip, train_clip
from stale_edge.demo.video.script import untrimmed_script
from stale_edge.demo.video.video_world import (
    CLOSED_PREFIX,
    FULL_SIZE,
    UNSEEN_PREFIX,
    VIDEOS_FOLDER,
    Kind,
    WorldSize,
    read_captioned,
    render_captioned,
    render_untrimmed,
)
from stale_edge.evaluation import mean_average_precision
from stale_edge.jobs.searching import CACHE_VARIABLE, FOUND_SCORE, FindSettings, find
from stale_edge.machine import machine_card
from stale_edge.model.class_embeddings import class_bank
from stale_edge.model.text import TextEncoder
from stale_edge.model.training_free.network import TrainingFree
from stale_edge.model.training_free.prompts import Prompts
from stale_edge.report.formats import to_layout
from stale_edge.runtime.detect_settings import OutputSettings
from stale_edge.segments import Detection
from stale_edge.training.torch_localizer import TorchLocalizer
from stale_edge.video import ClipPreprocess

SCHEMA = "stale-edge-bench-find/1"
NONSENSE = ("XYZ", "asdf", "qwerty", "zzzzz", "flurble", "blorp grint", "12345", "lorem ipsum", "foo bar", "xkcd")
SHOTS_S = (30.0, 10.0)
"""Mean seconds between cuts of simulated videos."""
WINDOWS = (100, 60)
REAL_VIDEOS = Path(__file__).resolve().parents[2] / "shared/data/real_video"
REAL_NAMES = ("clean and jerk", "preparing salad", "walking")


def by_kind(found: dict[str, list[Detection]], truth: Annotations, names: tuple[str, ...]) -> dict[str, Any]:
    """Count the (video, name) pairs that were found: of present, of absent and of nonsense names, in percent."""
    hits: dict[str, list[bool]] = {"present": [], "absent": [], "nonsense": []}
    for video, detections in found.items():
        shown = {action.label for action in truth.videos[video].actions}
        best = {name: max((d.score for d in detections if d.label == name), default=0.0) for name in names}
        for name, score in best.items():
            kind = "present" if name in shown else "nonsense" if name in NONSENSE else "absent"
            hits[kind].append(score >= FOUND_SCORE)
    return {f"{kind}_found_%": round(100 * float(np.mean(flags)), 1) for kind, flags in hits.items() if flags}


def simulated(work: Path, seed: int) -> dict[str, Any]:
    """Measure features of a simulated world, 0.4 of the demo's videos: without cuts, with cuts, and in windows."""
    rows = {}
    for shot_s in (0.0, *SHOTS_S):
        root = work / (f"world-{seed}" + (f"-cuts-{shot_s:g}" if shot_s else ""))
        if not root.exists():
            make_data_set(root, seed=seed, scale=0.4, shot_s=shot_s)
        rows[f"a cut every {shot_s:g} s" if shot_s else "one scene"] = in_features(root, window=None)
    for window in WINDOWS:
        rows[f"one scene, windows of {window} snippets"] = in_features(work / f"world-{seed}", window=window)
    return rows


def in_features(root: Path, *, window: int | None) -> dict[str, Any]:
    """Find all names of a data set and nonsense in its validation videos."""
    data_set, encoder = open_data_set(root), TextEncoder.load(root / "text_encoder")
    background = torch.from_numpy(class_bank(encoder, Prompts().background).embeddings)
    names = (*data_set.class_names, *NONSENSE)
    bank = class_bank(encoder, names)
    detector = TrainingFree(
        TrainingFreeConfig(feature_channels=bank.width, embed_dim=bank.width, n_background=len(background))
    )
    detector.set_background(background)
    localizer = TorchLocalizer(
        detector,
        class_bank=bank,
        feature_contract=FeatureContract.from_spec(
            data_set.feature_spec, length=None, resampling="none", resample_to=None, normalize="none"
        ),
        decode_config=replace(TRAINING_FREE_DECODE, max_detections=1000),
    )
    found = {
        video: localizer.detect(
            data_set.load(video), duration_s=data_set.annotations.videos[video].duration_s, window=window
        )
        for video in data_set.videos("validation")
    }
    result = mean_average_precision(data_set.annotations.to_layout(), to_layout(found), subset="validation")
    return {"average_mAP_%": round(result.average_mAP, 1), **by_kind(found, data_set.annotations, names)}


def rendered(work: Path, scale: float) -> dict[str, Any]:
    """Render the demo's videos, train its tiny CLIP, and find every name in every test video."""
    clip, data, size = work / "clip", work / "data", FULL_SIZE.scaled(scale)
    if not (clip / "config.json").is_file():
        render_captioned(work / "captioned", n_videos=size.captioned, seed=0)
        frames = read_captioned(work / "captioned", ClipPreprocess.from_transformers(PREPROCESSING))
        train_clip(frames, clip, epochs=6, seed=0)
    if not (data / ANNOTATIONS_FILE).is_file():
        render_untrimmed(data, size=size._replace(training=2), seed=0)
    truth = read_annotations(data / ANNOTATIONS_FILE)
    names = (*(actor.name for actor in (*SEEN, *UNSEEN)), *NONSENSE)
    videos = [data / VIDEOS_FOLDER / f"{name}.mp4" for name, v in truth.videos.items() if v.subset == "validation"]
    rows: dict[str, Any] = {"clip": str(size.captioned) + " captioned videos", "videos": len(videos)}
    for steps in (0, 1, 3):
        settings = FindSettings(str(clip), rate=2.0, adapt_steps=steps, min_score=TRAINING_FREE_DECODE.min_score)
        run = find(videos, names, settings=settings, output=OutputSettings("json"))
        found = {video: one.detections for video, one in run.found.items()}
        result = mean_average_precision(truth.to_layout(), to_layout(found), subset="validation")
        rows[f"adapt {steps}"] = {
            "average_mAP_%": round(result.average_mAP, 1),
            "mAP_50_%": round(result.mAP[0], 1),
            **by_kind(found, truth, names),
            "seconds": run.to_json()["seconds"],
        }
        if steps == 0:
            rows["by number of cuts"] = by_cuts(found, truth, size)
    return rows


def by_cuts(found: dict[str, list[Detection]], truth: Annotations, size: WorldSize) -> dict[str, Any]:
    """Measure videos with few and with many cuts apart; half of the videos have at most the median."""
    cuts = {}
    for kind, prefix, actions, n_videos in (
        (Kind.CLOSED, CLOSED_PREFIX, SEEN, size.closed),
        (Kind.OPEN, UNSEEN_PREFIX, UNSEEN, size.open),
    ):
        for number in range(n_videos):
            cuts[f"{prefix}_{number:03d}"] = len(untrimmed_script(actions, (0, kind, number)).cuts) - 1
    median, rows = float(np.median(list(cuts.values()))), {}
    for name, chosen in (
        ("few", {v for v in cuts if cuts[v] <= median}),
        ("many", {v for v in cuts if cuts[v] > median}),
    ):
        part = Annotations({video: truth.videos[video] for video in chosen})
        kept = {video: found[video] for video in chosen}
        result = mean_average_precision(part.to_layout(), to_layout(kept), subset="validation")
        numbers = [cuts[video] for video in chosen]
        rows[name] = {
            "videos": len(chosen),
            "cuts": [min(numbers), max(numbers)],
            "average_mAP_%": round(result.average_mAP, 1),
        }
    return rows


def real(clip: Path) -> dict[str, Any]:
    """Search three real videos with a tiny CLIP of random weights."""
    if not clip.exists():
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            tokenizer = make_tokenizer()
            save_clip(_build(tokenizer).eval(), tokenizer, clip)
    rows: dict[str, Any] = {"clip": "random weights"}
    for video in sorted(REAL_VIDEOS.glob("*.mp4")):
        started = time.perf_counter()
        run = find([video], (*REAL_NAMES, *NONSENSE), settings=FindSettings(str(clip)))
        values = run.to_json()
        rows[video.stem] = {
            "duration_s": run.found[video.stem].span_s,
            "found": sorted({d.label for d in run.found[video.stem].detections}),
            "seconds": values["seconds"],
            "wall_s": round(time.perf_counter() - started, 2),
        }
    return rows


def main() -> None:
    """Measure all parts and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for data; parts that are there are kept")
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--scale", type=float, default=0.3, help="share of the demo's videos, in (0, 1]")
    parser.add_argument("--parts", default="rendered,real,simulated", help="parts to measure; the others are kept")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.work.mkdir(parents=True, exist_ok=True)
    os.environ[CACHE_VARIABLE] = str(arguments.work / "cache")
    report: dict[str, Any] = json.loads(arguments.json.read_text()) if arguments.json.is_file() else {}
    report |= {"schema": SCHEMA, "machine": machine_card(), "found_score": FOUND_SCORE}
    for part in arguments.parts.split(","):
        if part == "rendered":
            report[part] = rendered(arguments.work, arguments.scale)
        elif part == "real":
            report[part] = real(arguments.work / "random-clip")
        else:
            report[part] = {seed: simulated(arguments.work, int(seed)) for seed in arguments.seeds.split(",")}
        print(json.dumps(report[part], indent=1), flush=True)
        write_file_atomically(arguments.json, json.dumps(report, indent=1).encode())


if __name__ == "__main__":
    main()
