"""The training loop: Adam over global batches, validation, checkpoints, and a state that any kill can be resumed from.

An epoch depends on the state before it, the seed and its own number, and on nothing else: batches and dropout are drawn
anew from (seed, epoch). So no random state needs saving, and a resumed run repeats a killed epoch bit for bit on a CPU.
"""

import datetime
import logging
import math
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator, InitProcessGroupKwargs
from accelerate.utils import broadcast_object_list, set_seed
from torch import Tensor

from stale_edge.bundle.files import write_file_atomically
from stale_edge.config import Config
from stale_edge.config.listing import to_toml
from stale_edge.data.folder import open_data_set
from stale_edge.decoding import missing_outputs
from stale_edge.errors import ConfigError, TrainingError
from stale_edge.model import build_model, write_checkpoint
from stale_edge.model.architectures import architecture_of, build_objective
from stale_edge.model.detector import CountsOverBatch, as_module
from stale_edge.model.rows import RowClasses
from stale_edge.progress import Progress, silent
from stale_edge.report.figures import loss_curve
from stale_edge.training.averaging import WeightAverage
from stale_edge.training.batches import Batch, mix_seed
from stale_edge.training.chosen import describe_chosen, follow_data
from stale_edge.training.class_sources import BankedClasses, ClassSource, bank_of, encoder_of, open_class_source
from stale_edge.training.ending import ending_notes, ending_warnings
from stale_edge.training.epoch_batches import EpochBatches, open_training_set
from stale_edge.training.feature_statistics import fit_normalization
from stale_edge.training.naming import without_names
from stale_edge.training.optimization import Optimization, mixed_precision, precision_note
from stale_edge.training.plan import plan_training
from stale_edge.training.run_folder import RunFolder, RunState
from stale_edge.training.step import TrainingModel
from stale_edge.training.supervision import ALONE, Step, start_from
from stale_edge.training.tracking import FOLDER, track, tracker_settings
from stale_edge.training.train_result import TrainResult
from stale_edge.training.validation import Validation

Announce = Callable[[str], None]
_LOG = logging.getLogger(__name__)

WAIT_FOR_VALIDATION = datetime.timedelta(hours=12)
"""How long the other processes wait while the first one validates."""


def train(
    config: Config,
    data: Path,
    out: Path,
    *,
    resume: bool = False,
    announce: Announce = lambda _: None,
    progress: Progress = silent,
    step: Step = ALONE,
) -> TrainResult:
    """Train a detector.

    Under `torchrun` the global batch is shared by the processes; they give the result that one process would give, up
    to the order of floating-point sums.

    Args:
        config: all settings; `model.feature_channels` and `model.embed_dim` must fit the data set.
        data: data set folder.
        out: folder of the run; must not hold anything yet, except with `resume`.
        resume: go on after the last complete epoch of the run in `out`; with the same settings and data the result is
            that of an uninterrupted run. A run that was killed before its first epoch was complete starts anew.
        announce: called in the first process, before the first epoch, with a line about settings that follow the data.
        progress: called in the first process alone.
        step: what this run is among others; a run by itself unless said otherwise.

    Raises:
        TrainingError: `out` holds something, cannot be resumed with these settings, or a loss is not finite.
        BusyError: another process is training into `out`; it is named.
        ConfigError, DataError, FeatureContractError, CheckpointError: settings, data set or text encoder do not fit.
        ModuleNotFoundError: `train.tracker` is not installed.
    """
    if config.train.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("train.device=cuda, but PyTorch sees no CUDA device here; use auto or cpu")
    accelerator = Accelerator(
        cpu=config.train.device == "cpu" or not torch.cuda.is_available(),
        kwargs_handlers=[InitProcessGroupKwargs(timeout=WAIT_FOR_VALIDATION)],
        **tracker_settings(config.train, out),
    )
    with RunFolder(out).held() if accelerator.is_main_process else nullcontext():
        run = _Run(config, Path(data), Path(out), resume, accelerator, progress, step)
        if run.leads and run.chosen:
            announce(run.chosen)
        return run.run()


