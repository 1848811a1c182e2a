"""libtorch on the CPU or a GPU, for TorchScript files. torch is imported when the first file is opened."""

import importlib
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stale_edge.bundle import TensorSpec
from stale_edge.errors import BundleError, MissingExtraError
from stale_edge.runtime.devices import torch_device
from stale_edge.segments import FloatArray


class TorchScriptBackend:
    """The module's `forward(features, class_embeddings)` returns the outputs as a tuple, always all of them."""

    RUNTIME = "torchscript"
    names: tuple[str, ...] = ("class_logits", "masks", "foreground")
    """Names of the tuple's elements, which the file does not contain; STALE's by default."""

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
        del precision, outputs, class_embeddings  # the file has its precision; a recorded module computes all outputs
        try:
            torch: Any = importlib.import_module("torch")
        except ImportError as error:
            raise MissingExtraError(
                f'runtime="{self.RUNTIME}" needs torch: pip install "stale-edge[train]", or use runtime="onnxruntime"'
            ) from error
        self._torch = torch
        torch.set_num_threads(threads)
        self._device = torch_device(torch, device)
        self.provider = f"PyTorch {self._device}"
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message=".*torch.jit", category=DeprecationWarning)
                self._module: Any = self._load(torch, path, self._device)
        except (RuntimeError, ValueError, OSError, KeyError) as error:
            raise BundleError(f"{path}: torch {torch.__version__} cannot load it: {error}") from error
        self.inputs: tuple[TensorSpec, ...] | None = None
        self.outputs: tuple[TensorSpec, ...] | None = None
        self.metadata: Mapping[str, str] = {}

    @staticmethod
    def _load(torch: Any, path: Path, device: str) -> Any:
        return torch.jit.load(str(path), map_location=device).eval()

    def run(self, features: FloatArray, class_embeddings: FloatArray) -> dict[str, FloatArray]:
        """Run the module without gradients."""
        torch = self._torch
        with torch.inference_mode():
            # torch has no read-only tensors and warns of read-only arrays; the module does not write to its inputs.
            inputs = (torch.from_numpy(_writable(x)).to(self._device) for x in (features, class_embeddings))
            values = self._module(*inputs)
        if not isinstance(values, tuple) or len(values) != len(self.names):
            raise BundleError(
                f"a {self.RUNTIME} detector must return {', '.join(self.names)}; got {type(values).__name__}"
            )
        return {name: np.asarray(value.cpu().numpy()) for name, value in zip(self.names, values, strict=True)}


def _writable(array: FloatArray) -> FloatArray:
    return array if array.flags.writeable else array.copy()
