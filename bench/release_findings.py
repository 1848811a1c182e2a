"""Measure what each quirk of the public STALE code costs: the figures of docs/release-findings.md.

    python bench/release_findings.py [--annotations FOLDER] [--json bench/results/release-findings.json]

Each part can be asked for alone (`--only loader,time`); what it found is put into the JSON beside the others.

annotations  what the data loader keeps of real annotations (needs --annotations, the public layout)
loader       training on what the public data loader keeps, piece by piece
postprocess  the public post-processing on the outputs of one trained network, each quirk repaired by itself
evaluator    the public evaluator's two mistakes, on that network's detections
network      the public network trained as it is, and with one thing repaired at a time
time         text tower, cold call, gradients, anomaly mode, quantization

Features are simulated; with `--annotations` the timelines (durations, segments, classes) are real. Trainings are kept
in `--work`, so that a run that was stopped goes on. mAP in percent, average over tIoU 0.5:0.05:0.95.
"""

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import release_quirks as quirks
import torch
from torch import Tensor

from stale_edge.benchmarking import run_benchmark
from stale_edge.benchmarking.machine import machine_card
from stale_edge.bundle.files import write_file_atomically
from stale_edge.config import BenchConfig, Config, ModelConfig, SimulateConfig, TextConfig, TrainConfig
from stale_edge.data import DataSet, open_data_set, read_scores, resample
from stale_edge.data.folder import ANNOTATIONS_FILE, SCORES_FILE, TEXT_ENCODER_FOLDER
from stale_edge.data.public import find_public_layout, read_public_annotations
from stale_edge.data.splits import read_split
from stale_edge.evaluation import mean_average_precision
from stale_edge.model import StaleOutput
from stale_edge.model.checkpoint import read_checkpoint
from stale_edge.model.layers import l2_normalize
from stale_edge.model.release import LOGIT_SCALE, ReleaseStale, directions
from stale_edge.model.small_text import small_text_encoder
from stale_edge.training import evaluate_checkpoint, train
from stale_edge.training.evaluate import TorchLocalizer
from stale_edge.training.simulated_data import simulate_with_encoder
from stale_edge.training.targets import snippet_span

ROOT = Path(__file__).resolve().parent.parent
SCHEMA = "stale-edge-release-findings/1"
PARTS = ("annotations", "loader", "postprocess", "evaluator", "network", "time")
CHANNELS, N_CLASSES = 128, 40


# --- the simulated task ----------------------------------------------------------------------------------------------


def make_data(folder: Path, *, n_videos: int, seed: int, annotations: Path | None) -> DataSet:
    """Simulate the data set that all parts share, on real timelines of 40 classes where annotations are given."""
    if (folder / ANNOTATIONS_FILE).is_file():
        return open_data_set(folder)
    if folder.exists():
        shutil.rmtree(folder)
    small_text_encoder(folder / TEXT_ENCODER_FOLDER, dim=CHANNELS, seed=seed)
    timelines = None
    if annotations is not None:
        timelines = folder.parent / "timelines.json"
        timelines.write_text(json.dumps(_of_some_classes(annotations, seed=seed)), encoding="utf-8")
    return simulate_with_encoder(
        folder,
        text_encoder=str(folder / TEXT_ENCODER_FOLDER),
        config=SimulateConfig(n_videos=n_videos, n_classes=N_CLASSES, channels=CHANNELS, seed=seed),
        annotations=timelines,
    )


def _of_some_classes(folder: Path, *, seed: int) -> dict[str, Any]:
    """Read the real videos whose actions are all of 40 classes drawn by the seed."""
    layout = find_public_layout(folder)
    if layout is None:
        raise SystemExit(f"{folder}: no anet_anno_action.json")
    annotations = read_public_annotations(layout.annotations, layout.video_info)
    chosen = set(np.random.default_rng(seed).choice(annotations.classes, size=N_CLASSES, replace=False).tolist())
    document = annotations.to_layout()
    document["database"] = {
        video: entry
        for video, entry in document["database"].items()
        if entry["annotations"] and all(action["label"] in chosen for action in entry["annotations"])
    }
    return document


def with_training_annotations(data: DataSet, folder: Path, names: tuple[str, ...]) -> Path:
    """Make a data set whose training videos are annotated as the public loader would have them; features are shared."""
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    for entry in data.root.iterdir():
        if entry.name != ANNOTATIONS_FILE:
            (folder / entry.name).symlink_to(entry.resolve())
    document = data.annotations.to_layout()
    database = {}
    for video, entry in document["database"].items():
        actions = entry["annotations"]
        if entry["subset"] == "training":
            actions = quirks.loaded_annotations(actions, duration_s=entry["duration"], quirks=names)
        if actions:
            database[video] = {**entry, "annotations": actions}
    (folder / ANNOTATIONS_FILE).write_text(json.dumps({**document, "database": database}), encoding="utf-8")
    return folder