class _Run:
    """One call of `train`."""

    def __init__(
        self,
        config: Config,
        data: Path,
        out: Path,
        resume: bool,
        accelerator: Accelerator,
        progress: Progress,
        step: Step,
    ) -> None:
        self.config = config
        self.accelerator = accelerator
        self.leads = bool(accelerator.is_main_process)
        self.progress = progress if self.leads else silent
        self.data_set = open_data_set(data, encoder=step.encoder)
        self.data_set, vocabulary = without_names(config, self.data_set)
        self.plan = plan_training(config, self.data_set, vocabulary=vocabulary)
        row = architecture_of(config.model.architecture)
        self.folder = RunFolder(out)
        before = self.folder.settings() if resume else None
        chosen = follow_data(config.train, len(self.plan.videos), least_steps=row.least_steps, before=before)
        self.chosen = describe_chosen(config.train, chosen, len(self.plan.videos))
        self.config = config = row.complete(replace(config, train=chosen), len(self.plan.vocabulary))
        set_seed(config.train.seed)  # weights are drawn in this order: detector, classes, objective
        self.detector = build_model(config.model)
        _require_readable(config, self.detector)
        if row.space == "rows":
            self.classes: ClassSource = RowClasses(cast(Any, self.detector))
        else:
            self.classes = open_class_source(config.model, self.data_set.root, self.plan.vocabulary)
        self.objective = build_objective(config.model, config.loss)
        counts = next(iter(as_module(self.objective).buffers()), None) is not None
        if counts and accelerator.num_processes > 1 and not isinstance(self.objective, CountsOverBatch):
            raise ConfigError(
                f"the losses of {config.model.architecture} keep counts of their own, which would differ between "
                f"processes; train without torchrun (it started {accelerator.num_processes} processes)"
            )
        dataset = open_training_set(config, self.data_set, self.plan, self.objective, step.supervision)
        self.batches = EpochBatches(
            dataset,
            config.train,
            self.objective,
            rank=accelerator.process_index,
            n_processes=accelerator.num_processes,
        )
        if self.leads:
            self.folder.prepare(resume=resume)
            write_file_atomically(self.folder.config, to_toml(config, comments=False).encode())
        accelerator.wait_for_everyone()

        mixed = mixed_precision(config.train, accelerator.device, config.model)
        self.precision_note = precision_note(config.train, mixed, accelerator.device)
        decay = config.train.average_decay
        average = WeightAverage(self.detector, decay=decay) if decay else None
        self.deployed: Any = self.detector if average is None else average.module
        model = TrainingModel(self.detector, self.classes, self.objective, average=average, mixed=mixed)
        self.identity = {**self.plan.identity(config), **step.identity()}
        self.state = self.folder.read_state(self.identity) if resume else None
        if self.state is not None:
            model.load_state_dict(self.state.weights)
        elif step.start is not None:
            start_from(step.start, detector=self.detector, classes=self.classes)
        else:
            fit_normalization(self.detector, dataset, progress=self.progress)
        if self.state is None and average is not None:
            average.module.load_state_dict(self.detector.state_dict())
        model.to(accelerator.device)
        self.optimization = Optimization(
            model, config.train, device=accelerator.device, steps_per_epoch=len(self.batches)
        )
        if self.state is not None:
            self.optimization.resume(self.state)
        self.model = model
        self.replicated = accelerator.prepare_model(model)
        self.validation = Validation(
            config, self.data_set, self.plan, self.deployed, self.classes, progress=self.progress
        )

    def run(self) -> TrainResult:
        state = self.state
        first = 1 if state is None else state.epoch + 1
        records = [] if state is None else self.folder.read_metrics(up_to_epoch=state.epoch)
        best_epoch, best_value = (0, None) if state is None else (state.best_epoch, state.best_value)
        self.accelerator.init_trackers(FOLDER)
        try:
            for epoch in range(first, self.config.train.epochs + 1):
                record = self._train_epoch(epoch)
                if self.leads:
                    record |= self.validation.measure(epoch)
                    value = record.get("average_mAP")
                    records.append(record)
                    improved = value is not None and (best_value is None or value > best_value)
                    if improved or best_value is None:
                        best_epoch, best_value = epoch, value
                    self._save(epoch, records, best_epoch=best_epoch, best_value=best_value)
                    _LOG.info("epoch %d of %d: %s", epoch, self.config.train.epochs, record)
                    track(self.accelerator, record)
                self.accelerator.wait_for_everyone()
        finally:  # points that a tracker still holds are written also where training ends early
            for tracker in self.accelerator.trackers:
                tracker.finish()
        if self.leads:
            write_file_atomically(self.folder.plot, loss_curve(records))
        # Every process returns the results of the first one, for example validation.
        records, best_epoch, best_value = broadcast_object_list([records, best_epoch, best_value])
        return TrainResult(
            best=self.folder.best,
            last=self.folder.last,
            epochs=len(records),
            best_epoch=best_epoch,
            average_mAP=best_value,
            records=tuple(records),
            notes=(
                *self.plan.notes,
                *self.precision_note,
                *ending_notes(records, self.validation, banked=isinstance(self.classes, BankedClasses)),
            ),
            leads=self.leads,
            warnings=ending_warnings(
                records, run=self.folder.root, data=self.data_set.root, lengthens=self.config.train.schedule != "cosine"
            ),
        )

    def _train_epoch(self, epoch: int) -> dict[str, Any]:
        """Run one epoch; gives the means over its videos."""
        started = time.perf_counter()
        set_seed(self._dropout_seed(epoch))
        self.replicated.train()
        names = self.objective.terms
        sums = torch.zeros(len(names) + 1, dtype=torch.float64)
        norms: list[float] = []
        n_skipped = 0
        n_videos, n_epochs = len(self.plan.videos), self.config.train.epochs
        for step, batch in enumerate(self.batches.of(epoch)):
            rate = self.optimization.set_learning_rate(epoch, step)
            terms, losses, norm = self._step(batch, where=f"epoch {epoch}, step {step + 1}")
            counted = torch.tensor([weight > 0 for weight in batch.share.weights])
            sums += torch.stack([values.detach().cpu().double()[counted].sum() for values in (*terms.values(), losses)])
            if math.isfinite(norm):
                norms.append(norm)
            else:
                n_skipped += 1
            done = min((step + 1) * self.config.train.batch_size, n_videos)
            note = f"epoch {epoch}/{n_epochs}  {_describe(terms, losses)}"
            if n_skipped:
                note += f"  {n_skipped} steps skipped"
            self.progress("train", (epoch - 1) * n_videos + done, n_epochs * n_videos, note)
        means = (
            cast(Tensor, self.accelerator.reduce(sums.to(self.accelerator.device, torch.float32))) / n_videos
        ).tolist()
        return {
            "epoch": epoch,
            "loss": means[-1],
            **dict(zip(names, means[:-1], strict=True)),
            "gradient_norm": sum(norms) / len(norms) if norms else None,
            "skipped_steps": n_skipped,
            "learning_rate": rate,
            "videos": n_videos,
            "seconds": round(time.perf_counter() - started, 3),
        }

    def _dropout_seed(self, epoch: int) -> int:
        """Seed of an epoch's dropout: one for all processes where it is drawn for the global batch, else one for each.

        Weights are equal in all processes anyway.
        """
        seed = mix_seed(self.config.train.seed, epoch) % (1 << 32)
        rank = 0 if self._draws_for_all() else self.accelerator.process_index
        return mix_seed(seed, rank) % (1 << 32) if rank else seed

    def _draws_for_all(self) -> bool:
        """Say whether dropout is drawn for the whole global batch: fused CUDA kernels have streams of their own."""
        return bool(self.accelerator.num_processes > 1 and self.accelerator.device.type == "cpu")

    def _step(self, batch: Batch, *, where: str) -> tuple[dict[str, Tensor], Tensor, float]:
        device, n_processes = self.accelerator.device, self.accelerator.num_processes
        share = batch.share if self._draws_for_all() else None
        terms: dict[str, Tensor] = self.replicated(batch.features.to(device), batch.targets.to(device), share)
        losses = self.objective.total(terms)  # (B,)
        _require_finite(terms, batch, where)
        # Weights are 1 / global batch; gradients are averaged over processes, hence the factor.
        loss = (losses * batch.weights.to(device)).sum() * n_processes
        norm = self.optimization.step(loss, where=f"{where}, batch of {_listed(batch.videos)}")
        return terms, losses, norm

    def _save(self, epoch: int, records: list[dict[str, Any]], *, best_epoch: int, best_value: float | None) -> None:
        """Write metrics and checkpoints, and the state last: an epoch counts only once its state is written."""
        self.folder.write_metrics(records)
        for path in [self.folder.last, *([self.folder.best] if best_epoch == epoch else [])]:
            write_checkpoint(
                path,
                model=self.deployed,
                config=self.config,
                feature_spec=self.data_set.feature_spec,
                class_bank=bank_of(self.classes, self.plan.vocabulary, detector=self.deployed),
                text_encoder=encoder_of(self.classes),
            )
            _LOG.info("wrote %s", path)
        self.folder.write_state(
            RunState(
                epoch=epoch,
                identity=self.identity,
                weights=self.model.state_dict(),
                optimizer=self.optimization.optimizer.state_dict(),
                scaler=self.optimization.scaler.state_dict(),
                best_epoch=best_epoch,
                best_value=best_value,
            )
        )


