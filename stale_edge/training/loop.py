"""The training loop: Adam over global batches, validation, checkpoints, and a state that any kill can be resumed from.

An epoch depends on the state before it, the seed and its own number, and on nothing else: batches and dropout are drawn
anew from (seed, epoch). So no random state needs saving, and a resumed run repeats a killed epoch bit for bit on a CPU.
"""

import datetime
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator, InitProcessGroupKwargs
from accelerate.utils import broadcast_object_list, set_seed
from torch import Tensor, nn
from torch.utils.data import DataLoader

from stale_edge.bundle.files import write_file_atomically
from stale_edge.config import Config, TrainConfig
from stale_edge.config.listing import to_toml
from stale_edge.data.annotations import VideoAnnotation
from stale_edge.data.dataset import Item, SnippetDataset
from stale_edge.data.folder import DataSet, open_data_set
from stale_edge.decoding import missing_outputs
from stale_edge.errors import ConfigError, TrainingError
from stale_edge.model import build_model, write_checkpoint
from stale_edge.model.architectures import architecture_of, build_objective
from stale_edge.model.detector import Objective, as_module
from stale_edge.model.rows import RowClasses
from stale_edge.progress import Progress, silent
from stale_edge.report.figures import loss_curve
from stale_edge.runtime.contract import time_grid
from stale_edge.runtime.evaluate import EvaluationSettings, evaluate_localizer
from stale_edge.training.averaging import WeightAverage
from stale_edge.training.batches import Batch, collate, epoch_batches, mix_seed, share_of
from stale_edge.training.chosen import describe_chosen, follow_data
from stale_edge.training.class_sources import BankedClasses, ClassSource, bank_of, encoder_of, open_class_source
from stale_edge.training.cropping import CroppedDataset
from stale_edge.training.decay import decay_groups
from stale_edge.training.ending import ending_warnings
from stale_edge.training.feature_statistics import fit_normalization
from stale_edge.training.plan import TrainingPlan, plan_training
from stale_edge.training.run_folder import RunFolder, RunState
from stale_edge.training.schedule import warmup_cosine
from stale_edge.training.step import TrainingModel
from stale_edge.training.supervision import ALONE, Step, Supervision, start_from
from stale_edge.training.torch_localizer import TorchLocalizer, feature_contract
from stale_edge.training.train_result import TrainResult

ADAM_EPS = 1e-6
"""Added to Adam's denominator. Some gradients are zero up to rounding (a key's bias shifts every logit of a softmax
alike); with PyTorch's 1e-8 Adam turns rounding into full steps, which depend on the order of summation."""

