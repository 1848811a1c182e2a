"""How much each part of STALE contributes: Tables 3 to 6 of the paper, and its baselines."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stale_edge.bundle import ClassBank
from stale_edge.bundle.files import write_file_atomically
from stale_edge.data import DataSet, open_data_set
from stale_edge.data.folder import (
    ANNOTATIONS_FILE,
    CLASS_BANK_FILE,
    FEATURE_SPEC_FILE,
    FEATURES_FOLDER,
    TEXT_ENCODER_FOLDER,
    write_feature_spec,
)
from stale_edge.evaluation import EvaluationResult
from stale_edge.model.checkpoint import Checkpoint, read_checkpoint
from stale_edge.model.class_embeddings import class_bank
from stale_edge.model.text import TextEncoder
from stale_edge.progress import Progress
from stale_edge.runtime.evaluate import EvaluationSettings, evaluate_localizer
from stale_edge.study.ablation_tables import GROUND_TRUTH, ablation_summary
from stale_edge.study.ablation_variants import SEEN_PERCENT, STALE, TWO_STAGE, VARIANTS, variant_config
from stale_edge.study.class_splits import ClassSplit, published_split, random_split
from stale_edge.study.oracles import (
    Detect,
    class_agnostic,
    classified,
    evaluate_detections,
    predicted_proposals,
    true_proposals,
    with_true_foreground,
    with_true_masks,
)
from stale_edge.study.other_systems import (
    B_III,
    VIDEO_ENCODER,
    simulate_video_encoder,
)
from stale_edge.study.study import (
    FinishedRun,
    Run,
    StudyOptions,
    Summary,
)
from stale_edge.study.study_data import describe_features, is_simulated, open_world
from stale_edge.study.subsets import write_names
from stale_edge.study.trials import identity, names_identity, training_videos, validation_subset
from stale_edge.training import TorchLocalizer
from stale_edge.training.class_sources import bank_for
from stale_edge.training.loop import train
from stale_edge.training.supervision import Step

N_SPLITS, FULL_N_SPLITS = 2, 10


class Ablations:
    """Train every variant on 75 % of the classes; evaluate it on the other classes and on the seen ones.

    Args:
        options: options of the study.
        class_splits: folder of the published class lists; None: splits are drawn by the seed.
    """

    name = "ablations"

    def __init__(self, options: StudyOptions, *, class_splits: Path | None = None) -> None:
        self.options = options
        self._class_splits = class_splits
        self._data_set: DataSet | None = None
        self._splits: list[ClassSplit] = []

    def plan(self, progress: Progress) -> list[Run]:
        """List the runs: one a class split and variant."""
        data_set = self._data_set = open_world(self.options, progress)
        if is_simulated(data_set):
            simulate_video_encoder(data_set, seed=self.options.seed)
        self._splits = [
            self._split(data_set, number) for number in range(self.options.n_repeats(N_SPLITS, FULL_N_SPLITS))
        ]
        runs = []
        for number, split in enumerate(self._splits):
            for variant in VARIANTS:
                config = variant_config(variant, data_set, self.options)
                if config is not None:
                    parameters = {
                        "variant": variant,
                        "split": number,
                        "seen": names_identity(split.seen),
                        "unseen": names_identity(split.unseen),
                        **identity(data_set, config),
                    }
                    runs.append(Run(f"split{number}-{variant}", parameters))
        return runs

    def execute(self, run: Run, *, scratch: Path, progress: Progress) -> dict[str, Any]:
        """Train a variant and measure it on unseen and on seen classes."""
        data_set, variant = self._opened(), str(run.parameters["variant"])
        split = self._splits[run.parameters["split"]]
        config = variant_config(variant, data_set, self.options)
        if config is None:
            raise ValueError(f"the data set cannot be used for {variant}")
        root, classes = data_set.root, split.seen
        if variant == TWO_STAGE:
            root, classes = _class_agnostic_folder(data_set, split.seen, scratch / "data"), ("action",)
        config = dataclasses.replace(
            config,
            classes=str(write_names(scratch / "classes.list", classes)),
            videos=str(write_names(scratch / "videos.list", training_videos(data_set, split.seen))),
        )
        folder = scratch / "run"
        step = Step(encoder=self._encoder(variant))
        result = train(config, root, folder, resume=folder.exists(), progress=progress, step=step)
        checkpoint = read_checkpoint(result.last)
        figures: dict[str, Any] = {"loss": result.records[-1]["loss"]}
        for part, names in (("unseen", split.unseen), ("seen", split.seen)):
            figures |= self._measure(variant, checkpoint, part, names, progress)
        return figures

    def _measure(
        self, variant: str, checkpoint: Checkpoint, part: str, names: Sequence[str], progress: Progress
    ) -> dict[str, Any]:
        """Evaluate one part of the classes; on the unseen ones also detections that know a part of the truth."""
        data_set = self._opened()
        subset = validation_subset(data_set)

        def score(detect: Detect) -> dict[str, float]:
            return _figures(evaluate_detections(data_set, detect, classes=names, subset=subset, progress=progress))

        if variant == TWO_STAGE:
            bank = _untrained_bank(data_set, names)
            proposals = predicted_proposals(TorchLocalizer.of(checkpoint), data_set)
            found = {part: score(classified(proposals, data_set, bank))}
            if part == "unseen":
                found[GROUND_TRUTH] = score(classified(true_proposals(names), data_set, bank))
            return found
        bank = _bank(checkpoint, data_set, names, seed=self.options.seed)
        if variant == "mask-ground-truth":
            return {part: score(with_true_foreground(checkpoint, data_set, bank))}
        localizer = TorchLocalizer.of(checkpoint, class_bank=bank)
        if variant == B_III:
            data_set = dataclasses.replace(
                open_data_set(data_set.root, encoder=VIDEO_ENCODER), annotations=data_set.annotations
            )
        report = evaluate_localizer(
            localizer, data_set, classes=names, settings=EvaluationSettings(subset), progress=progress
        )
        found = {part: _figures(report.result)}
        if variant == STALE and part == "unseen":
            found[GROUND_TRUTH] = score(with_true_masks(checkpoint, data_set, bank))
        return found

    def summarise(self, finished: Sequence[FinishedRun]) -> Summary:
        """Print each of the paper's rows with the own figure beside it."""
        return ablation_summary(finished, features=describe_features(self._opened()), n_splits=len(self._splits))

    def _encoder(self, variant: str) -> str:
        """Name the encoder whose features a variant is trained on; empty: the first one."""
        return VIDEO_ENCODER if variant == B_III else ""

    def _split(self, data_set: DataSet, number: int) -> ClassSplit:
        names = data_set.class_names
        if self._class_splits is not None:
            return published_split(self._class_splits, seen_percent=SEEN_PERCENT, number=number, known=names)
        return random_split(names, seen_percent=SEEN_PERCENT, number=number, seed=self.options.seed)

    def _opened(self) -> DataSet:
        assert self._data_set is not None, "plan comes first"
        return self._data_set


