"""ONNX Runtime on the CPU."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stale_edge.bundle import TensorSpec
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
    ) -> None:
        del precision  # the file already has this precision
        model = reduced_model(path, outputs=outputs, class_embeddings=class_embeddings, threads=threads)
        self._session = open_session(model, threads=threads, name=str(path))
        self.inputs: tuple[TensorSpec, ...] | None = _specs(self._session.get_inputs())
        self.outputs: tuple[TensorSpec, ...] | None = _specs(self._session.get_outputs())
        self.metadata: Mapping[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)
        self._reads = [spec.name for spec in self.inputs]
        self._names = [spec.name for spec in self.outputs]

    def run(self, features: FloatArray, class_embeddings: FloatArray) -> dict[str, FloatArray]:
        """Run the session."""
        given = {"features": features, "class_embeddings": class_embeddings}
        values = self._session.run(self._names, {name: given[name] for name in self._reads})
        return dict(zip(self._names, values, strict=True))


def _specs(nodes: Any) -> tuple[TensorSpec, ...]:
    return tuple(
        TensorSpec(node.name, _DTYPES.get(node.type, str(node.type)), tuple(size or "?" for size in node.shape))
        for node in nodes
    )
