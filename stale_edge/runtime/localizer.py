"""`load_bundle` and the `Localizer`: features to class logits and masks, or to detections."""

import threading
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from stale_edge.bundle import (
    Bundle,
    ClassBank,
    FeatureContract,
    FileEntry,
    Manifest,
    TensorSpec,
    metadata_problems,
    read_bundle,
)
from stale_edge.bundle.generations import in_one_generation
from stale_edge.bundle.onnx_vocabulary import CLASSES
from stale_edge.config import DecodeSettings
from stale_edge.config.runtimes import file_for
from stale_edge.errors import BundleError, InferenceError, StaleEdgeError, reason
from stale_edge.hub import is_hub_name, pull
from stale_edge.runtime.backends import Backend, open_backend
from stale_edge.runtime.bundle_localizer import BundleLocalizer
from stale_edge.runtime.decoded_outputs import complete_masks, decoded_outputs
from stale_edge.runtime.devices import Processor, checked_device
from stale_edge.runtime.recommendation import AUTO, Recommendation, read_recommendation
from stale_edge.segments import FloatArray

_FP16_NOTE = "fp16 is slower than fp32 on a CPU; it is for size and for GPUs"


class PrecisionWarning(UserWarning):
    """The requested precision brings no gain on this device."""


def load_bundle(
    path: Path | str, *, runtime: str = "onnxruntime", precision: str = "fp32", threads: int = 1, device: str = "cpu"
) -> "Localizer | RecommendedLocalizer":
    """Open a bundle for detection; the files that are used are checked byte by byte first.

    Args:
        path: the bundle's folder; or a name on a hub, `ORG/NAME` or `ORG/NAME@REVISION`, where no such folder exists.
        runtime: `onnxruntime`; `openvino`, which needs openvino and runs the same files; `torchscript` or
            `torch-export`, which need torch; `auto`, the runtime and precision that `stale-edge bench --recommend`
            chose for this bundle on this machine, by the length of the video.
        precision: `fp32`, `fp16`, `int8` or `int8-static`, if the bundle has it; with OpenVINO also `bf16`, the fp32
            file in bf16, and `int8-bf16`, static int8 with all else in bf16. With `auto` it is chosen, so only the
            default is allowed.
        threads: CPU threads, >= 1; one by default, so as not to load all cores.
        device: `cpu`; `cuda`, an NVIDIA GPU through ONNX Runtime or PyTorch; `tensorrt`, ONNX Runtime's TensorRT;
            `auto`, a GPU where one can be used, else the CPU. `Localizer.provider` names what is used.

    Returns:
        A localizer that many threads may share.

    Raises:
        ValueError: threads < 1, no such device, or a precision or device beside runtime `auto`.
        DeviceError: a GPU is asked for and cannot be used.
        BundleError: no bundle, no such runtime or precision in it (those in it are listed), or no recommendation here.
        VerificationError: a file is missing or its bytes changed.
        MissingExtraError: the runtime is not installed.

    Warns:
        PrecisionWarning: fp16, which is slower than fp32 on a CPU.
    """
    if is_hub_name(path):
        path = pull(str(path))
    if runtime == AUTO:
        if device != "cpu":
            raise ValueError(f'runtime="{AUTO}" is measured on the CPU; got device={device!r}: leave one of them out')
        if precision != "fp32":
            raise ValueError(f'runtime="{AUTO}" chooses the precision; got precision={precision!r}: leave it out')
        return _load_recommended(Path(path), threads=threads)
    localizer = in_one_generation(path, lambda: _load(Path(path), runtime, precision, Processor(threads, device)))
    if precision == "fp16" and not localizer.on_gpu:
        name, note = localizer._entry.path, localizer.note or _FP16_NOTE
        warnings.warn(f"{name}: {note}", PrecisionWarning, stacklevel=2)
    return localizer


