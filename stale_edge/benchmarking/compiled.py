"""PyTorch's compilers on the folded detector, inside the process that times it: torch.compile and AOTInductor.

Both run TorchInductor's C++ code for this processor, with weights as constants (`freezing`), for one length and a batch
of one, on as many threads as the row has. Autotuned products (`max_autotune`) were no faster on a CPU.
"""

import dataclasses
import os
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stale_edge.benchmarking.agreement import compare_outputs
from stale_edge.benchmarking.artifacts import for_decoding
from stale_edge.benchmarking.jobs import Job
from stale_edge.benchmarking.reference import written_out_attention
from stale_edge.errors import StaleEdgeError

if TYPE_CHECKING:
    from torch import Tensor, nn

OPTIONS: dict[str, Any] = {"freezing": True}
Inputs = tuple["Tensor", "Tensor"]


def prepare_compilers(job: Job) -> None:
    """Tell the compilers where to write and to start no processes of their own; before torch is imported."""
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = job.scratch
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"


def build_peer(job: Job, detector: "nn.Module", trained: "nn.Module", inputs: Inputs) -> tuple[Any, dict[str, float]]:
    """Compile a detector, and hold what comes out against the trained detector in eager fp32.

    Args:
        job: names compiler, precision and scratch folder.
        detector: folded, fp32, on the CPU.
        trained: the same before it was folded.
        inputs: features (1, T, C) and class embeddings (K, D).

    Returns:
        forward: takes `inputs`, gives class logits and masks, float32.
        about: `compile_seconds` (but for eager) and what `Agreement` holds.

    Raises:
        StaleEdgeError: there is no working C++ compiler, PyTorch cannot compile the detector, or its outputs are wrong.
    """
    import torch

    expected = _arrays(for_decoding(trained), inputs)
    module, about = for_decoding(detector), dict[str, float]()
    if job.precision == "bf16":
        module = in_bf16(module)
    forward: Callable[..., Any] = module
    started = time.perf_counter()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the compilers' remarks on torch's own code
            if job.runtime == "torch-compile":
                forward = torch.compile(module, backend="inductor", dynamic=False, fullgraph=True, options=OPTIONS)
                with torch.inference_mode():
                    forward(*inputs)
            elif job.runtime == "aot-inductor":
                forward = _package(module, inputs, job)
    except (RuntimeError, OSError, ValueError) as error:
        raise StaleEdgeError(f"{job.runtime} failed: {type(error).__name__}: {_first_line(error)}") from error
    if job.runtime != "pytorch":
        about["compile_seconds"] = time.perf_counter() - started
    seen = compare_outputs(expected, _arrays(forward, inputs), precision=job.precision, what=job.runtime)
    return forward, about | dataclasses.asdict(seen)


def load_package(path: Path) -> Any:
    """Load what AOTInductor compiled."""
    from torch._inductor import aoti_load_package

    return aoti_load_package(str(path))


def in_bf16(module: "nn.Module") -> "nn.Module":
    """Run a module in bf16 between float32 inputs and outputs."""
    import torch
    from torch import nn

    class Bf16(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = module.bfloat16()

        def forward(self, features: "Tensor", class_embeddings: "Tensor") -> "tuple[Tensor, ...]":
            outputs = self.module(features.to(torch.bfloat16), class_embeddings.to(torch.bfloat16))
            return tuple(tensor.float() for tensor in outputs)

    return Bf16().eval()


def _package(module: "nn.Module", inputs: Inputs, job: Job) -> Any:
    import torch
    from torch._inductor import aoti_compile_and_package

    # torch.compile writes attention out by itself; left alone, AOTInductor takes the fused kernel, which is slower with
    # heads as wide as these.
    with torch.no_grad(), written_out_attention():
        program = torch.export.export(module, inputs).run_decompositions()
        aoti_compile_and_package(program, package_path=job.artifact, inductor_configs=OPTIONS)
    return load_package(Path(job.artifact))


def _arrays(forward: Callable[..., Any], inputs: Inputs) -> list[Any]:
    import torch

    with torch.inference_mode():
        return [tensor.numpy().copy() for tensor in forward(*inputs)]


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else "no message"