def _figures(result: EvaluationResult) -> dict[str, float]:
    place = result.tiou_thresholds.index(0.5)
    return {"mAP_50": result.mAP[place], "average_mAP": result.average_mAP}


def _bank(checkpoint: Checkpoint, data_set: DataSet, names: Sequence[str], *, seed: int) -> ClassBank:
    """Embed classes as the checkpoint does; without a text encoder an untrained class is a random vector.

    Its free embedding would also be random, since training never changes it.
    """
    bank = bank_for(checkpoint, names, root=data_set.root)
    missing = [name for name in names if name not in set(bank.names)]
    if missing:
        rng = np.random.default_rng(seed)
        untouched = rng.standard_normal((len(missing), bank.width)).astype(np.float32)
        bank = bank.merge(ClassBank(tuple(missing), untouched, bank.fingerprint))
    return bank.select(names)


def _untrained_bank(data_set: DataSet, names: Sequence[str]) -> ClassBank:
    """Embed classes with the text encoder of the data set, as it was before any training."""
    path = data_set.root / CLASS_BANK_FILE
    if path.is_file():
        return ClassBank.load(path).select(names)
    return class_bank(TextEncoder.load(data_set.root / TEXT_ENCODER_FOLDER), names)


def _class_agnostic_folder(data_set: DataSet, seen: Sequence[str], folder: Path) -> Path:
    """Make a data set whose only class is "action"; the features are those of the given one."""
    folder.mkdir(parents=True, exist_ok=True)
    link = folder / FEATURES_FOLDER
    if not link.is_symlink():
        link.symlink_to(data_set.features.root.resolve(), target_is_directory=True)
    write_feature_spec(folder / FEATURE_SPEC_FILE, data_set.feature_spec)
    document = class_agnostic(data_set.annotations.videos, seen)
    write_file_atomically(folder / ANNOTATIONS_FILE, json.dumps(document).encode())
    return folder
