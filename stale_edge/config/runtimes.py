"""The one table of runtimes and precisions: what runs a detector file, and in which number types."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from stale_edge.errors import BundleError, shown

Precision = Literal["fp32", "fp16", "bf16", "int8", "int8-static", "int8-bf16"]
NumberType = Literal["fp32", "fp16", "bf16", "int8"]
FileFormat = Literal["onnx", "torchscript", "pt2"]


@dataclass(frozen=True)
class Numbers:
    """What a precision means."""

    file: Precision
    """Precision of the detector file."""
    products: NumberType
    """Number type of the matrix products with weights."""
    rest: NumberType
    """Number type of everything else, as far as the runtime can compute in it."""


PRECISIONS: Mapping[str, Numbers] = {
    "fp32": Numbers("fp32", products="fp32", rest="fp32"),
    "fp16": Numbers("fp16", products="fp16", rest="fp32"),
    "bf16": Numbers("fp32", products="bf16", rest="bf16"),
    "int8": Numbers("int8", products="int8", rest="fp32"),
    "int8-static": Numbers("int8-static", products="int8", rest="fp32"),
    "int8-bf16": Numbers("int8-static", products="int8", rest="bf16"),
}

MANIFEST_RUNTIMES: Mapping[FileFormat, str] = {
    "onnx": "onnxruntime",
    "torchscript": "torchscript",
    "pt2": "torch-export",
}
"""Format of a detector file -> the runtime that a bundle's manifest names for it."""


@dataclass(frozen=True)
class Runtime:
    """Which files a runtime opens, and the precisions it runs them in."""

    format: FileFormat
    precisions: tuple[Precision, ...]
    """Precisions on the CPU."""
    on_cuda: tuple[Precision, ...] = ()
    """Precisions on a GPU."""


RUNTIMES: Mapping[str, Runtime] = {
    "onnxruntime": Runtime("onnx", ("fp32", "fp16", "int8", "int8-static"), on_cuda=("fp32", "fp16")),
    "openvino": Runtime("onnx", ("fp32", "bf16", "int8-static", "int8-bf16")),
    "torchscript": Runtime("torchscript", ("fp32", "fp16", "int8"), on_cuda=("fp32", "fp16")),
    "torch-export": Runtime("pt2", ("fp32",)),
}


def file_for(runtime: str, precision: str) -> tuple[str, Precision]:
    """Find the detector file that a runtime runs in a precision.

    Returns:
        runtime, precision: as the bundle's manifest names the file.

    Raises:
        BundleError: the runtime is unknown or does not run this precision; the message lists what is possible.
    """
    found = RUNTIMES.get(runtime)
    if found is None:
        raise BundleError(f"stale-edge runs detectors with {', '.join(RUNTIMES)}; got {shown(runtime)}")
    if precision not in found.precisions:
        raise BundleError(f"{runtime} runs detectors in {', '.join(found.precisions)}; got {shown(precision)}")
    return MANIFEST_RUNTIMES[found.format], PRECISIONS[precision].file
