"""The classes that open and run a detector file, one for each runtime."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from stale_edge.bundle import TensorSpec
from stale_edge.config.runtimes import file_for
from stale_edge.runtime.devices import ONE_THREAD, Processor, checked_device
from stale_edge.runtime.onnxruntime_backend import OnnxRuntimeBackend
from stale_edge.runtime.openvino_backend import OpenVinoBackend
from stale_edge.runtime.torch_export_backend import TorchExportBackend
from stale_edge.runtime.torchscript_backend import TorchScriptBackend
from stale_edge.segments import FloatArray


class Backend(Protocol):
    """One opened detector file; `run` may be called from many threads at once.

    inputs, outputs: its tensors, as the file itself says; None where the format does not say. A file opened with fixed
        class embeddings may take no `class_embeddings` any more.
    metadata: the file's own key-value pairs (`metadata_props` of ONNX), else empty.
    provider: what computes, for example ONNX Runtime's `CUDAExecutionProvider`.
    """

    inputs: tuple[TensorSpec, ...] | None
    outputs: tuple[TensorSpec, ...] | None
    metadata: Mapping[str, str]
    provider: str

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
        device: str,
    ) -> Backend: ...


_OPENERS: Mapping[str, _OpensFile] = {
    "onnxruntime": OnnxRuntimeBackend,
    "openvino": OpenVinoBackend,
    "torchscript": TorchScriptBackend,
    "torch-export": TorchExportBackend,
}
"""One class for each row of `config.runtimes.RUNTIMES`."""


def open_backend(
    path: Path,
    *,
    runtime: str,
    precision: str = "fp32",
    processor: Processor = ONE_THREAD,
    outputs: Sequence[str] | None = None,
    class_embeddings: FloatArray | None = None,
    names: Sequence[str] | None = None,
) -> Backend:
    """Open a detector file with a runtime of this package.

    Args:
        path: the file that `config.runtimes.file_for` names, in its precision.
        runtime, precision: as in `config.runtimes.RUNTIMES`.
        processor: device and CPU threads. Opening a TorchScript file sets torch's thread count for the whole process.
        outputs: names of the outputs that will be read; parts that only other outputs need are not loaded, where the
            runtime allows it. None: all.
        class_embeddings: (K, D) float32 of every later call; what depends on them alone is computed now, where the
            runtime allows it. None: they may differ from call to call.
        names: all outputs of the file in its order, for formats that do not name them; None: STALE's.

    Raises:
        ValueError: threads < 1, or no such device.
        BundleError: the runtime is unknown or does not run this precision on this device, or cannot read the file.
        DeviceError: a GPU is asked for and cannot be used.
        MissingExtraError: the runtime is not installed.
    """
    threads = processor.threads
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
        raise ValueError(f"threads must be an integer >= 1; got {threads!r}")
    file_for(runtime, precision)
    device = checked_device(processor.device, runtime=runtime, precision=precision)
    opened = _OPENERS[runtime](
        Path(path),
        precision=precision,
        threads=threads,
        outputs=outputs,
        class_embeddings=class_embeddings,
        device=device,
    )
    if names is not None and isinstance(opened, TorchScriptBackend):
        opened.names = tuple(names)
    return opened
