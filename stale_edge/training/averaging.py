"""An exponential moving average of a network's weights; the average is deployed."""

import copy

import torch
from torch import Tensor, nn


class WeightAverage(nn.Module):
    """Keep a slowly moving copy of a module: average = decay * average + (1 - decay) * weights after every step.

    The copy starts as the module itself; there is no correction for the start. Buffers move too, integers are copied.

    Args:
        module: the trained module.
        decay: in [0, 1).
    """

    def __init__(self, module: nn.Module, *, decay: float) -> None:
        super().__init__()
        if not 0 <= decay < 1:
            raise ValueError(f"decay must be a number in [0, 1); got {decay}")
        self.decay = decay
        self.module = copy.deepcopy(module).requires_grad_(False).eval()

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Move the average towards the present weights."""
        present: dict[str, Tensor] = module.state_dict()
        for name, average in self.module.state_dict().items():
            if average.is_floating_point():
                average.mul_(self.decay).add_(present[name], alpha=1 - self.decay)
            else:
                average.copy_(present[name])
