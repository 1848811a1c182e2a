"""Weak supervision: a warm-up of the deployed branch (CBP), then rounds in which the branches train each other.

B step: CBP labels the training videos, and VLP learns from these pseudo-labels, above all what is background.
F step: VLP labels them, and CBP learns what is foreground, beside the video labels.

Every step is a training run in a folder of its own, so it can be resumed at any epoch like any other run:

steps/warm-up/, steps/round-1-B/, steps/round-1-F/ ...   runs; a CBP run's `last` is the deployed branch so far
pseudo-labels/round-1-B.npz and .png ...                  what the step learned from; made once, at its start
metrics.jsonl                                             the records of all steps
last/, best/                                              CBP after the last step; no epoch is chosen
vlp/                                                      VLP after the last B step
"""

import dataclasses
import json
import os
import shutil
from pathlib import Path
from typing import Any, NamedTuple

from stale_edge.bundle.files import folder_beside, replace_folder, write_file_atomically
from stale_edge.config import Config, TrainConfig
from stale_edge.config.listing import to_toml
from stale_edge.data.folder import features_folder, open_data_set
from stale_edge.errors import ConfigError
from stale_edge.model.weak.settings import AlternatingConfig, VlpConfig, WeakConfig
from stale_edge.progress import Progress, silent
from stale_edge.training import loop
from stale_edge.training.plan import plan_training
from stale_edge.training.pseudo_label_files import PseudoLabels, make_pseudo_labels
from stale_edge.training.run_folder import RunFolder
from stale_edge.training.supervision import FromVideoLabels, Step
from stale_edge.training.train_result import TrainResult

VLP_ENCODER = "vlp"
"""Name of the second encoder in a data set: features_vlp/, feature_spec_vlp.json."""
WARM_UP = "warm-up"


class _Branch(NamedTuple):
    """What the runs of one branch share.

    config: without the schedule of the steps.
    encoder: of its features, as in `open_data_set`.
    """

    config: Config
    encoder: str


def train(
    config: Config,
    data: Path,
    out: Path,
    *,
    resume: bool = False,
    announce: loop.Announce = lambda _: None,
    progress: Progress = silent,
) -> TrainResult:
    """Train a detector by the procedure that its settings ask for; see `loop.train`."""
    if isinstance(config.train, AlternatingConfig) and config.train.supervision == "video-labels":
        return train_alternating(config, Path(data), Path(out), resume=resume, progress=progress)
    return loop.train(config, data, out, resume=resume, announce=announce, progress=progress)


def supervised(config: Config, supervision: str | None) -> Config:
    """Choose what training may read of the annotations; None: the architecture's default.

    Raises:
        ConfigError: the architecture cannot be trained from video labels.
    """
    if supervision is None or isinstance(config.train, AlternatingConfig):
        chosen: dict[str, Any] = {} if supervision is None else {"supervision": supervision}
        return dataclasses.replace(config, train=dataclasses.replace(config.train, **chosen))
    if supervision == "video-labels":
        raise ConfigError(
            f"--supervision video-labels trains the architecture weak; got {config.model.architecture}: "
            "choose --arch weak, or leave --supervision out"
        )
    return config


def train_alternating(config: Config, data: Path, out: Path, *, resume: bool, progress: Progress) -> TrainResult:
    """Train both branches from video labels; see the text of this module.

    Args:
        config: of the architecture `weak`.
        data: data set folder; the VLP branch reads `features_vlp/` if it is there, else the same features as CBP.
        out: folder of the run; must not hold anything yet, except with `resume`.
        resume: go on in the step and epoch where an earlier call stopped; more rounds than then are allowed.
        progress: called by the steps.

    Raises:
        ConfigError: there is no second encoder and the widths of the branches differ, it is another architecture, or
            there are several processes.
        TrainingError, DataError, CheckpointError, FeatureContractError: as `loop.train`.
    """
    model, schedule = config.model, config.train
    if not isinstance(model, WeakConfig) or not isinstance(schedule, AlternatingConfig):
        raise ConfigError(f"video labels train the architecture weak; got {model.architecture!r}")
    if (n_processes := int(os.environ.get("WORLD_SIZE", "1"))) > 1:
        raise ConfigError(
            "weak supervision trains two branches, which label the videos for each other between steps, in one "
            f"process; torchrun started {n_processes}: start it without torchrun"
        )
    folder = RunFolder(out)
    with folder.held():
        folder.prepare(resume=resume)
        write_file_atomically(folder.config, to_toml(config, comments=False).encode())
        cbp, vlp = _branches(config, model, data)
        steps = _Steps(data, folder.root, cbp, vlp, progress)
        cbp_last, vlp_last, records = steps.run(schedule)
        write_file_atomically(folder.metrics, "".join(json.dumps(record) + "\n" for record in records).encode())
        for source, target in ((cbp_last, folder.last), (cbp_last, folder.best), (vlp_last, out / "vlp")):
            if source is not None:
                _copy(source, target)
    shared = [] if vlp.encoder else ["both branches read the same features: the data set has no features_vlp/"]
    return TrainResult(
        best=folder.best,
        last=folder.last,
        epochs=len(records),
        best_epoch=len(records),
        average_mAP=None,
        records=tuple(records),
        notes=(*steps.notes, *shared, "only the classes of each video were read, no time; `last` is the CBP branch"),
        leads=True,
    )


