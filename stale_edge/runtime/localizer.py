"""`load_bundle` and the `Localizer`: features in, class logits and masks or detections out."""

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

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
from stale_edge.config import DecodeConfig
from stale_edge.data import resample
from stale_edge.decoding import decode
from stale_edge.errors import BundleError, ClassBankError, FeatureContractError
from stale_edge.runtime.backends import RUNTIMES, Backend, open_backend
from stale_edge.runtime.contract import checked_features
from stale_edge.segments import Detection, FloatArray

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


class Localizer:
    """A detector with its class bank, feature contract and decoder; immutable, safe to share between threads.

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

    def forward(self, features: Any, class_embeddings: Any = None) -> dict[str, FloatArray]:
        """Run the detector as it is; nothing is resampled or decoded.

        Args:
            features: (T, C) or (B, T, C), float16, float32 or float64, as the feature contract says.
            class_embeddings: (K, D) floating, K >= 1; None: the bundle's class bank.

        Returns:
            `class_logits` (B, K+1, T), background last, `masks` (B, T, T) and `foreground` (B, T) in [0, 1], float32;
            without the axis B for features (T, C).

        Raises:
            FeatureContractError: (a ValueError) the features do not fit; what was got and what is wanted is named.
            ClassBankError: (a ValueError) the embeddings are not a finite (K, D).
        """
        values = checked_features(features, self.feature_contract)
        embeddings = self._class_bank.embeddings if class_embeddings is None else self._checked(class_embeddings)
        batch = values if values.ndim == 3 else values[None]  # (B, T, C)
        outputs = self._backend.run(batch, embeddings)
        return outputs if values.ndim == 3 else {name: value[0] for name, value in outputs.items()}

    def detect(
        self,
        features: Any,
        *,
        duration_s: float,
        class_bank: ClassBank | Sequence[str] | None = None,
        video_label: str | None = None,
        video_score: float | None = None,
    ) -> list[Detection]:
        """Find which action happens when in one video.

        Features are resampled first where the feature contract says so, as in training.

        Args:
            features: (T, C) of the whole video, any T >= 1, floating.
            duration_s: length of the video in seconds, finite, > 0; snippet t covers [t, t + 1) / T of it.
            class_bank: the classes to look for: a bank of the same text encoder, or names that the bundle's bank
                holds; None: all of the bundle's.
            video_label, video_score: a video-level class and its score in [0, 1] for score enhancement, both or none.

        Returns:
            Detections by falling score, their segments in seconds in [0, duration_s].

        Raises:
            FeatureContractError: (a ValueError) the features do not fit.
            ClassBankError: (a ValueError) an unknown name, or embeddings of another text encoder.
            ValueError: the duration, video_label or video_score is not allowed.
        """
        if isinstance(duration_s, bool) or not math.isfinite(duration_s) or duration_s <= 0:
            raise ValueError(f"duration_s must be the video's length in seconds, finite and > 0; got {duration_s!r}")
        bank = self._bank_for(class_bank)
        contract, config = self.feature_contract, self.decode_config
        values = checked_features(features, contract, any_length=contract.resampling == "linear")
        if values.ndim != 2:
            raise FeatureContractError(f"detect takes one video, features (T, C); got shape {values.shape}")
        if contract.resample_to is not None:
            values = resample(values, contract.resample_to)
        outputs = self.forward(values, bank.embeddings)
        return decode(
            outputs["class_logits"],
            outputs["masks"],
            class_names=bank.names,
            duration_s=float(duration_s),
            policy=config.policy,
            video_label=video_label,
            video_score=video_score,
            config=config,
        )

    def _bank_for(self, choice: ClassBank | Sequence[str] | None) -> ClassBank:
        if choice is None:
            return self._class_bank
        if not isinstance(choice, ClassBank):
            return self._class_bank.select(choice)
        if choice.fingerprint != self._class_bank.fingerprint:
            raise ClassBankError(
                f"this class bank comes from another text encoder: fingerprint {choice.fingerprint!r}, the bundle's is "
                f"{self._class_bank.fingerprint!r}; encode the names with the bundle's own encoder"
            )
        self._checked(choice.embeddings)
        return choice

    def _checked(self, embeddings: Any) -> FloatArray:
        array = np.asarray(embeddings)
        width = self._class_bank.width
        if array.dtype.kind != "f" or array.ndim != 2 or array.shape[0] < 1 or array.shape[1] != width:
            raise ClassBankError(
                f"class embeddings must be floating, shape (K, {width}) with K >= 1; got {array.dtype} {array.shape}"
            )
        with np.errstate(over="ignore"):
            values: FloatArray = np.ascontiguousarray(array, dtype=np.float32)
        if not np.isfinite(values).all():
            raise ClassBankError(
                f"class embeddings must be finite; row {int(np.argwhere(~np.isfinite(values))[0][0])} is not"
            )
        return values


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
