"""Measurements on a CUDA device."""

from collections.abc import Callable
from pathlib import Path

import torch

from stale_edge.bundle import ClassBank
from stale_edge.segments import FloatArray


def has_cuda() -> bool:
    """Check whether PyTorch can use a CUDA device."""
    return torch.cuda.is_available()


def cuda_name() -> str:
    """Name the CUDA device that PyTorch uses."""
    return str(torch.cuda.get_device_name())


def cuda_seconds(call: Callable[[], object]) -> float:
    """Time one call between two CUDA events, after all earlier work is done."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    torch.cuda.synchronize()
    start.record()
    call()
    end.record()
    torch.cuda.synchronize()
    return float(start.elapsed_time(end)) / 1000


def peak_device_bytes() -> int:
    """Return the peak device memory that this process allocated, in bytes."""
    return int(torch.cuda.max_memory_allocated())


def torchscript_call(file: Path, bank: ClassBank, features: FloatArray) -> Callable[[], object]:
    """Open a TorchScript detector on the CUDA device; the call runs features (T, C) with the bank's classes."""
    script = torch.jit.load(str(file), map_location="cuda").eval()  # type: ignore[no-untyped-call]
    inputs = torch.from_numpy(features)[None].cuda(), torch.from_numpy(bank.embeddings).cuda()

    def call() -> object:
        with torch.inference_mode():
            return script(*inputs)

    return call
