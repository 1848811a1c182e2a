"""ONNX Runtime on the CPU or a GPU."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stale_edge.bundle import TensorSpec
from stale_edge.runtime.devices import CPU_PROVIDER, import_onnxruntime
from stale_edge.runtime.onnx_session import open_session
from stale_edge.runtime.reduced_model import reduced_model
from stale_edge.segments import FloatArray

_DTYPES = {"tensor(float)": "float32", "tensor(float16)": "float16", "tensor(double)": "float64"}


class OnnxRuntimeBackend:
    """One session; ONNX Runtime allows concurrent calls."""

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
        del precision  # the file already has this precision
        model = reduced_model(path, outputs=outputs, class_embeddings=class_embeddings, threads=threads)
        self._session = open_session(model, threads=threads, name=str(path), device=device)
        self.provider = str(self._session.get_providers()[0])
        self.inputs: tuple[TensorSpec, ...] | None = _specs(self._session.get_inputs())
        self.outputs: tuple[TensorSpec, ...] | None = _specs(self._session.get_outputs())
        self.metadata: Mapping[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)
        self._reads = [spec.name for spec in self.inputs]
        self._names = [spec.name for spec in self.outputs]

    def run(self, features: FloatArray, class_embeddings: FloatArray) -> dict[str, FloatArray]:
        """Run the session; on a GPU inputs and outputs lie in its memory."""
        given = {"features": features, "class_embeddings": class_embeddings}
        inputs = {name: given[name] for name in self._reads}
        if self.provider == CPU_PROVIDER:
            values = self._session.run(self._names, inputs)
        else:
            values = run_bound(self._session, inputs, self._names, device="cuda")
        return dict(zip(self._names, values, strict=True))


def run_bound(session: Any, inputs: Mapping[str, FloatArray], names: Sequence[str], *, device: str) -> list[FloatArray]:
    """Run a session whose inputs and outputs are allocated on a device, `cpu` or `cuda`, and copy the outputs back."""
    value = import_onnxruntime().OrtValue
    binding = session.io_binding()
    for name, array in inputs.items():
        binding.bind_ortvalue_input(name, value.ortvalue_from_numpy(np.ascontiguousarray(array), device, 0))
    for name in names:
        binding.bind_output(name, device)
    session.run_with_iobinding(binding)
    return [np.asarray(array) for array in binding.copy_outputs_to_cpu()]


def _specs(nodes: Any) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(node.name, _DTYPES.get(node.type, str(node.type)), tuple(size or "?" for size in node.shape))
        for node in nodes
    )