def config_for(*, epochs: int, seed: int, architecture: Any = "paper", classes: Path | None = None) -> Config:
    """Choose a network and a training of minutes, alike for all."""
    return Config(
        model=ModelConfig(
            architecture=architecture,
            feature_channels=CHANNELS,
            embed_dim=CHANNELS,
            n_temporal_layers=1,
            feedforward_dim=2 * CHANNELS,
            localizer_dim=64,
            dropout=0.5,
            text=TextConfig(n_contexts=0),
        ),
        train=TrainConfig(
            epochs=epochs,
            learning_rate=1e-3,
            weight_decay=1e-3,
            batch_size=16,
            validate_every=epochs,
            seed=seed,
            device="cpu",
        ),
        classes="" if classes is None else str(classes),
    )


def trained(config: Config, data: Path, run: Path) -> Path:
    """Train, unless an earlier call did; gives the checkpoint of the last epoch."""
    if not (run / "last").is_dir() or not (run / "done").is_file():
        if run.exists():
            shutil.rmtree(run)
        train(config, data, run)
        (run / "done").touch()
    return run / "last"


# --- data loader -----------------------------------------------------------------------------------------------------

LOADERS: dict[str, tuple[str, ...]] = {
    "every annotation": (),
    "last-only": ("last-only",),
    "short": ("short",),
    "last-only and short": ("last-only", "short"),
    "inset": ("inset",),
    "as published": ("last-only", "short", "inset"),
}


def count_annotations(folder: Path) -> dict[str, Any]:
    """Count what the loader keeps of the real annotations, and how the two files' durations disagree."""
    layout = find_public_layout(folder)
    if layout is None:
        raise SystemExit(f"{folder}: no anet_anno_action.json")
    document = json.loads(layout.annotations.read_text())
    subsets = {name: video.subset for name, video in _public(layout).videos.items()}
    found: dict[str, Any] = {}
    for subset in ("training", "validation"):
        database, factors = {}, []
        for name, entry in document.items():
            if subsets[name] == subset and entry["annotations"]:
                factor = entry["feature_frame"] / entry["duration_frame"]
                database[name] = {
                    "duration": factor * entry["duration_second"],
                    "annotations": entry["annotations"],
                }
                factors.append(abs(1 - factor))
        found[subset] = quirks.count_loaded(database)
        found[subset]["videos_of_several_classes"] = sum(
            len({a["label"] for a in entry["annotations"]}) > 1 for entry in database.values()
        )
        found[subset]["mean_difference_of_durations_percent"] = 100 * statistics.fmean(factors)
        found[subset]["largest_difference_of_durations_percent"] = 100 * max(factors)
    found["ceilings"] = measure_ceilings(document, subsets)
    return found


def measure_ceilings(document: dict[str, Any], subsets: dict[str, str]) -> dict[str, float]:
    """Ask how far a network without any error would come on the real validation videos, T = 100."""
    truth: dict[str, Any] = {}
    perfect: dict[str, dict[str, list[dict[str, Any]]]] = {}

    def add(way: str, video: str, label: str, start: float, end: float) -> None:
        if end > start:
            row = {"label": label, "score": 1.0, "segment": [start, end]}
            perfect.setdefault(way, {}).setdefault(video, []).append(row)

    for video, entry in document.items():
        if subsets[video] != "validation" or not entry["annotations"]:
            continue
        whole = entry["duration_second"]
        loaded = whole * entry["feature_frame"] / entry["duration_frame"]
        truth[video] = {"duration": whole, "subset": "validation", "annotations": entry["annotations"]}
        kept = quirks.loaded_annotations(entry["annotations"], duration_s=loaded, quirks=("last-only", "short"))
        for action in entry["annotations"]:
            start, end = (min(max(t / loaded, 0.0), 1.0) for t in action["segment"])
            first, stop = snippet_span(start, end, duration_s=1.0, n_snippets=100) if start < 1 else (100, 100)
            add("snippets of T = 100", video, action["label"], first / 100 * loaded, stop / 100 * loaded)
            if kept:
                add("videos that the loader keeps", video, action["label"], first / 100 * loaded, stop / 100 * loaded)
            # Trained from floor(start) + 1 up to, not with, floor(end) - 1; decoded up to the last snippet's start.
            inset, inset_stop = int(100 * start) + 1, int(100 * end) - 1
            for way, begin, final, seconds in (
                ("trained inset", inset, inset_stop, loaded),
                ("decoded to the last snippet", first, stop - 1, loaded),
                ("both", inset, inset_stop - 1, loaded),
                ("both, and the other duration", inset, inset_stop - 1, whole),
            ):
                add(way, video, action["label"], begin / 100 * seconds, final / 100 * seconds)
    layout = {"database": truth}
    found = {way: mean_average_precision(layout, {"results": results}).average_mAP for way, results in perfect.items()}
    kept_rows = perfect["videos that the loader keeps"]
    forgetful = mean_average_precision(quirks.forgetful_truth(layout, kept_rows), {"results": kept_rows})
    return {**found, "videos that the loader keeps, forgetful": forgetful.average_mAP}


