"""Dropout that does not depend on how many processes share a batch."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode


class GlobalBatchDropout(TorchFunctionMode):
    """Draw dropout for the whole global batch and use the rows of this process' videos.

    With equal seeds every process then drops what one process with the whole batch would have dropped, bit for bit on a
    CPU, so a run gives the same result on any number of processes. Each process draws B masks instead of B / processes.
    Tensors whose first axis is not this process' batch are shared by all videos; they are drawn as they are.

    Args:
        rows: (b,) this process' rows in the global batch, b >= 2.
        batch_size: B.
    """

    def __init__(self, rows: Sequence[int], *, batch_size: int) -> None:
        super().__init__()
        self.rows = torch.tensor(rows)
        self.batch_size = batch_size

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.dropout:
            return self._dropout(*args, **kwargs)
        if func is F.scaled_dot_product_attention and kwargs.get("dropout_p", 0.0) > 0.0:
            return self._attention(*args, **kwargs)
        return func(*args, **kwargs)

    def _dropout(self, input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        if inplace:
            raise ValueError("dropout in place is not supported with several processes; use inplace=False")
        if not training or p == 0.0:
            return input
        shared = input.shape[0] != len(self.rows)
        shape = input.shape if shared else (self.batch_size, *input.shape[1:])
        kept = torch.empty(shape, dtype=input.dtype, device=input.device).bernoulli_(1 - p).div_(1 - p)
        return input * (kept if shared else kept[self.rows.to(kept.device)])

    def _attention(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        *,
        attn_mask: Tensor | None = None,
        dropout_p: float,
        scale: float | None = None,
    ) -> Tensor:
        logits = query @ key.transpose(-1, -2) * (query.shape[-1] ** -0.5 if scale is None else scale)
        if attn_mask is not None:
            logits = logits + attn_mask
        return self._dropout(logits.softmax(dim=-1), dropout_p) @ value
