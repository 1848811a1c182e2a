"""Sessions of ONNX Runtime, on the CPU or a GPU."""

from pathlib import Path
from typing import Any

from stale_edge.errors import BundleError
from stale_edge.runtime.devices import import_onnxruntime, providers_for, require_provider


def open_session(model: Path | bytes, *, threads: int, name: str | None = None, device: str = "cpu") -> Any:
    """Open an ONNX model: `threads` threads, no busy waiting between calls.

    Args:
        model: a file, or its bytes.
        threads: CPU threads inside an operator, >= 1.
        name: name of the model in errors; None: the file.
        device: `cpu`, `cuda`, `tensorrt`, or `auto`, a GPU where one can be used.

    Raises:
        BundleError: ONNX Runtime cannot load it.
        DeviceError: a GPU is asked for and cannot be used.
        MissingExtraError: onnxruntime is not installed.
    """
    ort = import_onnxruntime()
    providers = list(providers_for(device))
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3
    # A device that waits for the next video must not keep a core busy.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    source = model if isinstance(model, bytes) else str(model)
    try:
        session = ort.InferenceSession(source, options, providers=providers)
    except Exception as error:  # onnxruntime's exceptions share no base but Exception
        label = name or (model if isinstance(model, Path) else "the model")
        raise BundleError(f"{label}: ONNX Runtime {ort.__version__} cannot load it: {error}") from error
    require_provider(session, device)
    return session
