"""ONNX Runtime on the CPU."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stale_edge.bundle import TensorSpec
from stale_edge.bundle.onnx_outputs import with_outputs
from stale_edge.errors import BundleError
from stale_edge.segments import FloatArray

_DTYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(double)": "float64"}


def open_session(model: Path | bytes, *, threads: int, name: str | None = None) -> Any:
    """Open an ONNX model: `threads` threads, no busy waiting between calls.

    Args:
        model: a file, or its bytes.
        threads: CPU threads inside an operator, >= 1.
        name: what an error calls the model; None: the file.

    Raises:
        BundleError: ONNX Runtime cannot load it.
    """
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
    source = model if isinstance(model, bytes) else str(model)
    try:
        return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's exceptions share no base but Exception
        label = name or (model if isinstance(model, Path) else "the model")
        raise BundleError(f"{label}: ONNX Runtime {ort.__version__} cannot load it: {error}") from error


class OnnxRuntimeBackend:
    """One session; ONNX Runtime allows concurrent calls."""

    def __init__(self, path: Path, *, precision: str, threads: int, outputs: Sequence[str] | None) -> None:
        del precision  # the file is in it
        model = path if outputs is None else with_outputs(path, outputs)
        self._session = open_session(model, threads=threads, name=str(path))
        self.inputs: tuple[TensorSpec, ...] | None = _specs(self._session.get_inputs())
        self.outputs: tuple[TensorSpec, ...] | None = _specs(self._session.get_outputs())
        self.metadata: Mapping[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)
        self._names = [spec.name for spec in self.outputs]

    def run(self, features: FloatArray, class_embeddings: FloatArray) -> dict[str, FloatArray]:
        """Run the session."""
        values = self._session.run(self._names, {"features": features, "class_embeddings": class_embeddings})
        return dict(zip(self._names, values, strict=True))


def _specs(nodes: Any) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(node.name, _DTYPES.get(node.type, str(node.type)), tuple(size or "?" for size in node.shape))
        for node in nodes
    )