Announce = Callable[[str], None]

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
    """
    if config.train.device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("train.device=cuda, but PyTorch sees no CUDA device here; use auto or cpu")
    accelerator = Accelerator(
        cpu=config.train.device == "cpu" or not torch.cuda.is_available(),
        kwargs_handlers=[InitProcessGroupKwargs(timeout=WAIT_FOR_VALIDATION)],
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
        self.plan = plan_training(config, self.data_set)
        row = architecture_of(config.model.architecture)
        self.folder = RunFolder(out)
        before = self.folder.settings() if resume else None
        chosen = follow_data(config.train, len(self.plan.videos), before=before)
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
        if accelerator.num_processes > 1 and next(iter(as_module(self.objective).buffers()), None) is not None:
            raise ConfigError(
                f"the losses of {config.model.architecture} count over a whole batch, which one process must see; "
                f"train without torchrun (it started {accelerator.num_processes} processes)"
            )
        self.dataset = _dataset(config, self.data_set, self.plan, self.objective, step.supervision)
        if self.leads:
            self.folder.prepare(resume=resume)
            write_file_atomically(self.folder.config, to_toml(config, comments=False).encode())
        accelerator.wait_for_everyone()

        mixed = _mixed_precision(config.train, accelerator.device)
        decay = config.train.average_decay
        average = WeightAverage(self.detector, decay=decay) if decay else None
        self.deployed: Any = self.detector if average is None else average.module
        model = TrainingModel(self.detector, self.classes, self.objective, average=average, mixed=mixed)
        self.scaler = torch.amp.GradScaler(accelerator.device.type, enabled=mixed is torch.float16)
        self.identity = {**self.plan.identity(config), **step.identity()}
        self.state = self.folder.read_state(self.identity) if resume else None
        if self.state is not None:
            model.load_state_dict(self.state.weights)
        elif step.start is not None:
            start_from(step.start, detector=self.detector, classes=self.classes)
        else:
            fit_normalization(self.detector, self.dataset, progress=self.progress)
        if self.state is None and average is not None:
            average.module.load_state_dict(self.detector.state_dict())
        model.to(accelerator.device)
        self.parameters = [weight for weight in model.parameters() if weight.requires_grad]
        self.optimizer = _optimizer(model, self.parameters, config.train)
        if self.state is not None:
            self.optimizer.load_state_dict(self.state.optimizer)
            if self.state.scaler:  # empty where the run so far had none, for example on a CPU
                self.scaler.load_state_dict(self.state.scaler)
        self.model = model
        self.replicated = accelerator.prepare_model(model)
        self.validates = (
            config.train.validate_every > 0 and self.plan.validation_subset is not None and config.model.deployable
        )

    def run(self) -> TrainResult:
        state = self.state
        first = 1 if state is None else state.epoch + 1
        records = [] if state is None else self.folder.read_metrics(up_to_epoch=state.epoch)
        best_epoch, best_value = (0, None) if state is None else (state.best_epoch, state.best_value)
        for epoch in range(first, self.config.train.epochs + 1):
            record = self._train_epoch(epoch)
            if self.leads:
                value = self._validate(epoch, record)
                records.append(record)
                improved = value is not None and (best_value is None or value > best_value)
                if improved or best_value is None:
                    best_epoch, best_value = epoch, value
                self._save(epoch, records, best_epoch=best_epoch, best_value=best_value)
            self.accelerator.wait_for_everyone()
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
            notes=(*self.plan.notes, *self._notes(records)),
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
        for step, batch in enumerate(self._batches(epoch)):
            rate = self._set_learning_rate(epoch, step)
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

    def _batches(self, epoch: int) -> Iterator[Batch]:
        """Read this process' part of every global batch of an epoch."""
        if isinstance(self.dataset, CroppedDataset):
            self.dataset.epoch = epoch
        train, n_processes = self.config.train, self.accelerator.num_processes
        globals_ = epoch_batches(len(self.dataset), batch_size=train.batch_size, seed=train.seed, epoch=epoch)
        shares = [share_of(batch, rank=self.accelerator.process_index, n_processes=n_processes) for batch in globals_]
        loader: DataLoader[list[Item[Any]]] = DataLoader(
            cast(Any, self.dataset),
            batch_sampler=[list(share.items) for share in shares],
            collate_fn=list,
            num_workers=train.workers,
            generator=torch.Generator().manual_seed(0),  # or making the iterator would draw from the dropout's
        )
        for items, share in zip(loader, shares, strict=True):
            yield collate(items, share, stack=self.objective.stack)

    def _step(self, batch: Batch, *, where: str) -> tuple[dict[str, Tensor], Tensor, float]:
        device, n_processes = self.accelerator.device, self.accelerator.num_processes
        share = batch.share if self._draws_for_all() else None
        terms: dict[str, Tensor] = self.replicated(batch.features.to(device), batch.targets.to(device), share)
        losses = self.objective.total(terms)  # (B,)
        _require_finite(terms, batch, where)
        # Weights are 1 / global batch; gradients are averaged over processes, hence the factor.
        loss = (losses * batch.weights.to(device)).sum() * n_processes
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        norm = float(torch.nn.utils.clip_grad_norm_(self.parameters, self.config.train.gradient_clip))
        if not math.isfinite(norm) and not self.scaler.is_enabled():
            raise TrainingError(f"{where}: the gradient is not finite ({norm}); batch: {_listed(batch.videos)}")
        self.scaler.step(self.optimizer)  # skipped where the gradient is not finite
        self.scaler.update()
        if self.model.average is not None and math.isfinite(norm):
            self.model.average.update(self.detector)
        return terms, losses, norm

    def _set_learning_rate(self, epoch: int, step: int) -> float:
        """Set the learning rate of a step of an epoch, and give it."""
        train = self.config.train
        if train.schedule == "constant":
            return train.learning_rate
        per_epoch = math.ceil(len(self.dataset) / train.batch_size)
        rate = warmup_cosine(
            (epoch - 1) * per_epoch + step,
            base=train.learning_rate,
            warmup_steps=train.warmup_epochs * per_epoch,
            steps=train.epochs * per_epoch,
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        return rate

    def _validate(self, epoch: int, record: dict[str, Any]) -> float | None:
        """Add validation mAP to the record when the epoch is one to validate after; gives the average mAP."""
        train = self.config.train
        if not self.validates or (epoch % train.validate_every and epoch != train.epochs):
            return None
        started = time.perf_counter()
        localizer = TorchLocalizer(
            self.deployed,
            class_bank=bank_of(self.classes, self.plan.vocabulary, detector=self.deployed),
            feature_contract=feature_contract(self.config, self.data_set.feature_spec),
            decode_config=self.config.decode,
        )
        report = evaluate_localizer(
            localizer,
            self.data_set,
            classes=self.plan.vocabulary,
            settings=EvaluationSettings(cast(str, self.plan.validation_subset)),
            progress=lambda _, done, total, note="": self.progress(f"validate, epoch {epoch}", done, total, note),
        )
        record["average_mAP"] = report.result.average_mAP
        record["mAP"] = list(report.result.mAP)
        record["baseline_average_mAP"] = None if report.baseline is None else report.baseline.average_mAP
        record["validation_seconds"] = round(time.perf_counter() - started, 3)
        return float(report.result.average_mAP)

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
        self.folder.write_state(
            RunState(
                epoch=epoch,
                identity=self.identity,
                weights=self.model.state_dict(),
                optimizer=self.optimizer.state_dict(),
                scaler=self.scaler.state_dict(),
                best_epoch=best_epoch,
                best_value=best_value,
            )
        )

    def _notes(self, records: list[dict[str, Any]]) -> list[str]:
        notes = []
        n_skipped = sum(record.get("skipped_steps", 0) for record in records)
        if n_skipped:
            notes.append(
                f"{n_skipped} steps were skipped, since their gradients overflowed in fp16; some at the start are "
                "usual, many mean: use train.precision=bf16 or fp32"
            )
        if self.plan.validation_subset is None:
            notes.append("nothing was validated on, so `best` is `last`")
        elif not self.config.train.validate_every:
            notes.append("train.validate_every is 0, so `best` is `last`")
        elif not self.validates:
            notes.append("masking 'ground-truth' cannot be validated: a deployed detector has no ground truth")
        elif self.config.train.epochs > self.config.train.validate_every:  # more than one epoch to choose from
            notes.append(
                f"the epoch of `best` was chosen on subset {self.plan.validation_subset!r}: mAP there is no result; "
                "evaluate `last`, or other videos"
            )
        if isinstance(self.classes, BankedClasses):
            notes.append("no text encoder: class embeddings are those of class_bank.npz, and no context was learned")
        return notes


def _optimizer(model: nn.Module, parameters: list[nn.Parameter], config: TrainConfig) -> torch.optim.Optimizer:
    if config.optimizer == "adamw":
        return torch.optim.AdamW(decay_groups(model, weight_decay=config.weight_decay), lr=config.learning_rate)
    return torch.optim.Adam(parameters, lr=config.learning_rate, weight_decay=config.weight_decay, eps=ADAM_EPS)


def _dataset(
    config: Config, data_set: DataSet, plan: TrainingPlan, objective: Objective, supervision: Supervision
) -> SnippetDataset[Any] | CroppedDataset:
    contract = feature_contract(config, data_set.feature_spec)

    def make_targets(name: str, video: VideoAnnotation, n_snippets: int) -> Any:
        return objective.targets(
            supervision(name, video),
            vocabulary=plan.vocabulary,
            grid=time_grid(contract, duration_s=video.duration_s),
            n_snippets=n_snippets,
        )

    if config.model.resampling == "none":
        return CroppedDataset(
            data_set,
            plan.videos,
            channels=config.model.feature_channels,
            make_targets=make_targets,
            objective=objective,
            seed=config.train.seed,
        )
    return SnippetDataset(
        data_set,
        plan.videos,
        n_snippets=config.train.n_snippets,
        channels=config.model.feature_channels,
        make_targets=lambda name, video: make_targets(name, video, config.train.n_snippets),
    )


def _mixed_precision(config: TrainConfig, device: torch.device) -> torch.dtype | None:
    """Choose the type of matrix products; None is fp32.

    Raises:
        ConfigError: fp16 was asked for on a CPU, which has no fast fp16 to train with.
    """
    if config.precision == "auto":
        if device.type != "cuda":
            return None
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    if config.precision == "fp16" and device.type == "cpu":
        raise ConfigError("train.precision=fp16 needs a CUDA device; on a CPU use fp32 or bf16")
    return {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[config.precision]


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