def _public(layout: Any) -> Any:
    return read_public_annotations(layout.annotations, layout.video_info)


def measure_loader(data: DataSet, work: Path, *, epochs: int, seeds: int) -> dict[str, Any]:
    """Train on what each form of the loader keeps; evaluate all on the same complete validation annotations."""
    rows = {}
    for name, active in LOADERS.items():
        folder = with_training_annotations(data, work / "annotations" / name.replace(" ", "-"), active)
        kept = [v for v in open_data_set(folder).annotations.videos.values() if v.subset == "training"]
        values = []
        for seed in range(seeds):
            run = work / "runs" / f"loader-{name.replace(' ', '-')}-{seed}"
            report = evaluate_checkpoint(trained(config_for(epochs=epochs, seed=seed), folder, run), data.root)
            values.append(report.result.average_mAP)
            print(f"loader {name:20} seed {seed}  {values[-1]:.2f}", flush=True)
        rows[name] = {
            "videos": len(kept),
            "actions": sum(len(video.actions) for video in kept),
            **_spread(values),
        }
    return {"rows": rows, "seeds": seeds}


# --- post-processing and evaluator -----------------------------------------------------------------------------------


def network_outputs(data: DataSet, checkpoint: Path, *, subset: str = "validation") -> dict[str, Any]:
    """Run a network on every validation video: class logits, masks, and the row names of the logits."""
    read = read_checkpoint(checkpoint)
    localizer = TorchLocalizer.of(read)
    outputs = {}
    for video in data.videos(subset):
        found = localizer.forward(resample(data.load(video), 100))
        outputs[video] = (found["class_logits"], found["masks"])
    return {"names": list(localizer.class_bank.names), "outputs": outputs}


def detections(data: DataSet, network: dict[str, Any], names: Any, *, enhance: bool = False) -> dict[str, Any]:
    """Decode all videos with some quirks, in ActivityNet's layout."""
    scores = read_scores(data.root / SCORES_FILE) if enhance else {}
    results = {}
    for video, (logits, masks) in network["outputs"].items():
        duration_s = data.annotations.videos[video].duration_s
        rows = []
        for found in quirks.decode(logits, masks, quirks=names):
            label = network["names"][found.label]
            if enhance and found.score <= scores[video].score:
                label = scores[video].label
            segment = [found.start * duration_s, found.end * duration_s]
            rows.append({"label": label, "score": found.score, "segment": segment})
        results[video] = rows
    return {"version": "release-findings", "results": results, "external_data": {}}


def measure_postprocess(data: DataSet, checkpoint: Path) -> dict[str, Any]:
    """Decode one network's outputs with all quirks, with all but one, with one alone, and with none."""
    network, truth = network_outputs(data, checkpoint), data.annotations.to_layout()
    everything = tuple(quirks.DECODE_QUIRKS)

    def score(names: Any, **arguments: Any) -> float:
        return mean_average_precision(truth, detections(data, network, names, **arguments)).average_mAP

    found: dict[str, Any] = {
        "as published": score(everything),
        "no quirk": score(()),
        "repaired alone": {q: score([other for other in everything if other != q]) for q in everything},
        "alone": {q: score([q]) for q in everything},
        "as published, score enhancement": score(everything, enhance=True),
        "no quirk, score enhancement": score((), enhance=True),
        "paper policy of the kit": evaluate_checkpoint(checkpoint, data.root).result.average_mAP,
    }
    several = {
        video: entry
        for video, entry in truth["database"].items()
        if len(entry["annotations"]) > 1 and entry["subset"] == "validation"
    }
    repeated = {**truth, "database": several}
    for key, names in (("hull", everything), ("runs", [q for q in everything if q != "hull"])):
        predictions = detections(data, network, names)
        predictions["results"] = {v: rows for v, rows in predictions["results"].items() if v in several}
        found[f"videos of several actions, {key}"] = mean_average_precision(repeated, predictions).average_mAP
    found["videos of several actions"] = len(several)
    raised = [quirks.Segment(0.0, 0.2, 0.9, 0), quirks.Segment(0.2 * 0.9 / 1.1, 0.2 + 0.2 * 0.9 / 1.1, 0.5, 0)]
    found["decay at tIoU 0.1"] = quirks.soft_nms(raised, quirks=["decay"])[1].score / 0.5
    print(json.dumps(found, indent=1), flush=True)
    return found


