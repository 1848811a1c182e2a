"""OpenVINO on the CPU, for ONNX files. openvino is imported when the first file is opened.

Its default precision on processors with bf16 instructions is bf16, which changes masks by 1e-3 and so flips the gate;
therefore the precision is always set. In `int8-bf16`, the parts that static int8 leaves in float32 run in bf16. Files
in dynamic int8 are not run: they were slower than fp32, and with the paper's architecture OpenVINO 2026.4 gave wrong
results (7,289 of 24,000 snippets flipped, where ONNX Runtime flips 40).
"""

import importlib
import threading
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from stale_edge.bundle import TensorSpec, read_onnx_metadata
from stale_edge.config.runtimes import PRECISIONS
from stale_edge.errors import BundleError, MissingExtraError
from stale_edge.runtime.reduced_model import reduced_model
from stale_edge.segments import FloatArray

_HINTS = {"fp32": "f32", "bf16": "bf16"}
_DTYPES = {"f32": "float32", "f16": "float16", "f64": "float64"}


class OpenVinoBackend:
    """One compiled model, with one request per calling thread; opened for some outputs, it is for one video a call.

    The first call with several videos compiles the model for them as well.
    """

    provider = "OpenVINO CPU"

    def __init__(
        self,
        path: Path,
        *,
        precision: str,
        threads: int,
        outputs: Sequence[str] | None,
        class_embeddings: FloatArray | None,
        device: str = "cpu",
    ) -> None:
        del device  # only the CPU (`config.runtimes`)
        try:
            openvino: Any = importlib.import_module("openvino")
        except ImportError as error:
            raise MissingExtraError(
                'runtime="openvino" needs openvino: pip install "stale-edge[openvino]", or use runtime="onnxruntime"'
            ) from error
        reduced = reduced_model(path, outputs=outputs, class_embeddings=class_embeddings, threads=threads)
        self._source = reduced if isinstance(reduced, bytes) else str(reduced)
        self._settings = cpu_settings(precision, threads)
        self._opening = threading.Lock()
        self._any_batch: Any = None
        try:
            model = openvino_core().read_model(self._source)
            self.inputs: tuple[TensorSpec, ...] | None = _specs(model.inputs)
            self.outputs: tuple[TensorSpec, ...] | None = _specs(model.outputs)
            self._compiled = self._compile(model, one_video=outputs is not None)
        except RuntimeError as error:
            raise BundleError(f"{path}: OpenVINO {openvino.__version__} cannot load it: {error}") from error
        self._takes_one = outputs is not None
        self.metadata: Mapping[str, str] = read_onnx_metadata(path)
        self._reads = [spec.name for spec in self.inputs]
        self._names = [spec.name for spec in self.outputs]
        self._requests = threading.local()

    def run(self, features: FloatArray, class_embeddings: FloatArray) -> dict[str, FloatArray]:
        """Run the model; the outputs are copies, since a request reuses its own."""
        together = self._takes_one and len(features) != 1
        name = "together" if together else "alone"
        if not hasattr(self._requests, name):
            compiled = self._for_any_batch() if together else self._compiled
            setattr(self._requests, name, compiled.create_infer_request())
        request = getattr(self._requests, name)
        given = {"features": features, "class_embeddings": class_embeddings}
        request.infer({name: given[name] for name in self._reads})
        return {name: np.array(request.get_tensor(name).data, dtype=np.float32) for name in self._names}

    def _for_any_batch(self) -> Any:
        """Compile the model for any number of videos, at the first call with several."""
        with self._opening:
            if self._any_batch is None:
                self._any_batch = self._compile(openvino_core().read_model(self._source), one_video=False)
            return self._any_batch

    def _compile(self, model: Any, *, one_video: bool) -> Any:
        """Compile a model, for one video a call if asked.

        In processor time, in turns on a core with AVX-512 VNNI, `release` in static int8 takes 6 to 7 % less so at
        T = 100 and 200, and `paper` the same. In ONNX Runtime `release` took 4 to 8 % more, so its batch stays free.
        """
        if one_video:
            shapes = {port.get_any_name(): port.get_partial_shape() for port in model.inputs}
            shapes["features"][0] = 1
            model.reshape(shapes)
        return openvino_core().compile_model(model, "CPU", self._settings)


def cpu_settings(precision: str, threads: int) -> dict[str, Any]:
    """Make the settings of OpenVINO's CPU plugin: one stream, in one of the backend's precisions."""
    return {
        "INFERENCE_PRECISION_HINT": _HINTS[PRECISIONS[precision].rest],
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
        # Else every process binds its caller to the same first CPUs during each call.
        "ENABLE_CPU_PINNING": False,
    }


@cache
def openvino_core() -> Any:
    """Create OpenVINO's core object once per process, and never release it.

    OpenVINO 2026.4's CPU plugin gives the thread that created it a stack for signal handlers. If the core is released
    by another thread, or before a core created later, that stack is unmapped: the next Ctrl-C is a segmentation fault.
    """
    return importlib.import_module("openvino").Core()


def _specs(ports: Any) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(
            port.get_any_name(),
            _DTYPES.get(port.get_element_type().get_type_name(), port.get_element_type().get_type_name()),
            tuple("?" if size.is_dynamic else size.get_length() for size in port.get_partial_shape()),
        )
        for port in ports
    )
