"""Weak supervision by two branches: what the rounds add to plain multiple-instance learning (arXiv:2212.09335)."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stale_edge.config import Config, RelativeGrid, RunsConfig, to_dict, with_overrides
from stale_edge.data import DataSet, open_data_set
from stale_edge.data.feature_files import resample
from stale_edge.data.folder import features_folder
from stale_edge.decoding import decode_outputs, decoder_of
from stale_edge.evaluation import mean_average_precision
from stale_edge.model.architectures import ARCHITECTURES
from stale_edge.model.checkpoint import read_checkpoint
from stale_edge.model.weak.settings import AlternatingConfig
from stale_edge.progress import Progress
from stale_edge.report.curves import Line, Panel
from stale_edge.report.formats import to_layout
from stale_edge.segments import FloatArray
from stale_edge.study.study import Column, FinishedRun, Plot, Run, StudyOptions, Summary, Table, spread
from stale_edge.study.study_data import describe_features
from stale_edge.study.trials import validation_subset
from stale_edge.study.weak_data import simulate_two_encoders
from stale_edge.training import TorchLocalizer, train
from stale_edge.training.alternating import VLP_ENCODER, WARM_UP
from stale_edge.training.small_systems import small_weak

THRESHOLDS = tuple(round(0.1 * n, 1) for n in range(1, 8))
"""tIoU 0.1 to 0.7, as papers on weak supervision average."""
CUT = 0.5
"""Recall and precision count snippets whose score, scaled to [0, 1] over the video, is above this."""
N_VIDEOS, FULL_N_VIDEOS, SMALLEST_N_VIDEOS = 150, 600, 24
N_SEEDS = 5
WARM_UP_EPOCHS, STEP_EPOCHS, ROUNDS = 20, 20, 2
LONGER, FULL = "video labels alone, as many epochs as all CBP steps", "full supervision, CBP, as many epochs"
Outputs = dict[str, dict[str, FloatArray]]


class WeakSupervision:
    """Train both branches in turns on several seeds, and measure them after every step.

    Args:
        options: options of the study; with `data`, that data set is used, else one is simulated for every seed.
    """

    name = "weak-supervision"

    def __init__(self, options: StudyOptions) -> None:
        self.options = options
        self._data_sets: dict[int, DataSet] = {}

    def plan(self, progress: Progress) -> list[Run]:
        """List the runs: one a seed."""
        del progress
        runs = []
        n_videos = self.options.videos or self.options.count(N_VIDEOS, FULL_N_VIDEOS, at_least=SMALLEST_N_VIDEOS)
        for number in range(self.options.n_repeats(N_SEEDS, N_SEEDS)):
            seed = self.options.seed + number
            if self.options.data is None:
                data_set = simulate_two_encoders(
                    self.options.out / "data" / f"seed{seed}", n_videos=n_videos, seed=seed
                )
            else:
                data_set = open_data_set(self.options.data)
            self._data_sets[seed] = data_set
            config = self._config(data_set, seed)
            runs.append(Run(f"seed{seed}", {"seed": seed, "n_videos": n_videos, "config": to_dict(config)}))
        return runs

    def execute(self, run: Run, *, scratch: Path, progress: Progress) -> dict[str, Any]:
        """Train with video labels, in steps and in one piece, and with full supervision; measure all of them."""
        seed = int(run.parameters["seed"])
        data_set = self._data_sets[seed]
        config = self._config(data_set, seed)
        schedule = config.train
        if not isinstance(schedule, AlternatingConfig):
            raise TypeError("the study trains the architecture weak")
        weak = _trained(config, data_set, scratch / "weak", progress)
        n_epochs = schedule.epochs + schedule.rounds * schedule.cbp_epochs
        longer = dataclasses.replace(config, train=dataclasses.replace(schedule, epochs=n_epochs, rounds=0))
        supervised = dataclasses.replace(
            config,
            train=dataclasses.replace(schedule, epochs=n_epochs, supervision="segments", validate_every=0),
        )
        figures: dict[str, Any] = {}
        cbp = _outputs(weak / "steps" / WARM_UP / "last", data_set)
        figures[WARM_UP] = _figures(cbp, data_set, config.decode)
        for number in range(1, schedule.rounds + 1):
            vlp_set = _vlp_set(data_set)
            vlp = _outputs(weak / "steps" / f"round-{number}-B" / "last", vlp_set)
            cbp = _outputs(weak / "steps" / f"round-{number}-F" / "last", data_set)
            figures[f"round {number}: VLP after the B step"] = _figures(vlp, data_set, config.decode)
            figures[f"round {number}: CBP after the F step"] = _figures(cbp, data_set, config.decode)
            figures[f"round {number}: mean of both"] = _figures(_mean(cbp, vlp), data_set, config.decode)
        for name, other in ((LONGER, longer), (FULL, supervised)):
            folder = _trained(other, data_set, scratch / ("longer" if name == LONGER else "full"), progress)
            figures[name] = _figures(_outputs(folder / "last", data_set), data_set, config.decode)
        return {"stages": figures}

    def summarise(self, finished: Sequence[FinishedRun]) -> Summary:
        """Print every stage, and how far the rounds are above the warm-up."""
        data_set = next(iter(self._data_sets.values()))
        features = describe_features(data_set)
        stages = list(finished[0].result["stages"])
        results: dict[str, list[Mapping[str, Any]]] = {
            stage: [done.result["stages"][stage] for done in finished] for stage in stages
        }
        rows = tuple(
            {"stage": stage, **{key: spread([figures[key] for figures in results[stage]]) for key in _KEYS}}
            for stage in stages
        )
        caption = (
            f"Weak supervision, mAP in percent, average over tIoU 0.1 to 0.7, mean ± deviation over {len(finished)} "
            f"seeds; {features}. An implementation of two-branch alternate distillation as far as the supplement and "
            "the abstract of arXiv:2212.09335 specify it: losses, thresholds and sizes are ours. No published figure "
            "could be had. Recall and precision: snippets of the classes that a video shows, "
            f"scores scaled over the video and cut at {CUT}"
        )
        table = Table("weak-supervision", caption, _COLUMNS, rows)
        last = max((stage for stage in stages if "CBP after" in stage), default=WARM_UP)
        gains = {
            key: float(np.mean([a[key] - b[key] for a, b in zip(results[last], results[WARM_UP], strict=True)]))
            for key in _KEYS
        }
        notes = [
            f"CBP after the last F step less warm-up, mean over seeds: average mAP {gains['average_mAP']:+.1f} points "
            f"(wanted: at least +3), recall {gains['recall']:+.1f} (wanted: > 0), precision "
            f"{gains['precision']:+.1f} (wanted: at least -2).",
            "The schedule has more epochs than the warm-up; the row of video labels alone with as many epochs shows "
            "how much of the gain is longer training.",
        ]
        if self.options.data is None:
            notes.append(
                "The features are made so that one branch sees the middle of actions and the other too much around "
                "them; no figure holds for real video."
            )
        axis = tuple(float(n) for n in range(1, len(stages) + 1))
        means = tuple(float(np.mean([f["average_mAP"] for f in results[stage]])) for stage in stages)
        panel = Panel("Average mAP by stage", "", "mAP, %", (Line("own", axis, means),), categories=tuple(stages))
        return Summary(
            title="Weak supervision by two branches (after arXiv:2212.09335)",
            features=features,
            tables=(table,),
            plots=(Plot("weak-supervision", caption, (panel,)),),
            notes=tuple(notes),
        )

    def _config(self, data_set: DataSet, seed: int) -> Config:
        schedule = AlternatingConfig(
            epochs=self.options.count(WARM_UP_EPOCHS, WARM_UP_EPOCHS),
            vlp_epochs=self.options.count(STEP_EPOCHS, STEP_EPOCHS),
            cbp_epochs=self.options.count(STEP_EPOCHS, STEP_EPOCHS),
            rounds=ROUNDS,
            batch_size=16,
            learning_rate=1e-3,
            seed=seed,
        )
        config = weak_config(data_set, schedule)
        return with_overrides(config, self.options.settings, architectures=ARCHITECTURES)


def weak_config(data_set: DataSet, schedule: AlternatingConfig) -> Config:
    """Choose small branches for the features of a data set."""
    vlp_channels = _vlp_set(data_set).feature_spec.channels
    return small_weak(channels=data_set.feature_spec.channels, vlp_channels=vlp_channels, schedule=schedule)


def _trained(config: Config, data_set: DataSet, folder: Path, progress: Progress) -> Path:
    train(config, data_set.root, folder, resume=folder.exists(), progress=progress)
    return folder


def _vlp_set(data_set: DataSet) -> DataSet:
    """Open the features of the VLP branch: those of the second encoder where there are some."""
    if not (data_set.root / features_folder(VLP_ENCODER)).is_dir():
        return data_set
    return open_data_set(data_set.root, encoder=VLP_ENCODER)


def _outputs(checkpoint: Path, data_set: DataSet) -> Outputs:
    """Run a branch on the validation videos."""
    localizer = TorchLocalizer.of(read_checkpoint(checkpoint))
    n_snippets = localizer.feature_contract.resample_to
    found: Outputs = {}
    for video in data_set.videos(validation_subset(data_set)):
        if video in data_set.features:
            features = data_set.load(video)
            if n_snippets is not None:
                features = resample(features, n_snippets)
            found[video] = {name: values[0] for name, values in localizer.forward(features[None]).items()}
    return found


def _mean(cbp: Outputs, vlp: Outputs) -> Outputs:
    """Average the class scores of both branches, each scaled to [0, 1] over the video, as logits with background."""
    joined = {}
    for video, outputs in cbp.items():
        scores = np.mean([_scaled(_scores(outputs)), _scaled(_scores(vlp[video]))], axis=0)
        scores /= max(1.0, float(scores.sum(axis=0).max()) + 1e-3)
        rows = np.concatenate([scores, 1 - scores.sum(axis=0, keepdims=True)])
        joined[video] = {"class_logits": np.log(rows.clip(1e-6)).astype(np.float32)}
    return joined


def _scores(outputs: Mapping[str, FloatArray]) -> FloatArray:
    config = RunsConfig()
    return decoder_of(config).class_scores(outputs, config)


def _scaled(scores: FloatArray) -> FloatArray:
    """Scale scores (K, T) to [0, their maximum over the video and all classes]: the best class keeps its lead."""
    low, high = scores.min(axis=1, keepdims=True), scores.max()
    return np.asarray((scores - low) / max(float(high), 1e-6), dtype=np.float32)


def _figures(outputs: Outputs, data_set: DataSet, decode: Any) -> dict[str, float]:
    """Measure mAP, and recall and precision of snippets."""
    names = data_set.class_names
    found = {}
    hit = claimed = true = 0
    for video, values in outputs.items():
        entry = data_set.annotations.videos[video]
        scores = _scores(values)
        grid = RelativeGrid(entry.duration_s)
        found[video] = decode_outputs(values, class_names=names, grid=grid, config=decode)
        place = (np.arange(scores.shape[1]) + 0.5) / scores.shape[1] * entry.duration_s
        for name in {action.label for action in entry.actions}:
            row = scores[names.index(name)]
            span = float(row.max() - row.min())
            above = (row - row.min()) / (span or 1.0) > CUT
            inside = np.zeros(len(place), dtype=bool)
            for action in entry.actions:
                if action.label == name:
                    inside |= (place >= action.start_s) & (place < action.end_s)
            hit, claimed, true = hit + int((above & inside).sum()), claimed + int(above.sum()), true + int(inside.sum())
    truth = data_set.annotations.to_layout()
    subset = validation_subset(data_set)
    result = mean_average_precision(truth, to_layout(found), subset=subset, tiou_thresholds=THRESHOLDS)
    return {
        "average_mAP": result.average_mAP,
        "mAP_0.5": result.mAP[THRESHOLDS.index(0.5)],
        "recall": 100 * hit / max(true, 1),
        "precision": 100 * hit / max(claimed, 1),
    }


_KEYS = ("average_mAP", "mAP_0.5", "recall", "precision")
_COLUMNS = (
    Column("stage", "stage"),
    Column("average_mAP", "mAP@0.1:0.7"),
    Column("mAP_0.5", "mAP@0.5"),
    Column("recall", "recall"),
    Column("precision", "precision"),
)