def measure_evaluator(data: DataSet, closed: Path, opened: Path) -> dict[str, Any]:
    """Let the evaluator forget videos, and mix up classes that have no ground truth."""
    truth, everything = data.annotations.to_layout(), tuple(quirks.DECODE_QUIRKS)
    network = network_outputs(data, closed)
    kept = {
        video: entry
        for video, entry in truth["database"].items()
        if entry["subset"] == "validation"
        and quirks.loaded_annotations(entry["annotations"], duration_s=entry["duration"], quirks=("last-only", "short"))
    }
    predictions = detections(data, network, everything)
    loaded = {**predictions, "results": {v: rows for v, rows in predictions["results"].items() if v in kept}}
    found: dict[str, Any] = {
        "videos": len(data.videos("validation")),
        "videos_loaded": len(kept),
        "all videos, all ground truth": mean_average_precision(truth, predictions).average_mAP,
        "loaded videos, all ground truth": mean_average_precision(truth, loaded).average_mAP,
        "loaded videos, forgetful": mean_average_precision(quirks.forgetful_truth(truth, kept), loaded).average_mAP,
    }
    unseen = read_split(data.root / "splits" / "test.list")
    report = evaluate_checkpoint(opened, data.root, split=data.root / "splits" / "test.list")
    enhanced = evaluate_checkpoint(
        opened, data.root, split=data.root / "splits" / "test.list", scores=data.root / SCORES_FILE
    )
    found["open set, unseen classes"] = report.result.average_mAP
    found["open set, unseen classes, score enhancement"] = enhanced.result.average_mAP
    # Score enhancement knows all classes, also those that no evaluated video shows: their numbers collide.
    scores = read_scores(data.root / SCORES_FILE)
    shown = [v for v in report.predictions["results"] if v in scores]
    relabelled = {
        video: [
            {**row, "label": scores[video].label if row["score"] <= scores[video].score else row["label"]}
            for row in report.predictions["results"][video]
        ]
        for video in shown
    }
    open_truth = {
        **truth,
        "database": {
            v: e
            for v, e in truth["database"].items()
            if v in relabelled and any(a["label"] in unseen for a in e["annotations"])
        },
    }
    labels = list(dict.fromkeys(a["label"] for e in open_truth["database"].values() for a in e["annotations"]))
    order = np.random.default_rng(0).permutation(sorted(data.class_names)).tolist()
    document = {"results": relabelled}
    found["open set, all labels of the scores"] = mean_average_precision(open_truth, document).average_mAP
    collided = quirks.collided_labels(document, truth_labels=labels, all_labels=order)
    found["open set, all labels of the scores, numbers collide"] = mean_average_precision(
        open_truth, collided
    ).average_mAP
    print(json.dumps(found, indent=1), flush=True)
    return found


# --- the network -----------------------------------------------------------------------------------------------------


class Repaired(ReleaseStale):
    """The public network with one thing put right.

    residual: eq. 6 keeps the text itself (stale_model.py:40, 220 multiply it by 0).
    clamp: whether negative features become 1e-4 before the cosine (stale_model.py:111).
    mask_gate: the mask transformer's foreground decides what is foreground, as in eq. 3 to 5, and not the mean mask.
    """

    def __init__(
        self, config: ModelConfig, *, residual: float = 0.0, clamp: bool = True, mask_gate: bool = False
    ) -> None:
        super().__init__(config)
        self.residual, self.clamp, self.mask_gate = residual, clamp, mask_gate

    def forward(self, features: Tensor, class_embeddings: Tensor) -> StaleOutput:
        """Do as `ReleaseStale.forward`, with what is repaired."""
        embedding, masks, snippets = self._localize(features, class_embeddings)
        foreground = self.masking(features, embedding)
        if self.mask_gate:
            gate = (foreground > 0.5).to(embedding.dtype)
            if self.training:
                gate = gate + (foreground - foreground.detach())
            snippets = embedding * gate.unsqueeze(-1)
        plain = torch.cat([class_embeddings, self.background]).expand(snippets.shape[0], -1, -1)
        text = self._adapt(class_embeddings, snippets) + self.residual * plain
        visual = directions(snippets) if self.clamp else l2_normalize(snippets)
        logits = (l2_normalize(text) * LOGIT_SCALE) @ visual.transpose(1, 2)
        return StaleOutput(logits, masks, foreground, embedding)


