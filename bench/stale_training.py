"""What the training of STALE lacks against the linear probe: one variant a row, average mAP of seen and unseen classes.

    .venv/bin/python bench/stale_training.py --work DIR --json bench/results/stale-training.json

Every row changes one thing of the demo's settings, most of them to what the probe has. Worlds are of seeds 10 and 11,
which no other result reports, with half of the demo's videos, so a row is a hint for settings and no result of STALE.
Each row is kept in DIR/rows: a stopped run continues, and runs of different seeds can share DIR.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
import torch.nn.functional as F
from torch import Tensor
from worlds import SPLITS, average_maps, open_world

from stale_edge.bundle.files import write_file_atomically
from stale_edge.config import Config, DecodeConfig
from stale_edge.data import DataSet
from stale_edge.demo.feature_world import training_config
from stale_edge.machine import machine_card
from stale_edge.model.architectures import ARCHITECTURES, LINEAR_DECODE
from stale_edge.model.checkpoint import read_checkpoint
from stale_edge.model.layers import l2_normalize
from stale_edge.model.stale.objective import StaleObjective
from stale_edge.model.stale.output import StaleLogits
from stale_edge.model.stale.paper import PaperStale
from stale_edge.model.targets import IGNORED, BatchTargets
from stale_edge.training import train

SCHEMA = "stale-edge-bench-stale-training/1"
SCALE = 0.5


class FixedTemperature(PaperStale):
    """The classifier's temperature is the probe's and is not learned."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.classifier.log_temperature.requires_grad_(False)


class CentredText(PaperStale):
    """Class embeddings are compared without the mean of the training vocabulary, as in the probe."""

    text_center: Tensor

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.register_buffer("text_center", torch.zeros(config.embed_dim))

    def _classify(self, embedding: Tensor, class_embeddings: Tensor, foreground: Tensor) -> Tensor:
        text = l2_normalize(class_embeddings)
        if self.training:
            self.text_center.copy_(text.detach().mean(dim=0))
        return super()._classify(embedding, text - self.text_center, foreground)


class VideoClass(PaperStale):
    """The class comes from the whole video, as in the probe; when something happens comes from each snippet."""

    def _classify(self, embedding: Tensor, class_embeddings: Tensor, foreground: Tensor) -> Tensor:
        logits = super()._classify(embedding, class_embeddings, foreground)  # (B, K + 1, T)
        actions, background = logits[:, :-1], logits[:, -1:]
        weights = (1 - logits.softmax(dim=1)[:, -1:]).square()  # (B, 1, T)
        video = (actions * weights).sum(dim=2, keepdim=True) / weights.sum(dim=2, keepdim=True)
        shares = video.log_softmax(dim=1) + torch.logsumexp(actions, dim=1, keepdim=True)
        return torch.cat([shares, background], dim=1)


class BalancedClasses(StaleObjective):
    """Eq. 9 averages the snippets of actions and those of the background apart, and adds both."""

    def losses(self, outputs: StaleLogits, targets: BatchTargets) -> dict[str, Tensor]:
        labels, background = targets.labels, outputs.class_logits.shape[1] - 1
        entropy = F.cross_entropy(outputs.class_logits.float(), labels, ignore_index=IGNORED, reduction="none")
        terms = super().losses(outputs, targets)
        terms["classification"] = torch.zeros_like(terms["classification"])
        for part in ((labels != background) & (labels != IGNORED), labels == background):
            terms["classification"] = terms["classification"] + (entropy * part).sum(dim=1) / part.sum(dim=1).clamp(1)
        return terms


@dataclass(frozen=True)
class Variant:
    """One row: what is changed, by settings or by a part of the network.

    trained_as: name of the row whose weights are used; empty: it is trained.
    """

    change: Callable[[Config], Config] = lambda config: config
    network: type[PaperStale] = PaperStale
    objective: type[StaleObjective] = StaleObjective
    architecture: str = "paper"
    trained_as: str = ""


def _model(**settings: Any) -> Callable[[Config], Config]:
    return lambda config: replace(config, model=replace(config.model, **settings))


def _train(**settings: Any) -> Callable[[Config], Config]:
    return lambda config: replace(config, train=replace(config.train, **settings))


def _decode(decode: Any) -> Callable[[Config], Config]:
    return lambda config: replace(config, decode=decode)


