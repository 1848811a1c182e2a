"""The detector and the matrix product in eager PyTorch, inside the measuring process."""

from collections.abc import Callable

import torch

from stale_edge.benchmarking.jobs import Job, Workload
from stale_edge.benchmarking.torch_rows.detectors import (
    InPrecision,
    build_detector,
    call_of,
    network_of,
    random_inputs,
    set_threads,
    weight_bytes,
)
from stale_edge.model.folding import fold_detector
from stale_edge.segments import FloatArray


def detector_workload(job: Job) -> Workload:
    """Run the folded detector."""
    set_threads(job.threads)
    network = network_of(job)
    detector = fold_detector(build_detector(network, seed=job.seed)).to(job.device)
    if job.precision == "fp16":
        detector = InPrecision(detector, torch.float16)
    inputs = (tensor.to(job.device) for tensor in random_inputs(job, network))
    return Workload(call_of(detector, *inputs), weight_bytes(detector))


def product_call(job: Job, left: FloatArray, right: FloatArray) -> Callable[[], object]:
    """Multiply two square matrices in the job's precision on its device."""
    torch.set_num_threads(job.threads)
    dtype = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(job.precision, torch.float32)
    a, b = (torch.from_numpy(array).to(job.device, dtype) for array in (left, right))
    result = torch.empty_like(a)
    return lambda: torch.mm(a, b, out=result)
