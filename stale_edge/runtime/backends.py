"""The table of runtimes: what runs a detector file, in which precisions, and which of a bundle's files it takes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from stale_edge.bundle import TensorSpec
from stale_edge.errors import BundleError
from stale_edge.runtime.onnxruntime_backend import OnnxRuntimeBackend
from stale_edge.runtime.openvino_backend import OpenVinoBackend
from stale_edge.runtime.torch_export_backend import TorchExportBackend
from stale_edge.runtime.torchscript_backend import TorchScriptBackend
from stale_edge.segments import FloatArray


class Backend(Protocol):
    """One opened detector file; `run` may be called from many threads at once.

    inputs, outputs: what it takes and gives, as the file itself says; None where the format does not say. One opened
        for some classes may take no `class_embeddings` any more.
    metadata: what the file says of itself beside the graph (`metadata_props` of ONNX), else empty.
    """

    inputs: tuple[TensorSpec, ...] | None
    outputs: tuple[TensorSpec, ...] | None
    metadata: Mapping[str, str]

    def run(self, features: FloatArray, class_embeddings: FloatArray) -> dict[str, FloatArray]:
        """Run (B, T, C) features and (K, D) class embeddings, both float32, through the detector."""
        ...


class _OpensFile(Protocol):
    def __call__(
        self,
        path: Path,
        *,
        precision: str,
        threads: int,
        outputs: Sequence[str] | None,
        class_embeddings: FloatArray | None,
    ) -> Backend: ...


@dataclass(frozen=True)
class Runtime:
    """How this package runs detectors with one runtime."""

    opens: _OpensFile
    files: str
    """The runtime that the manifest names for the files it takes."""
    precisions: Mapping[str, str]
    """Precision that can be asked for -> precision of the file that is run in it."""


_AS_STORED = {precision: precision for precision in ("fp32", "fp16", "int8")}
_OPENVINO = {"fp32": "fp32", "bf16": "fp32", "int8-static": "int8-static", "int8-bf16": "int8-static"}

RUNTIMES: Mapping[str, Runtime] = {
    "onnxruntime": Runtime(OnnxRuntimeBackend, "onnxruntime", {**_AS_STORED, "int8-static": "int8-static"}),
    "openvino": Runtime(OpenVinoBackend, "onnxruntime", _OPENVINO),
    "torchscript": Runtime(TorchScriptBackend, "torchscript", _AS_STORED),
    "torch-export": Runtime(TorchExportBackend, "torch-export", {"fp32": "fp32"}),
}


def runtime_of(runtime: str, precision: str) -> Runtime:
    """Find a runtime that can run detectors in a precision.

    Raises:
        BundleError: an unknown runtime, or one that does not run this precision; what there is, is listed.
    """
    found = RUNTIMES.get(runtime)
    if found is None:
        raise BundleError(f"stale-edge runs detectors with {', '.join(RUNTIMES)}; got {runtime!r}")
    if precision not in found.precisions:
        raise BundleError(f"{runtime} runs detectors in {', '.join(found.precisions)}; got {precision!r}")
    return found


def open_backend(
    path: Path,
    *,
    runtime: str,
    precision: str = "fp32",
    threads: int = 1,
    outputs: Sequence[str] | None = None,
    class_embeddings: FloatArray | None = None,
) -> Backend:
    """Open a detector file with a runtime of this package.

    Args:
        path: `.onnx` or TorchScript file, in the precision that the table names for `precision`.
        runtime, precision: a row of the table.
        threads: CPU threads inside an operator, >= 1. Opening a TorchScript file sets
            torch's thread count, which is the whole process'.
        outputs: what will be read; what only other outputs need is not even loaded, where the runtime allows it.
            None: all.
        class_embeddings: (K, D) float32 that every call will be given: what depends on them alone is computed now,
            where the runtime allows it. None: they may differ from call to call.

    Raises:
        ValueError: threads < 1.
        BundleError: no such row, or the runtime cannot read the file.
        MissingExtraError: the runtime is not installed.
    """
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
        raise ValueError(f"threads must be an integer >= 1; got {threads!r}")
    opens = runtime_of(runtime, precision).opens
    return opens(Path(path), precision=precision, threads=threads, outputs=outputs, class_embeddings=class_embeddings)
