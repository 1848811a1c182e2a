"""How much each part of STALE contributes: Tables 3 to 6 of the paper, and its baselines."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stale_edge.bundle import ClassBank
from stale_edge.bundle.files import write_file_atomically
from stale_edge.config import Config, ModelConfig, TextConfig
from stale_edge.data import DataSet, open_data_set
from stale_edge.data.folder import (
    ANNOTATIONS_FILE,
    CLASS_BANK_FILE,
    FEATURE_SPEC_FILE,
    FEATURES_FOLDER,
    TEXT_ENCODER_FOLDER,
    write_feature_spec,
)
from stale_edge.errors import ConfigError
from stale_edge.evaluation import EvaluationResult
from stale_edge.model.checkpoint import Checkpoint, read_checkpoint
from stale_edge.model.class_embeddings import class_bank
from stale_edge.model.text import TextEncoder
from stale_edge.progress import Progress
from stale_edge.report.curves import Line, Panel
from stale_edge.runtime.evaluate import EvaluationSettings, evaluate_localizer
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
    B_III_NOTE,
    EFFPROMPT,
    EFFPROMPT_NOTE,
    VIDEO_ENCODER,
    b_iii_config,
    effprompt_config,
    simulate_video_encoder,
)
from stale_edge.study.published import PAPER_ABLATIONS, PAPER_TABLES_3_TO_6, Ablation
from stale_edge.study.study import (
    Cell,
    Column,
    FinishedRun,
    Plot,
    Run,
    Spread,
    StudyOptions,
    Summary,
    Table,
    spread,
)
from stale_edge.study.study_data import describe_features, is_simulated, open_world, training_config
from stale_edge.study.subsets import write_names
from stale_edge.study.trials import identity, names_identity, training_videos, validation_subset
from stale_edge.training import TorchLocalizer
from stale_edge.training.class_sources import bank_for
from stale_edge.training.loop import train
from stale_edge.training.supervision import Step

SEEN_PERCENT = 75
N_SPLITS, FULL_N_SPLITS = 2, 10
STALE, TUNED, TWO_STAGE = "stale", "text-tuned", "b-i"
VARIANTS: dict[str, dict[str, Any]] = {
    STALE: {},
    "mask-none": {"masking": "none"},
    "mask-ground-truth": {"masking": "ground-truth"},
    "mask-cnn": {"masking": "cnn"},
    "queries-5": {"n_mask_queries": 5},
    "queries-100": {"n_mask_queries": 100},
    "text-none": {"text": TextConfig(encoder="none")},
    TUNED: {},
    "temporal-cnn": {"temporal": "cnn"},
    "temporal-ms-tcn": {"temporal": "ms-tcn"},
    "b-ii": {"masking": "none", "temporal": "none"},
    TWO_STAGE: {"masking": "none", "text": TextConfig(encoder="none")},
    EFFPROMPT: {},
    B_III: {},
}
"""Changes of each variant to the model of the study; each is one training per class split."""
_GROUND_TRUTH = "ground_truth"
_ROWS: dict[tuple[str, str], tuple[str, str]] = {
    ("Table 1", "B-I"): (TWO_STAGE, "unseen"),
    ("Table 1", "B-II"): ("b-ii", "unseen"),
    ("Table 1", "EffPrompt"): (EFFPROMPT, "unseen"),
    ("Table 1", "STALE"): (STALE, "unseen"),
    ("Table 2", "B-I, CLIP"): (TWO_STAGE, "seen"),
    ("Table 2", "EffPrompt, CLIP"): (EFFPROMPT, "seen"),
    ("Table 2", "B-III, I3D"): (B_III, "seen"),
    ("Table 3", "B-I, ground-truth proposals"): (TWO_STAGE, _GROUND_TRUTH),
    ("Table 3", "B-I, predicted proposals"): (TWO_STAGE, "unseen"),
    ("Table 3", "STALE, ground-truth masks"): (STALE, _GROUND_TRUTH),
    ("Table 3", "STALE, predicted masks"): (STALE, "unseen"),
    ("Table 4", "no mask"): ("mask-none", "unseen"),
    ("Table 4", "ground-truth mask"): ("mask-ground-truth", "unseen"),
    ("Table 4", "1-D CNN"): ("mask-cnn", "unseen"),
    ("Table 4", "Maskformer, 5 queries"): ("queries-5", "unseen"),
    ("Table 4", "Maskformer, 20 queries"): (STALE, "unseen"),
    ("Table 4", "Maskformer, 100 queries"): ("queries-100", "unseen"),
    ("Table 5", "no encoder"): ("text-none", "unseen"),
    ("Table 5", "CLIP-text, frozen"): (STALE, "unseen"),
    ("Table 5", "CLIP-text, tuned"): (TUNED, "unseen"),
    ("Table 6", "1-D CNN"): ("temporal-cnn", "unseen"),
    ("Table 6", "MS-TCN"): ("temporal-ms-tcn", "unseen"),
    ("Table 6", "Transformer"): (STALE, "unseen"),
}
"""The variant, and the figure of it, for each row of the paper."""


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
                config = self._config(data_set, variant)
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
        config = self._config(data_set, variant)
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
                found[_GROUND_TRUTH] = score(classified(true_proposals(names), data_set, bank))
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
            found[_GROUND_TRUTH] = score(with_true_masks(checkpoint, data_set, bank))
        return found

    def summarise(self, finished: Sequence[FinishedRun]) -> Summary:
        """Print each of the paper's rows with the own figure beside it."""
        features = describe_features(self._opened())
        results: dict[str, list[Mapping[str, Any]]] = {}
        for done in finished:
            results.setdefault(str(done.run.parameters["variant"]), []).append(done.result)
        tables = []
        for name in dict.fromkeys(row.table for row in PAPER_ABLATIONS):
            caption = (
                f"{_TITLES[name]}: {SEEN_PERCENT} % of the classes seen in training, mAP on the "
                f"{'same' if name == 'Table 2' else 'others'}, mean ± "
                f"standard deviation over class splits ({len(self._splits)}); own figures on {features}; published: "
                f"paper, {name}, ActivityNet v1.3"
            )
            rows = tuple(_row(row, results) for row in PAPER_ABLATIONS if row.table == name)
            tables.append(Table(name.lower().replace(" ", "-"), caption, _COLUMNS, rows))
        return Summary(
            title=f"Ablations and baselines ({PAPER_TABLES_3_TO_6}, and Table 1)",
            features=features,
            tables=tuple(tables),
            plots=(
                Plot(
                    "ablations",
                    f"Average mAP on unseen classes, row by row; own figures on {features}",
                    _panels(tables),
                ),
            ),
            notes=_NOTES if TUNED in results else (*_NOTES, "The data set has no text encoder, so none was tuned."),
        )

    def _encoder(self, variant: str) -> str:
        """Name the encoder whose features a variant is trained on; empty: the first one."""
        return VIDEO_ENCODER if variant == B_III else ""

    def _config(self, data_set: DataSet, variant: str) -> Config | None:
        """Change the study's settings; None: the data set lacks what the variant needs."""
        config = training_config(data_set, self.options)
        if variant in _OTHER_SYSTEMS:
            return _OTHER_SYSTEMS[variant](config, data_set)
        changes = dict(VARIANTS[variant])
        if variant == TUNED:
            if not config.model.text.source and not (data_set.root / TEXT_ENCODER_FOLDER).is_dir():
                return None
            changes["text"] = dataclasses.replace(config.model.text, encoder="tuned")
        if not isinstance(config.model, ModelConfig):
            raise ConfigError(f"the ablations are STALE's; model.architecture is {config.model.architecture!r}")
        model = dataclasses.replace(config.model, **changes)
        loss = config.loss
        if model.masking in ("none", "ground-truth"):  # no foreground is predicted, so eq. 11 does not apply
            loss = dataclasses.replace(loss, completeness=0.0)
        return dataclasses.replace(config, model=model, loss=loss)

    def _split(self, data_set: DataSet, number: int) -> ClassSplit:
        names = data_set.class_names
        if self._class_splits is not None:
            return published_split(self._class_splits, seen_percent=SEEN_PERCENT, number=number, known=names)
        return random_split(names, seen_percent=SEEN_PERCENT, number=number, seed=self.options.seed)

    def _opened(self) -> DataSet:
        assert self._data_set is not None, "plan comes first"
        return self._data_set


