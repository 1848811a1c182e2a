"""PyTorch's compilers torch.compile and AOTInductor on the detector, folded or not, inside the measuring process.

Both run TorchInductor's C++ code for this processor, with weights as constants (`freezing`), for one length and a batch
of one, on as many threads as the row has. Autotuned products (`max_autotune`) were no faster on a CPU.
"""

import dataclasses
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch._inductor import aoti_compile_and_package, aoti_load_package

from stale_edge.benchmarking.jobs import Job, Workload
from stale_edge.benchmarking.output_check import class_axis, compare_outputs
from stale_edge.benchmarking.torch_rows.detectors import (
    ForDecoding,
    InPrecision,
    build_detector,
    call_of,
    network_of,
    random_inputs,
    read_outputs,
    set_threads,
    weight_bytes,
    written_out_attention,
)
from stale_edge.errors import StaleEdgeError
from stale_edge.model.detector import Detector
from stale_edge.model.folding import fold_detector

OPTIONS: dict[str, Any] = {"freezing": True}
Inputs = tuple[Tensor, Tensor]


def compiled_workload(job: Job) -> Workload:
    """Run the detector, folded or as trained, for the outputs that decoding reads: compiled, or eager in bf16."""
    set_threads(job.threads)
    network, about = network_of(job), dict[str, float]()
    inputs = random_inputs(job, network)
    if job.artifact and job.variant == "detector":
        forward, n_bytes = load_package(Path(job.artifact)), Path(job.artifact).stat().st_size
    else:
        trained = build_detector(network, seed=job.seed)
        detector = trained if job.variant == "as-trained" else fold_detector(trained)
        forward, about = build_peer(job, detector, trained, inputs)
        n_bytes = weight_bytes(detector)
    return Workload(call_of(forward, *inputs), n_bytes, about)


def build_peer(job: Job, detector: nn.Module, trained: nn.Module, inputs: Inputs) -> tuple[Any, dict[str, float]]:
    """Compile a detector, and compare its outputs with those of the trained detector in eager fp32.

    Args:
        job: compiler, precision and scratch folder.
        detector: what is run, fp32, on the CPU.
        trained: the detector as trained, not folded.
        inputs: features (1, T, C) and class embeddings (K, D).

    Returns:
        forward: takes `inputs`, returns the outputs that decoding reads, float32.
        about: `compile_seconds` (except for eager) and the fields of `Agreement`.

    Raises:
        StaleEdgeError: there is no working C++ compiler, PyTorch cannot compile the detector, or its outputs are wrong.
    """
    decoded = cast(Detector, trained)
    reads, axis = read_outputs(decoded), class_axis(decoded.output_specs())
    expected = _arrays(ForDecoding(trained, reads).eval(), inputs, reads)
    module: nn.Module = ForDecoding(detector, reads).eval()
    about: dict[str, float] = {}
    if job.precision == "bf16":
        module = InPrecision(module, torch.bfloat16).eval()
    forward: Callable[..., Any] = module
    started = time.perf_counter()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the compilers warn about torch's own code
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
    found = compare_outputs(
        expected, _arrays(forward, inputs, reads), axis=axis, precision=job.precision, what=job.runtime
    )
    return forward, about | dataclasses.asdict(found)


def load_package(path: Path) -> Any:
    """Load a file compiled by AOTInductor."""
    return aoti_load_package(str(path))


def _package(module: nn.Module, inputs: Inputs, job: Job) -> Any:
    # torch.compile writes attention out by itself. AOTInductor by default uses the fused kernel, which is slower for
    # heads as wide as these.
    with torch.no_grad(), written_out_attention():
        program = torch.export.export(module, inputs).run_decompositions()
        aoti_compile_and_package(program, package_path=job.artifact, inductor_configs=OPTIONS)
    return load_package(Path(job.artifact))


def _arrays(forward: Callable[..., Any], inputs: Inputs, reads: Sequence[str]) -> dict[str, Any]:
    with torch.inference_mode():
        return {name: tensor.numpy().copy() for name, tensor in zip(reads, forward(*inputs), strict=True)}


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else "no message"
