"""What runs a visual encoder's file: ONNX Runtime or OpenVINO on the CPU, behind one function."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from stale_edge.config.runtimes import PRECISIONS, file_for
from stale_edge.errors import BundleError, MissingExtraError
from stale_edge.runtime.onnx_session import open_session
from stale_edge.segments import FloatArray

PIXELS, FEATURES = "pixel_values", "image_embeds"
RUNTIMES = ("onnxruntime", "openvino")
_NEEDS_BF16 = ("bf16", "int8-bf16")

Tensors = Sequence[tuple[str, list[int]]]
"""Names of inputs or outputs, with their sizes after the first axis."""


@dataclass(frozen=True)
class EncoderRun:
    """How an encoder file is run.

    threads: CPU threads of one call, >= 1.
    at_once: number of threads that call at the same time, >= 1; more may, and then wait.
    device: as in `load_bundle`.
    """

    runtime: str = "onnxruntime"
    precision: str = "fp32"
    threads: int = 1
    at_once: int = 1
    device: str = "cpu"


class EncoderEngine(NamedTuple):
    """An opened encoder file.

    inputs, outputs: as the file itself says.
    provider: what computes, as ONNX Runtime names it; OpenVINO's is `openvino`.
    run: (N, 3, height, width) float32 to (N, C) float32; several threads may call it.
    """

    inputs: Tensors
    outputs: Tensors
    provider: str
    run: Callable[[FloatArray], FloatArray]


def encoder_file_precision(runtime: str, precision: str) -> str:
    """Name the precision of the file that a runtime runs in a precision.

    Raises:
        BundleError: encoders do not run so; the message lists what is possible.
    """
    if runtime not in RUNTIMES:
        raise BundleError(f"visual encoders run with {', '.join(RUNTIMES)}; got {runtime!r}")
    return file_for(runtime, precision)[1]


def open_engine(path: Path, how: EncoderRun) -> EncoderEngine:
    """Open an encoder file, the one that `encoder_file_precision` names.

    Raises:
        BundleError: the runtime cannot load it, or this CPU has no units for the precision.
        DeviceError: a GPU is asked for and cannot be used.
        MissingExtraError: the runtime is not installed.
    """
    encoder_file_precision(how.runtime, how.precision)
    if how.runtime == "openvino":
        return _openvino(path, how)
    session = open_session(path, threads=how.threads, device=how.device)
    return EncoderEngine(
        [(value.name, list(value.shape[1:])) for value in session.get_inputs()],
        [(value.name, list(value.shape[1:])) for value in session.get_outputs()],
        str(session.get_providers()[0]),
        lambda pixels: np.asarray(session.run([FEATURES], {PIXELS: pixels})[0]),
    )


def has_bf16() -> bool:
    """Say whether OpenVINO finds bf16 units in this CPU; it emulates them elsewhere, 30 times slower than float32."""
    from stale_edge.runtime.openvino_backend import openvino_core

    return "BF16" in openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _openvino(path: Path, how: EncoderRun) -> EncoderEngine:
    precision = how.precision
    try:
        from stale_edge.runtime.openvino_backend import cpu_settings, openvino_core

        core = openvino_core()
    except ImportError as error:
        raise MissingExtraError(
            'the encoder runtime "openvino" needs openvino: pip install "stale-edge[openvino]", or use "onnxruntime"'
        ) from error
    if precision in _NEEDS_BF16 and not has_bf16():
        raise BundleError(
            f"this CPU has no bf16 units, and OpenVINO emulates them 30 times slower than float32; got encoder "
            f"precision {precision}; use openvino with fp32 or int8-static, or onnxruntime with fp32 or int8"
        )
    settings = cpu_settings(precision, how.threads * how.at_once) | {"NUM_STREAMS": how.at_once}
    if PRECISIONS[precision].products == "fp32":
        settings["DYNAMIC_QUANTIZATION_GROUP_SIZE"] = 0
    try:
        model = core.read_model(str(path))
        inputs, outputs = _shapes(model.inputs), _shapes(model.outputs)
        # One picture a call: a fixed shape is faster than a free one, and a CPU gains nothing from more.
        model.reshape({PIXELS: [1, *inputs[0][1]]})
        compiled = core.compile_model(model, "CPU", settings)
    except RuntimeError as error:
        raise BundleError(f"{path}: OpenVINO cannot load it: {error}") from error
    requests = threading.local()

    def run(pixels: FloatArray) -> FloatArray:
        if not hasattr(requests, "request"):
            requests.request = compiled.create_infer_request()
        rows = []
        for i in range(len(pixels)):
            requests.request.infer({PIXELS: pixels[i : i + 1]})
            rows.append(np.array(requests.request.get_tensor(FEATURES).data, dtype=np.float32))
        return np.concatenate(rows)

    return EncoderEngine(inputs, outputs, "openvino", run)


def _shapes(ports: Any) -> list[tuple[str, list[int]]]:
    return [
        (port.get_any_name(), [int(size.get_length()) for size in list(port.get_partial_shape())[1:]]) for port in ports
    ]
