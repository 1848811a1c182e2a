"""What changes the weights: the type of matrix products, Adam, the learning rate, the clipped gradient, the average."""

import math
from typing import Any, cast

import torch
from torch import Tensor, nn

from stale_edge.config import ModelConfig, ModelSettings, TrainConfig
from stale_edge.errors import ConfigError, TrainingError
from stale_edge.machine import instruction_sets
from stale_edge.training.decay import decay_groups
from stale_edge.training.run_folder import RunState
from stale_edge.training.schedule import warmup_cosine
from stale_edge.training.step import TrainingModel

ADAM_EPS = 1e-6
"""Added to Adam's denominator. Some gradients are zero up to rounding (a key's bias shifts every logit of a softmax
alike); with PyTorch's 1e-8 Adam turns rounding into full steps, which depend on the order of summation."""


BF16_UNITS, BF16_WIDTH = "amx_bf16", 256
"""On a CPU, `auto` takes bf16 with these instructions from this width on. Measured on an AMX core: STALE at full size,
width 512, trains with 32 videos a second in place of 17. Narrow networks gain nothing: casts take the time."""


class Optimization:
    """Optimizer, gradient scaler and moving average of a model under training.

    Args:
        model: on its device.
        config: optimizer, rates, clipping.
        device: where the model is.
        steps_per_epoch: number of global batches an epoch.
    """

    def __init__(
        self, model: TrainingModel, config: TrainConfig, *, device: torch.device, steps_per_epoch: int
    ) -> None:
        self._model = model
        self._config = config
        self._steps_per_epoch = steps_per_epoch
        self._parameters = [weight for weight in model.parameters() if weight.requires_grad]
        self.optimizer = _optimizer(model, self._parameters, config)
        self.scaler = torch.amp.GradScaler(device.type, enabled=model.mixed is torch.float16)

    def resume(self, state: RunState) -> None:
        """Go on from the state of a run; its scaler is empty where that run had none, for example on a CPU."""
        self.optimizer.load_state_dict(state.optimizer)
        if state.scaler:
            self.scaler.load_state_dict(state.scaler)

    def set_learning_rate(self, epoch: int, step: int) -> float:
        """Set the learning rate of a step, counted from 0, of an epoch, counted from 1; gives it."""
        config = self._config
        if config.schedule == "constant":
            return config.learning_rate
        rate = warmup_cosine(
            (epoch - 1) * self._steps_per_epoch + step,
            base=config.learning_rate,
            warmup_steps=config.warmup_epochs * self._steps_per_epoch,
            steps=config.epochs * self._steps_per_epoch,
        )
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        return rate

    def step(self, loss: Tensor, *, where: str) -> float:
        """Take one step; gives the norm of the gradient before clipping. In fp16 a step that overflows is skipped.

        Raises:
            TrainingError: the gradient is not finite; the message begins with `where`.
        """
        self.optimizer.zero_grad(set_to_none=True)
        cast(Any, self.scaler.scale(loss)).backward()
        self.scaler.unscale_(self.optimizer)
        norm = float(torch.nn.utils.clip_grad_norm_(self._parameters, self._config.gradient_clip))
        if not math.isfinite(norm) and not self.scaler.is_enabled():
            raise TrainingError(f"{where}: the gradient is not finite ({norm})")
        self.scaler.step(self.optimizer)  # skipped where the gradient is not finite
        self.scaler.update()
        if self._model.average is not None and math.isfinite(norm):
            self._model.average.update(self._model.detector)
        return norm


def mixed_precision(
    config: TrainConfig, device: torch.device, model: ModelSettings | None = None
) -> torch.dtype | None:
    """Choose the type of matrix products; None is fp32.

    Args:
        config: its `precision` is a choice, or `auto`.
        device: where training runs.
        model: settings of the network, which `auto` looks at on a CPU; None: fp32 there.

    Raises:
        ConfigError: fp16 was asked for on a CPU, which has no fast fp16 to train with.
    """
    if config.precision == "auto":
        if device.type != "cuda":
            return torch.bfloat16 if _gains_from_bf16(model) else None
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    if config.precision == "fp16" and device.type == "cpu":
        raise ConfigError("train.precision=fp16 needs a CUDA device; on a CPU use fp32 or bf16")
    return {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}[config.precision]


def precision_note(config: TrainConfig, mixed: torch.dtype | None, device: torch.device) -> tuple[str, ...]:
    """Say that `auto` chose bf16 on a CPU; nothing else needs saying."""
    if config.precision != "auto" or device.type != "cpu" or mixed is None:
        return ()
    return ("matrix products ran in bf16, which this CPU's AMX units do faster; train.precision=fp32 switches it off",)


def _gains_from_bf16(model: ModelSettings | None) -> bool:
    """Say whether bf16 trains faster on this CPU: with AMX, and a network wide enough for products to take the time."""
    wide = isinstance(model, ModelConfig) and model.embed_dim >= BF16_WIDTH
    return wide and BF16_UNITS in (instruction_sets() or ())


def _optimizer(model: nn.Module, parameters: list[nn.Parameter], config: TrainConfig) -> torch.optim.Optimizer:
    if config.optimizer == "adamw":
        groups: list[dict[str, Any]] = decay_groups(model, weight_decay=config.weight_decay)
        return torch.optim.AdamW(groups, lr=config.learning_rate)
    return torch.optim.Adam(parameters, lr=config.learning_rate, weight_decay=config.weight_decay, eps=ADAM_EPS)