NETWORKS: dict[str, dict[str, Any]] = {
    "as published": {},
    "text kept in the residual": {"residual": 1.0},
    "features not clamped": {"clamp": False},
    "gated by the mask transformer": {"mask_gate": True},
}


@contextlib.contextmanager
def building(arguments: dict[str, Any]) -> Iterator[None]:
    """Let training and reading build the repaired network."""

    def build(config: ModelConfig) -> Repaired:
        return Repaired(config, **arguments)

    with (
        mock.patch("stale_edge.training.loop.build_model", build),
        mock.patch("stale_edge.model.checkpoint.build_model", build),
    ):
        yield


def measure_network(data: DataSet, work: Path, *, epochs: int, seeds: int) -> dict[str, Any]:
    """Train the public network on three quarters of the classes, as it is and with one thing repaired."""
    rows = {}
    splits = data.root / "splits"
    for name, arguments in NETWORKS.items():
        seen, unseen = [], []
        for seed in range(seeds):
            config = config_for(epochs=epochs, seed=seed, architecture="release", classes=splits / "train.list")
            with building(arguments):
                checkpoint = trained(config, data.root, work / "runs" / f"network-{name.replace(' ', '-')}-{seed}")
                for values, split in ((seen, "train.list"), (unseen, "test.list")):
                    report = evaluate_checkpoint(checkpoint, data.root, split=splits / split)
                    values.append(report.result.average_mAP)
            print(f"network {name:32} seed {seed}  seen {seen[-1]:.2f}  unseen {unseen[-1]:.2f}", flush=True)
        rows[name] = {"seen": _spread(seen), "unseen": _spread(unseen)}
    return {"rows": rows, "seeds": seeds}


# --- time ------------------------------------------------------------------------------------------------------------

COLD = """
import sys, time
import torch
from stale_edge.benchmarking.network import FULL_SIZE
from stale_edge.benchmarking.reference import build_reference
from stale_edge.benchmarking.workloads import random_features
torch.set_num_threads(1)
forward, _ = build_reference(FULL_SIZE.at(int(sys.argv[1])), seed=0)
features = torch.from_numpy(random_features(int(sys.argv[1]), 512, seed=0))[None]
def call():  # processor time of the one thread: what others do on the machine disturbs it less
    began = time.process_time()
    forward(features)
    return time.process_time() - began
with_gradients = [call() for _ in range(4)]
with torch.inference_mode():
    without = [call() for _ in range(4)]
print(*with_gradients, *without)
"""


def measure_time(data: DataSet, *, length: int, processes: int) -> dict[str, Any]:
    """Measure what the thesis' way of timing adds, on a full-size network with random weights, one thread."""
    variants = BenchConfig(
        lengths=(length,), variants=("reference", "detector", "text"), runtimes=("pytorch",), precisions=("fp32",),
        repeats=3,
    )  # fmt: skip
    rows = run_benchmark(variants)["rows"]
    seconds = {row["variant"]: row["seconds"]["median"] for row in rows}
    found: dict[str, Any] = {
        "length": length,
        "seconds": seconds,
        "share of the text tower": 1 - seconds["detector"] / seconds["reference"],
    }
    calls = []
    for _ in range(processes):
        command = [sys.executable, "-c", COLD, str(length)]
        output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        calls.append([float(word) for word in output.split()[-8:]])
    cold = [call[0] for call in calls]
    warm = [statistics.median(call[1:4]) for call in calls]
    without = [statistics.median(call[5:8]) for call in calls]
    found["cold call with gradients"] = _spread(cold)
    found["warm call with gradients"] = _spread(warm)
    found["warm call without gradients"] = _spread(without)
    found["anomaly mode"] = _anomaly_mode(data)
    found["quantization"] = _quantization(length)
    print(json.dumps(found, indent=1), flush=True)
    return found


