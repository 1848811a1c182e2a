"""The `Localizer`: features to class logits and masks, or to detections."""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from stale_edge.bundle import Bundle, ClassBank, FeatureContract, FileEntry, Manifest, TensorSpec, metadata_problems
from stale_edge.bundle.onnx_vocabulary import CLASSES
from stale_edge.config import DecodeSettings
from stale_edge.errors import BundleError, InferenceError, StaleEdgeError, reason
from stale_edge.runtime.backends import Backend
from stale_edge.runtime.bundle_localizer import BundleLocalizer
from stale_edge.runtime.decoded_outputs import complete_masks
from stale_edge.runtime.reduced_model import MANY_CLASSES
from stale_edge.segments import FloatArray


class Localizer(BundleLocalizer):
    """A bundle's detector with its class bank, contract and decoder; immutable, safe to share between threads.

    The file is opened for the outputs that `detect` reads, with the bundle's own classes; the first call of `forward`
    opens it again for all outputs, and the first `detect` with other classes opens it again for any classes. If those
    are many, it is opened for them alone, and for the next ones again: attention among them would fill the memory.

    Args:
        bundle, entry: the bundle, and one of its detectors.
        open_detector: opens that file for some of its outputs (None: all) and for class embeddings (K, D) (None: any).
        decoded: outputs that `detect` opens it for (`decoded_outputs`).
        runtime, precision: names of the runtime and the precision.

    Raises:
        BundleError: the inputs or outputs of the detector file differ from the manifest.
    """

    def __init__(
        self,
        bundle: Bundle,
        entry: FileEntry,
        open_detector: Callable[[Sequence[str] | None, FloatArray | None], Backend],
        *,
        decoded: Sequence[str],
        runtime: str,
        precision: str,
    ) -> None:
        self._bundle = bundle
        self._entry = entry
        self._open_detector = open_detector
        self._runtime = runtime
        self._precision = precision
        self._decoded = decoded
        self._class_bank = bundle.class_bank
        self._decoding = self._opened(decoded, self._class_bank.embeddings)
        self._any_classes: Backend | None = None
        self._many_classes: tuple[FloatArray, Backend] | None = None
        self._whole: Backend | None = None
        self._opening = threading.Lock()

    def _opened(self, names: Sequence[str] | None, class_embeddings: FloatArray | None = None) -> Backend:
        """Open the file for some of its outputs, and check it against the manifest."""
        bundle, entry = self._bundle, self._entry
        backend = self._open_detector(names, class_embeddings)
        taken = [
            spec
            for spec in entry.inputs
            if class_embeddings is None or spec.name != CLASSES or spec.name in _names(backend.inputs)
        ]
        promised = [spec for spec in entry.outputs if names is None or spec.name in names]
        known = class_embeddings is not None
        problems = _signature_problems("input", taken, backend.inputs, known_classes=known)
        found = backend.outputs
        if found is not None and names is not None:  # values inside the graph are not in the manifest
            outputs = {spec.name for spec in entry.outputs}
            found = tuple(spec for spec in found if spec.name in outputs)
        problems += _signature_problems("output", promised, found, known_classes=known)
        if backend.inputs is not None:
            problems += metadata_problems(bundle, entry, backend.metadata)
        if problems:
            raise BundleError(f"{bundle.path}: {entry.path} is not what the manifest says: {'; '.join(problems)}")
        return backend

    @property
    def class_bank(self) -> ClassBank:
        """The bundle's vocabulary and embeddings."""
        return self._class_bank

    @property
    def feature_contract(self) -> FeatureContract:
        """What features must be."""
        return self._bundle.manifest.feature_contract

    @property
    def decode_config(self) -> DecodeSettings:
        """How the network's outputs become detections."""
        return self._bundle.manifest.decode

    @property
    def path(self) -> Path:
        """The bundle's folder."""
        return self._bundle.path

    @property
    def manifest(self) -> Manifest:
        """The manifest of the bundle."""
        return self._bundle.manifest

    @property
    def precision(self) -> str:
        """Precision of the computation: `fp32`, `fp16`, `bf16` or `int8`."""
        return self._precision

    @property
    def runtime(self) -> str:
        """Name of the runtime: `onnxruntime`, `openvino`, `torchscript` or `torch-export`; `auto`."""
        return self._runtime

    @property
    def entry(self) -> FileEntry:
        """The detector file in the manifest, with its inputs and outputs."""
        return self._entry

    @property
    def provider(self) -> str:
        """What computes: a provider of ONNX Runtime, such as `CUDAExecutionProvider`, or another runtime's device."""
        return self._decoding.provider

    @property
    def on_gpu(self) -> bool:
        """Whether the network runs on a GPU."""
        return "cpu" not in self.provider.lower()

    @property
    def note(self) -> str:
        """The exporter's note on this file, for example that it is slower on a CPU; may be empty."""
        return self._entry.note

    def _run(self, features: FloatArray, class_embeddings: FloatArray) -> dict[str, FloatArray]:
        with self._opening:
            if self._whole is None:
                self._whole = self._opened(None)
        return self._run_on(self._whole, features, class_embeddings)

    def _run_on(self, backend: Backend, features: FloatArray, class_embeddings: FloatArray) -> dict[str, FloatArray]:
        try:
            return backend.run(features, class_embeddings)
        except StaleEdgeError:
            raise
        except Exception as error:  # the exceptions of runtimes share no base but Exception
            raise InferenceError(
                f"{self._runtime} failed on features of shape {features.shape} (B, T, C): {reason(error)}; "
                "where memory is short, give --window for long videos"
            ) from error

    def _run_for_decoding(self, features: FloatArray, class_embeddings: FloatArray) -> dict[str, FloatArray]:
        backend = self._backend_for(class_embeddings)
        return complete_masks(self._run_on(backend, features, class_embeddings), self.decode_config)

    def _backend_for(self, class_embeddings: FloatArray) -> Backend:
        """Open the file for these classes, or take the one that is open."""
        if _same(class_embeddings, self._class_bank.embeddings):
            return self._decoding
        with self._opening:
            if len(class_embeddings) > MANY_CLASSES:
                if self._many_classes is None or not _same(class_embeddings, self._many_classes[0]):
                    self._many_classes = class_embeddings, self._opened(self._decoded, class_embeddings)
                return self._many_classes[1]
            if self._any_classes is None:
                self._any_classes = self._opened(self._decoded)
            return self._any_classes