AS_LIGHT = {"optimizer": "adamw", "schedule": "cosine", "warmup_epochs": 1, "weight_decay": 0.05}
VARIANTS = {
    "STALE": Variant(),
    "mask thresholds 0.1 to 0.9": Variant(
        _decode(DecodeConfig(mask_thresholds=tuple(n / 10 for n in range(1, 10)))), trained_as="STALE"
    ),
    "class threshold 0.01": Variant(_decode(DecodeConfig(class_threshold=0.01)), trained_as="STALE"),
    "class threshold 0.2": Variant(_decode(DecodeConfig(class_threshold=0.2)), trained_as="STALE"),
    "decoded as the probe, without masks": Variant(_decode(LINEAR_DECODE), trained_as="STALE"),
    "class balance": Variant(objective=BalancedClasses),
    "temperature 0.1, not learned": Variant(_model(temperature_init=0.1), FixedTemperature),
    "class embeddings without their mean": Variant(network=CentredText),
    "class of the whole video": Variant(network=VideoClass),
    "no gate": Variant(_model(masking="none")),
    "no temporal layers": Variant(_model(temporal="none")),
    "no dropout of features": Variant(_model(feature_dropout=0.0)),
    "linear probe": Variant(architecture="linear"),
    "linear probe, class of each snippet": Variant(_model(video_weight=0.0), architecture="linear"),
    "linear probe, runs scored by their maximum": Variant(
        _decode(replace(LINEAR_DECODE, run_score="maximum")), architecture="linear", trained_as="linear probe"
    ),
    "warm-up and cosine, AdamW": Variant(_train(**AS_LIGHT)),
    "half of the steps": Variant(_train(epochs=8)),
}


def measure(variant: Variant, name: str, data_set: DataSet, *, seed: int, runs: Path) -> dict[str, float]:
    """Train if needed, and give average mAP of seen and unseen classes."""
    config = variant.change(training_config(data_set, seed=seed, architecture=variant.architecture))
    row = ARCHITECTURES["paper"]
    changed = replace(row, build=variant.network, objective=variant.objective)
    with patch.dict(ARCHITECTURES, {"paper": changed}):
        run = runs / (variant.trained_as or name).replace(" ", "-").replace(",", "")
        if not variant.trained_as:
            train(config, data_set.root, run, resume=run.exists())
        checkpoint = read_checkpoint(run / "last")
    return average_maps(replace(checkpoint, config=config), data_set)


def main() -> None:
    """Measure the missing rows, write the record and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for data, runs and finished rows")
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--seeds", default="10,11")
    parser.add_argument("--finished", action="store_true", help="measure nothing; write the record of finished rows")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    seeds = arguments.seeds.split(",")
    (arguments.work / "rows").mkdir(parents=True, exist_ok=True)
    for name, variant in VARIANTS.items():
        for seed in seeds:
            kept = kept_row(arguments.work, name, seed)
            if kept.is_file() or arguments.finished:
                continue
            world = arguments.work / f"seed-{seed}"
            data_set, started = open_world(world, seed=int(seed), scale=SCALE), time.perf_counter()
            found = measure(variant, name, data_set, seed=int(seed), runs=world / "runs")
            found["seconds"] = round(time.perf_counter() - started, 1)
            write_file_atomically(kept, json.dumps(found).encode())
            print(f"{name}, seed {seed}: {found}", flush=True)
    rows: dict[str, dict[str, Any]] = {}
    for name in VARIANTS:
        kept_rows = {seed: kept_row(arguments.work, name, seed) for seed in seeds}
        rows[name] = {seed: json.loads(kept.read_text()) for seed, kept in kept_rows.items() if kept.is_file()}
    report = {"schema": SCHEMA, "scale": SCALE, "machine": machine_card(), "rows": rows}
    write_file_atomically(arguments.json, json.dumps(report, indent=1).encode())
    for name, found in rows.items():
        if found:
            cells = [f"{statistics.mean(one[part] for one in found.values()):.1f}" for part in SPLITS]
            print(f"| {name} | {' | '.join(cells)} | {', '.join(found)} |")


def kept_row(work: Path, name: str, seed: str) -> Path:
    """Name the file of a finished row."""
    return work / "rows" / f"{seed} {name}.json"


if __name__ == "__main__":
    main()
