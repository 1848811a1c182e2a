"""What runs a detector file: ONNX Runtime, or libtorch for TorchScript. Each is imported when it is first opened."""

import importlib
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from stale_edge.bundle import TensorSpec
from stale_edge.errors import BundleError, MissingExtraError
from stale_edge.segments import FloatArray

_ORT_DTYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(double)": "float64"}


class Backend(Protocol):
    """One opened detector file; `run` may be called from many threads at once.

    inputs, outputs: what the file itself says it takes and gives; None where the format does not say.
    metadata: what the file says of itself beside the graph (`metadata_props` of ONNX), else empty.
    """

    inputs: tuple[TensorSpec, ...] | None
    outputs: tuple[TensorSpec, ...] | None
    metadata: Mapping[str, str]

    def run(self, features: FloatArray, class_embeddings: FloatArray) -> dict[str, FloatArray]:
        """Run (B, T, C) features and (K, D) class embeddings, both float32, through the detector."""
        ...


def open_backend(path: Path, *, runtime: str, threads: int = 1) -> Backend:
    """Open a detector file with a runtime of this package.

    Args:
        path: `.onnx` or TorchScript file.
        runtime: `onnxruntime` or `torchscript`.
        threads: CPU threads inside an operator, >= 1. Opening a TorchScript file sets
            torch's thread count, which is the whole process'.

    Raises:
        ValueError: an unknown runtime, or threads < 1.
        BundleError: the runtime cannot read the file.
        MissingExtraError: TorchScript without torch.
    """
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
        raise ValueError(f"threads must be an integer >= 1; got {threads!r}")
    if runtime not in RUNTIMES:
        raise ValueError(f"runtime must be one of {', '.join(RUNTIMES)}; got {runtime!r}")
    return RUNTIMES[runtime](Path(path), threads)


class OnnxBackend:
    """ONNX Runtime on the CPU: one session, `threads` threads, no busy waiting between calls."""

    def __init__(self, path: Path, threads: int) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = 3
        # A device that waits for the next video must not burn a core while waiting.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry("session.inter_op.allow_spinning", "0")
        try:
            self._session: Any = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's exceptions share no base but Exception
            raise BundleError(f"{path}: ONNX Runtime {ort.__version__} cannot load it: {error}") from error
        self.inputs: tuple[TensorSpec, ...] | None = _specs(self._session.get_inputs())
        self.outputs: tuple[TensorSpec, ...] | None = _specs(self._session.get_outputs())
        self.metadata: Mapping[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)
        self._names = [spec.name for spec in self.outputs]

    def run(self, features: FloatArray, class_embeddings: FloatArray) -> dict[str, FloatArray]:
        """Run the session; ONNX Runtime allows concurrent calls."""
        values = self._session.run(self._names, {"features": features, "class_embeddings": class_embeddings})
        return dict(zip(self._names, values, strict=True))


class TorchScriptBackend:
    """libtorch on the CPU. The module's `forward(features, class_embeddings)` returns the outputs as a tuple."""

    NAMES = ("class_logits", "masks", "foreground")

    def __init__(self, path: Path, threads: int) -> None:
        try:
            torch: Any = importlib.import_module("torch")
        except ImportError as error:
            raise MissingExtraError(
                'runtime="torchscript" needs torch: pip install "stale-edge[train]", or use runtime="onnxruntime"'
            ) from error
        self._torch = torch
        torch.set_num_threads(threads)
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message=".*torch.jit", category=DeprecationWarning)
                self._module: Any = torch.jit.load(str(path), map_location="cpu").eval()
        except (RuntimeError, ValueError) as error:
            raise BundleError(f"{path}: torch {torch.__version__} cannot load it: {error}") from error
        self.inputs: tuple[TensorSpec, ...] | None = None
        self.outputs: tuple[TensorSpec, ...] | None = None
        self.metadata: Mapping[str, str] = {}

    def run(self, features: FloatArray, class_embeddings: FloatArray) -> dict[str, FloatArray]:
        """Run the module without gradients."""
        torch = self._torch
        with torch.inference_mode():
            # torch has no read-only tensors and warns of read-only arrays; the module does not write to its inputs.
            values = self._module(*(torch.from_numpy(_writable(x)) for x in (features, class_embeddings)))
        if not isinstance(values, tuple) or len(values) != len(self.NAMES):
            raise BundleError(
                f"a TorchScript detector must return {', '.join(self.NAMES)}; got {type(values).__name__}"
            )
        return {name: np.asarray(value.numpy()) for name, value in zip(self.NAMES, values, strict=True)}


RUNTIMES: Mapping[str, Callable[[Path, int], Backend]] = {
    "onnxruntime": OnnxBackend,
    "torchscript": TorchScriptBackend,
}


def _specs(nodes: Any) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(node.name, _ORT_DTYPES.get(node.type, str(node.type)), tuple(size or "?" for size in node.shape))
        for node in nodes
    )


def _writable(array: FloatArray) -> FloatArray:
    return array if array.flags.writeable else array.copy()
