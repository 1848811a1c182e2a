"""`load_bundle` and the `Localizer`: features in, class logits and masks or detections out."""

import warnings
from collections.abc import Sequence
from pathlib import Path

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
from stale_edge.config import DecodeConfig
from stale_edge.errors import BundleError
from stale_edge.runtime.backends import RUNTIMES, Backend, open_backend
from stale_edge.runtime.base import BaseLocalizer
from stale_edge.segments import FloatArray

_FP16_NOTE = "fp16 is slower than fp32 on a CPU; it is for size and for GPUs"


class PrecisionWarning(UserWarning):
    """A precision was asked for where it does not pay."""


def load_bundle(
    path: Path | str, *, runtime: str = "onnxruntime", precision: str = "fp32", threads: int = 1
) -> "Localizer":
    """Open a bundle for detection; the files that are used are checked byte by byte first.

    Args:
        path: the bundle's folder.
        runtime: `onnxruntime`, or `torchscript`, which needs torch.
        precision: `fp32`, `fp16` or `int8`, as far as the bundle has it.
        threads: CPU threads, >= 1; one by default, so that nothing burns all cores unasked.

    Returns:
        A localizer that many threads may share.

    Raises:
        ValueError: threads < 1.
        BundleError: no bundle, or no such runtime or precision in it (what it has is listed).
        VerificationError: a file is missing or its bytes changed.
        MissingExtraError: `torchscript` without torch.

    Warns:
        PrecisionWarning: fp16, which is slower than fp32 on a CPU.
    """
    bundle = read_bundle(Path(path))
    entry = bundle.detector(runtime=runtime, precision=precision)
    if runtime not in RUNTIMES:
        raise BundleError(f"{path}: stale-edge runs {' and '.join(RUNTIMES)} itself; {runtime} files are for others")
    backend = open_backend(bundle.checked_path(entry), runtime=runtime, threads=threads)
    if precision == "fp16":
        warnings.warn(f"{entry.path}: {entry.note or _FP16_NOTE}", PrecisionWarning, stacklevel=2)
    return Localizer(bundle, entry, backend)


class Localizer(BaseLocalizer):
    """A bundle's detector with its class bank, contract and decoder; immutable, safe to share between threads.

    Raises:
        BundleError: the detector file does not take or give what the manifest says.
    """

    def __init__(self, bundle: Bundle, entry: FileEntry, backend: Backend) -> None:
        problems = _signature_problems("input", entry.inputs, backend.inputs)
        problems += _signature_problems("output", entry.outputs, backend.outputs)
        if backend.inputs is not None:
            problems += metadata_problems(bundle, entry, backend.metadata)
        if problems:
            raise BundleError(f"{bundle.path}: {entry.path} is not what the manifest says: {'; '.join(problems)}")
        self._bundle = bundle
        self._entry = entry
        self._backend = backend
        self._class_bank = bundle.class_bank

    @property
    def class_bank(self) -> ClassBank:
        """The bundle's vocabulary and embeddings."""
        return self._class_bank

    @property
    def feature_contract(self) -> FeatureContract:
        """What features must be."""
        return self._bundle.manifest.feature_contract

    @property
    def decode_config(self) -> DecodeConfig:
        """How logits and masks become detections."""
        return self._bundle.manifest.decode

    @property
    def manifest(self) -> Manifest:
        """Everything the bundle says of itself."""
        return self._bundle.manifest

    @property
    def precision(self) -> str:
        """`fp32`, `fp16` or `int8`."""
        return str(self._entry.precision)

    @property
    def runtime(self) -> str:
        """`onnxruntime` or `torchscript`."""
        return str(self._entry.runtime)

    @property
    def note(self) -> str:
        """What the exporter says of this file, for example that it is slower on a CPU; may be empty."""
        return self._entry.note

    def _run(self, features: FloatArray, class_embeddings: FloatArray) -> dict[str, FloatArray]:
        return self._backend.run(features, class_embeddings)


def _signature_problems(kind: str, promised: Sequence[TensorSpec], found: Sequence[TensorSpec] | None) -> list[str]:
    """Compare the manifest's inputs or outputs with the file's: names, types, axes, and every fixed size."""
    if found is None:
        return []
    by_name = {spec.name: spec for spec in found}
    if set(by_name) != {spec.name for spec in promised}:
        return [f"{kind}s are {sorted(by_name)}, promised {sorted(spec.name for spec in promised)}"]
    problems = []
    for spec in promised:
        other = by_name[spec.name]
        same_axes = len(spec.shape) == len(other.shape) and all(
            got == wanted if isinstance(wanted, int) else isinstance(got, str)
            for wanted, got in zip(spec.shape, other.shape, strict=False)
        )
        if spec.dtype != other.dtype or not same_axes:
            problems.append(f"{kind} {spec.name} is {other.dtype} {other.shape}, promised {spec.dtype} {spec.shape}")
    return problems