def _row(row: Ablation, results: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Cell]:
    variant, part = _ROWS[row.table, row.row]
    cells: dict[str, Cell] = {
        "row": row.row,
        "published_50": row.mAP_50,
        "published_average": row.average_mAP,
    }
    own = results.get(variant, ())
    if own:
        cells["mAP_50"] = spread([result[part]["mAP_50"] for result in own])
        cells["average_mAP"] = spread([result[part]["average_mAP"] for result in own])
        if part == "unseen":
            cells["seen"] = spread([result["seen"]["average_mAP"] for result in own])
    return cells


def _panels(tables: Sequence[Table]) -> tuple[Panel, ...]:
    """Draw own and published averages of each table, row by row."""
    panels = []
    for table in tables:
        names = tuple(str(row["row"]) for row in table.rows)
        averages = [(float(n), row.get("average_mAP")) for n, row in enumerate(table.rows, start=1)]
        own = [(place, cell) for place, cell in averages if isinstance(cell, Spread)]
        published = [float(str(row["published_average"])) for row in table.rows]
        places = tuple(float(n) for n in range(1, len(names) + 1))
        lines = [Line("paper", places, tuple(published), published=True)]
        if own:
            x, cells = zip(*own, strict=True)
            lines.insert(0, Line("own", x, tuple(c.mean for c in cells), tuple(c.std or 0.0 for c in cells)))
        title = table.name.replace("-", " ").capitalize()
        panels.append(Panel(f"{title}: {_TITLES[title].lower()}", "", "average mAP, %", tuple(lines), categories=names))
    return tuple(panels)


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


