"""Which weights decay: those that multiply channels, but no bias, norm, scale or position."""

from typing import Any

from torch import nn


def decay_groups(model: nn.Module, *, weight_decay: float) -> list[dict[str, Any]]:
    """Split the trained parameters into two groups for an optimizer.

    Weights of linear layers and convolutions decay, and those that a module lists in `decayed`.
    """
    decayed: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for module in model.modules():
        own = ("weight",) if isinstance(module, nn.Linear | nn.Conv1d) else getattr(module, "decayed", ())
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.requires_grad:
                (decayed if name in own else others).append(parameter)
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