def _load(path: Path, runtime: str, precision: str, processor: Processor) -> "Localizer":
    files, stored = file_for(runtime, precision)
    checked_device(processor.device, runtime=runtime, precision=precision)
    bundle = read_bundle(path)
    entry = bundle.detector(runtime=files, precision=stored)
    file, names = bundle.checked_path(entry), [spec.name for spec in entry.outputs]
    checked = [file]

    def open_detector(outputs: Sequence[str] | None, classes: FloatArray | None) -> Backend:
        # The bundle at this path may have been replaced when the file is opened again later.
        path = checked.pop() if checked else bundle.checked_path(entry)
        return open_backend(
            path,
            runtime=runtime,
            precision=precision,
            processor=processor,
            outputs=outputs,
            class_embeddings=classes,
            names=names,
        )

    return Localizer(
        bundle,
        entry,
        open_detector,
        decoded=decoded_outputs(file, names, bundle.manifest.decode),
        runtime=runtime,
        precision=precision,
    )


class Localizer(BundleLocalizer):
    """A bundle's detector with its class bank, contract and decoder; immutable, safe to share between threads.

    The file is opened for the outputs that `detect` reads, with the bundle's own classes; the first call of `forward`
    opens it again for all outputs, and the first `detect` with other classes opens it again for any classes.

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
        backend = self._decoding
        if not _same(class_embeddings, self._class_bank.embeddings):
            with self._opening:
                if self._any_classes is None:
                    self._any_classes = self._opened(self._decoded)
            backend = self._any_classes
        return complete_masks(self._run_on(backend, features, class_embeddings), self.decode_config)


class RecommendedLocalizer(BundleLocalizer):
    """Runs every video with the choice recommended for its length; a detector is opened when first needed.

    Args:
        recommendation: the choice for each length.
        open_choice: opens the localizer of a (runtime, precision). The first choice is opened at once; all
            choices share its class bank, contract and decoder.
    """

    runtime = AUTO
    precision = "as recommended"

    def __init__(self, recommendation: Recommendation, open_choice: Callable[[tuple[str, str]], Localizer]) -> None:
        self._recommendation = recommendation
        self._open_choice = open_choice
        self._first = open_choice(recommendation.choices[0].pair)
        self._choices = {recommendation.choices[0].pair: self._first}
        self._choosing = threading.Lock()

    @property
    def class_bank(self) -> ClassBank:
        """The bundle's vocabulary and embeddings."""
        return self._first.class_bank

    @property
    def feature_contract(self) -> FeatureContract:
        """What features must be."""
        return self._first.feature_contract

    @property
    def decode_config(self) -> DecodeSettings:
        """How the network's outputs become detections."""
        return self._first.decode_config

    @property
    def path(self) -> Path:
        """The bundle's folder."""
        return self._first.path

    @property
    def manifest(self) -> Manifest:
        """Everything the bundle says of itself."""
        return self._first.manifest

    @property
    def provider(self) -> str:
        """What computes the first choice, on the CPU."""
        return self._first.provider

    @property
    def note(self) -> str:
        """The exporter's note on the first choice's file; may be empty."""
        return self._first.note

    def chosen(self, n_snippets: int) -> Localizer:
        """Return the localizer for a video of `n_snippets` snippets, counted after resampling."""
        pair = self._recommendation.choose(n_snippets)
        with self._choosing:
            if pair not in self._choices:
                opened = self._open_choice(pair)
                if opened.manifest != self._first.manifest:
                    raise BundleError("the bundle was replaced after it was opened; open it again with load_bundle")
                self._choices[pair] = opened
            return self._choices[pair]

    def _run(self, features: FloatArray, class_embeddings: FloatArray) -> dict[str, FloatArray]:
        return self.chosen(features.shape[1])._run(features, class_embeddings)

    def _run_for_decoding(self, features: FloatArray, class_embeddings: FloatArray) -> dict[str, FloatArray]:
        return self.chosen(features.shape[1])._run_for_decoding(features, class_embeddings)


def _load_recommended(path: Path, *, threads: int) -> RecommendedLocalizer:
    recommendation = read_recommendation(read_bundle(path), threads=threads)

    def open_choice(pair: tuple[str, str]) -> Localizer:
        return in_one_generation(path, lambda: _load(path, *pair, Processor(threads)))

    return RecommendedLocalizer(recommendation, open_choice)


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