_OTHER_SYSTEMS = {EFFPROMPT: effprompt_config, B_III: b_iii_config}
_TITLES = {
    "Table 1": "Baselines",
    "Table 2": "Baselines, closed set (own: on the classes seen in training)",
    "Table 3": "Localization error propagation",
    "Table 4": "Representation masking",
    "Table 5": "Text encoder",
    "Table 6": "Temporal modelling",
}
_NOTES = (
    "STALE here is one network for all tables: transformer, 20 queries, frozen text encoder without learned contexts "
    "where features are simulated; in the paper it is the tuned one.",
    "B-I here: the kit's own localizer, trained class-agnostically, proposes (the paper takes BMN); CLIP names each "
    "proposal by the cosine of its mean feature with the plain class names.",
    "B-II here: CLIP features without temporal embedding or masking, text adapted to them as in DenseCLIP, dense "
    "scores, and the kit's mask head; the paper does not describe its head.",
    "Ground-truth rows know a part of the answer at inference and are no results: Table 3 replaces the predicted "
    "instance masks (or proposals), Table 4 the representation mask alone.",
    "Without a text encoder an unseen class has an embedding that no training moved, so its rows are chance; the paper "
    "prints an average above its mAP@0.5 there, which cannot be, since mAP falls with tIoU.",
    EFFPROMPT_NOTE,
    B_III_NOTE,
)
_COLUMNS = (
    Column("row", "row"),
    Column("mAP_50", "own mAP@0.5"),
    Column("published_50", "published mAP@0.5"),
    Column("average_mAP", "own average"),
    Column("published_average", "published average"),
    Column("seen", "own average, seen classes"),
)