def _anomaly_mode(data: DataSet) -> dict[str, float]:
    """Time a training step of the public network, with and without torch's search for NaN (stale_train.py:117)."""
    from stale_edge.config import LossConfig
    from stale_edge.training.losses import total_loss
    from stale_edge.training.step import TrainingModel
    from stale_edge.training.targets import assign_targets, stack_targets

    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = config_for(epochs=1, seed=0, architecture="release").model
    names, videos = data.class_names, data.videos("training")[:16]

    class Classes(torch.nn.Module):
        def forward(self) -> Tensor:
            return torch.ones(len(names), CHANNELS)

    model = TrainingModel(ReleaseStale(config), Classes(), embed_dim=CHANNELS, config=LossConfig()).train()
    features = torch.stack([torch.from_numpy(np.asarray(resample(data.load(video), 100))) for video in videos])
    entries = [data.annotations.videos[video] for video in videos]
    targets = stack_targets(
        [assign_targets(e.actions, vocabulary=names, duration_s=e.duration_s, n_snippets=100) for e in entries]
    )
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)

    def step() -> float:
        began = time.perf_counter()
        total_loss(model(features, targets), LossConfig()).mean().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return time.perf_counter() - began

    step(), step()
    times: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(10):
        for anomaly in (False, True):
            with torch.autograd.set_detect_anomaly(anomaly, check_nan=True):
                times[anomaly].append(step())
    return {"step_s": statistics.median(times[False]), "step_with_anomaly_mode_s": statistics.median(times[True])}


def _quantization(length: int) -> dict[str, Any]:
    """Quantize stand-ins of the public network's layers, of its sizes, as the thesis' code does; count the weights."""
    from torch import nn

    from stale_edge.benchmarking.network import FULL_SIZE, TextTower
    from stale_edge.benchmarking.reference import build_text_tower

    class Wide(nn.Module):  # utils/transformer.py:37-48
        def __init__(self) -> None:
            super().__init__()
            self.w_qs, self.w_ks, self.w_vs = (nn.Linear(512, 4 * 512, bias=False) for _ in range(3))
            self.fc = nn.Linear(4 * 512, 512)

    class Layer(nn.Module):  # MaskFormer's, one or two attentions and a feed-forward network of width 1
        def __init__(self, attentions: int) -> None:
            super().__init__()
            self.attentions = nn.ModuleList(nn.MultiheadAttention(512, 2) for _ in range(attentions))
            self.linear1, self.linear2 = nn.Linear(512, 1), nn.Linear(1, 512)

    text, _ = build_text_tower(TextTower(), FULL_SIZE.n_classes, seed=0)
    network = nn.ModuleDict(
        {
            "embedding": Wide(),
            "cross_att": Wide(),
            "masktrans": nn.ModuleList(
                [
                    nn.Conv2d(512, 512, 1),
                    *(Layer(1) for _ in range(2)),
                    *(Layer(2) for _ in range(2)),
                    *(nn.Linear(512, 512) for _ in range(3)),
                ]
            ),
            "localizer_mask": nn.ModuleList([nn.Conv1d(512, 256, 3), nn.Conv1d(256, length, 1, bias=False)]),
            "text_model": text,
        }
    ).eval()
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        counted = quirks.quantized_weights(network)
    embeddings = sum(layer.weight.numel() for layer in text.modules() if isinstance(layer, nn.Embedding))
    return {"by_layer": counted, "token_embeddings_left_fp32": embeddings}


# --- all of it -------------------------------------------------------------------------------------------------------


def _spread(values: list[float]) -> dict[str, Any]:
    mean = statistics.fmean(values)
    return {"mean": mean, "std": statistics.stdev(values) if len(values) > 1 else None, "values": values}


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
        _put(arguments.json, part, result, settings)


def _put(path: Path, part: str, result: dict[str, Any], settings: dict[str, Any]) -> None:
    """Put a part beside what the file holds of other parts."""
    found = json.loads(path.read_text()) if path.is_file() else {}
    found |= {"schema": SCHEMA, "features": "simulated", "settings": settings, "machine": machine_card(), part: result}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file_atomically(path, (json.dumps(found, indent=1, allow_nan=False) + "\n").encode())


def _require_same(path: Path, settings: dict[str, Any]) -> None:
    if path.is_file() and json.loads(path.read_text()) != settings:
        raise SystemExit(f"{path.parent} was made with other settings; choose another --work or delete it")
    path.write_text(json.dumps(settings))


if __name__ == "__main__":
    main()