def _require_readable(config: Config, detector: Any) -> None:
    """Refuse a decode policy that the detector's outputs are not for, before anything is trained.

    Raises:
        ConfigError: an output that the policy reads is missing.
    """
    names = [spec.name for spec in detector.output_specs()]
    missing = missing_outputs(config.decode, names)
    if missing:
        raise ConfigError(
            f"decode.policy={config.decode.policy} reads {', '.join(missing)}, which the architecture "
            f"{config.model.architecture} does not have; its outputs are {', '.join(names)}: leave the policy out"
        )


def _require_finite(terms: Mapping[str, Tensor], batch: Batch, where: str) -> None:
    for name, values in terms.items():
        bad = [video for video, value in zip(batch.videos, values.tolist(), strict=True) if not math.isfinite(value)]
        if bad:
            raise TrainingError(
                f"{where}: the {name} loss is not finite for {_listed(bad)}; the batch was {_listed(batch.videos)}. "
                "Check these videos with `stale-edge data check`; if they are sound, lower train.learning_rate"
            )


def _describe(terms: Mapping[str, Tensor], losses: Tensor) -> str:
    parts = [f"loss {losses.mean().item():.3f}"]
    return "  ".join([*parts, *(f"{name} {values.mean().item():.3f}" for name, values in terms.items())])


def _listed(names: tuple[str, ...] | list[str], limit: int = 8) -> str:
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")