def _same(embeddings: FloatArray, others: FloatArray) -> bool:
    return embeddings is others or np.array_equal(embeddings, others)


def _names(specs: Sequence[TensorSpec] | None) -> set[str]:
    return {spec.name for spec in specs or ()}


def _signature_problems(
    kind: str, promised: Sequence[TensorSpec], found: Sequence[TensorSpec] | None, *, known_classes: bool
) -> list[str]:
    """Compare the manifest's inputs or outputs with the file's: names, types, axes, and every fixed size.

    A file opened for fixed classes may state their number where the manifest has K or K+1.
    """
    if found is None:
        return []
    by_name = {spec.name: spec for spec in found}
    if set(by_name) != {spec.name for spec in promised}:
        return [f"{kind}s are {sorted(by_name)}, promised {sorted(spec.name for spec in promised)}"]
    problems = []
    for spec in promised:
        other = by_name[spec.name]
        same_axes = len(spec.shape) == len(other.shape) and all(
            got == wanted if isinstance(wanted, int) else isinstance(got, str) or (known_classes and "K" in wanted)
            for wanted, got in zip(spec.shape, other.shape, strict=False)
        )
        if spec.dtype != other.dtype or not same_axes:
            problems.append(f"{kind} {spec.name} is {other.dtype} {other.shape}, promised {spec.dtype} {spec.shape}")
    return problems