class _Steps:
    """The runs of one call, one after the other."""

    def __init__(self, data: Path, out: Path, cbp: _Branch, vlp: _Branch, progress: Progress) -> None:
        self.data, self.out = data, out
        self.cbp, self.vlp = cbp, vlp
        self.progress = progress
        self._counts: dict[str, int] = {}
        self.records: list[dict[str, Any]] = []
        self.notes: tuple[str, ...] = ()

    def run(self, schedule: AlternatingConfig) -> tuple[Path, Path | None, list[dict[str, Any]]]:
        """Run all steps; gives the last checkpoints of both branches and the records."""
        cbp_last = self._step(WARM_UP, self.cbp, schedule.epochs, FromVideoLabels(), None)
        vlp_last: Path | None = None
        for number in range(1, schedule.rounds + 1):
            labels = self._labels(f"round-{number}-B", self.cbp, cbp_last)
            vlp_last = self._step(f"round-{number}-B", self.vlp, schedule.vlp_epochs, labels, vlp_last)
            labels = self._labels(f"round-{number}-F", self.vlp, vlp_last)
            start = None if schedule.reinitialise else cbp_last
            cbp_last = self._step(f"round-{number}-F", self.cbp, schedule.cbp_epochs, labels, start)
        return cbp_last, vlp_last, self.records

    def _labels(self, name: str, teacher: _Branch, checkpoint: Path) -> FromVideoLabels:
        """Make the pseudo-labels of a step, or read those of an earlier call."""
        path = self.out / "pseudo-labels" / f"{name}.npz"
        data_set = open_data_set(self.data, encoder=teacher.encoder)
        if not path.is_file():
            videos = plan_training(teacher.config, data_set).videos
            made, plot = make_pseudo_labels(checkpoint, data_set, videos, config=teacher.config, progress=self.progress)
            write_file_atomically(_made(path.with_suffix(".png")), plot)
            made.save(path)  # last: its file says that the labels are there
        labels = PseudoLabels.load(path)
        self._counts = labels.counts(data_set)._asdict()
        return FromVideoLabels(labels.videos)

    def _step(self, name: str, branch: _Branch, epochs: int, supervision: FromVideoLabels, start: Path | None) -> Path:
        """Make or resume one run; gives its last checkpoint."""
        config = dataclasses.replace(branch.config, train=dataclasses.replace(branch.config.train, epochs=epochs))
        folder = self.out / "steps" / name
        result = loop.train(
            config,
            self.data,
            folder,
            resume=folder.exists(),
            progress=lambda stage, done, total, note="": self.progress(f"{name}: {stage}", done, total, note),
            step=Step(supervision, start, branch.encoder),
        )
        counts = {} if name == WARM_UP else {"pseudo_labels": self._counts}
        first = len(self.records)
        self.records += [
            {**record, "epoch": first + record["epoch"], "step": name, **counts} for record in result.records
        ]
        self.notes = result.notes if name == WARM_UP else self.notes
        return result.last


def _branches(config: Config, model: WeakConfig, data: Path) -> tuple[_Branch, _Branch]:
    """Choose settings and features of both branches.

    Raises:
        ConfigError: the features are not as wide as the VLP branch.
    """
    encoder = VLP_ENCODER if (data / features_folder(VLP_ENCODER)).is_dir() else ""
    channels = open_data_set(data, encoder=encoder).feature_spec.channels
    vlp: VlpConfig = model.vlp
    if channels != vlp.feature_channels:
        where = f"features_{encoder}/" if encoder else "features/ (there is no features_vlp/)"
        raise ConfigError(
            f"{data}: {where} has {channels} channels; set model.vlp.feature_channels and model.vlp.embed_dim to "
            f"{channels} (feature_channels is {vlp.feature_channels})"
        )
    shared = {field.name: getattr(config.train, field.name) for field in dataclasses.fields(TrainConfig)}
    # No epoch is chosen: there are no times to validate with.
    plain = dataclasses.replace(config, train=TrainConfig(**{**shared, "validate_every": 0}))
    return _Branch(plain, ""), _Branch(dataclasses.replace(plain, model=vlp), encoder)


def _copy(source: Path, target: Path) -> None:
    with folder_beside(target) as made:
        shutil.copytree(source, made, dirs_exist_ok=True)
        replace_folder(made, target)


def _made(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
