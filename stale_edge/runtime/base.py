"""The steps that all localizers share, whatever runs the network: choose classes, resample, decode."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from stale_edge.bundle import ClassBank, FeatureContract
from stale_edge.config import DecodeSettings
from stale_edge.errors import BundleError, ClassBankError, FeatureContractError
from stale_edge.runtime.contract import checked_features, first_snippet, time_grid
from stale_edge.runtime.timings import Measured, Watch
from stale_edge.runtime.windows import (
    NO_ENHANCEMENT,
    Enhancement,
    WindowCandidates,
    WindowPlan,
    check_windows,
    detect_windowed,
)
from stale_edge.segments import Detection, FloatArray


class BaseLocalizer(ABC):
    """A detector with its class bank, feature contract and decoder; subclasses say how the network is run."""

    @property
    @abstractmethod
    def class_bank(self) -> ClassBank:
        """The default vocabulary, with its embeddings."""

    @property
    @abstractmethod
    def feature_contract(self) -> FeatureContract:
        """Required form of the features, and the length that they are resampled to."""

    @property
    @abstractmethod
    def decode_config(self) -> DecodeSettings:
        """How the network's outputs become detections."""

    @property
    def provider(self) -> str:
        """What computes the network: a provider of ONNX Runtime, or another runtime's device; empty: not known."""
        return ""

    @abstractmethod
    def _run(self, features: FloatArray, class_embeddings: FloatArray) -> dict[str, FloatArray]:
        """Run the network on checked features (B, T, C) and embeddings (K, D); outputs by name, with the axis B."""

    def _run_for_decoding(self, features: FloatArray, class_embeddings: FloatArray) -> dict[str, FloatArray]:
        """Run as much of the network as decoding needs: at least what its policy reads."""
        return self._run(features, class_embeddings)

    def forward(self, features: Any, class_embeddings: Any = None) -> dict[str, FloatArray]:
        """Run the detector as it is; nothing is resampled or decoded.

        Args:
            features: (T, C) or (B, T, C), float16, float32 or float64, as the feature contract says.
            class_embeddings: (K, D) floating, K >= 1; None: the class bank.

        Returns:
            Every output that the manifest lists, float32, by name: STALE's are `class_logits` (B, K+1, T), background
            last, `masks` (B, T, T) and `foreground` (B, T) in [0, 1]. Without the axis B for features (T, C).

        Raises:
            FeatureContractError: (a ValueError) the features do not fit; both values are named.
            ClassBankError: (a ValueError) the embeddings are not a finite (K, D).
        """
        values = checked_features(features, self.feature_contract)
        embeddings = self.class_bank.embeddings if class_embeddings is None else self._checked(class_embeddings)
        outputs = self._run(values if values.ndim == 3 else values[None], embeddings)
        return outputs if values.ndim == 3 else {name: value[0] for name, value in outputs.items()}

    def detect(
        self,
        features: Any,
        *,
        duration_s: float,
        class_bank: ClassBank | Sequence[str] | None = None,
        video_label: str | None = None,
        video_score: float | None = None,
        window: int | None = None,
        overlap: int | None = None,
    ) -> list[Detection]:
        """Find the actions in one video; same as `measure`, without the timings.

        Args:
            features, duration_s, class_bank, window, overlap: as in `measure`.
            video_label, video_score: a video-level class and its score in [0, 1] for score enhancement, both or none.
        """
        return self.measure(
            features,
            duration_s=duration_s,
            class_bank=class_bank,
            enhancement=Enhancement(video_label, video_score),
            window=window,
            overlap=overlap,
        ).detections

    def measure(
        self,
        features: Any,
        *,
        duration_s: float,
        class_bank: ClassBank | Sequence[str] | None = None,
        enhancement: Enhancement = NO_ENHANCEMENT,
        window: int | None = None,
        overlap: int | None = None,
        keep_scores: bool = False,
    ) -> Measured:
        """Find the actions in one video, and measure the time that this takes.

        Features are resampled first where the feature contract says so, as in training. With `window`, the network sees
        each window as a separate video, and the results are joined (`stale_edge.runtime.seams`): under the paper policy
        before soft-NMS, under the release policy after each window's own soft-NMS. Time grows linearly with the video,
        memory does not grow; `max_detections` is the limit of each window.

        Args:
            features: (T, C) of the whole video, any T >= 1, floating.
            duration_s: length of the video in seconds, finite, > 0; snippet t covers [t, t + 1) / T of it.
            class_bank: the classes to look for: a bank of the same text encoder, or names in the localizer's own bank;
                None: that whole bank.
            enhancement: a video-level class and its score in [0, 1], which raises the scores of its segments.
            window: snippets per window, >= 2; `features` may then be a memory map, which is read one window at a time.
                None: the whole video at once.
            overlap: snippets that two windows share, from 1 to half a window; None: half a window.
            keep_scores: keep the network's score of each class over time.

        Returns:
            Detections by falling score, with segments in seconds in [0, duration_s]; the seconds spent in the network
            and in post-processing.

        Raises:
            FeatureContractError: (a ValueError) the features do not fit, or are so large that the network overflows.
            ClassBankError: (a ValueError) an unknown name, or embeddings of another text encoder.
            ValueError: the duration, enhancement, window or overlap is not allowed.
        """
        from stale_edge.decoding import decode_outputs

        if isinstance(duration_s, bool) or not math.isfinite(duration_s) or duration_s <= 0:
            raise ValueError(f"duration_s must be the video's length in seconds, finite and > 0; got {duration_s!r}")
        check_windows(window, overlap)
        bank = self._bank_for(class_bank)
        grid = time_grid(self.feature_contract, duration_s=float(duration_s))
        if window is not None:
            return detect_windowed(
                self,
                features,
                grid=grid,
                plan=WindowPlan.of(window, overlap),
                class_bank=bank,
                enhancement=enhancement,
                keep_scores=keep_scores,
            )
        watch = Watch(class_scores=[] if keep_scores else None)
        with watch.postprocessing():
            detections = decode_outputs(
                self._decodable(features, bank, watch),
                class_names=bank.names,
                grid=grid,
                config=self.decode_config,
                video_label=enhancement.label,
                video_score=enhancement.score,
            )
        return Measured(detections, watch.timings, watch.class_scores)

    def detect_together(
        self, features: Any, *, durations_s: Sequence[float], class_bank: ClassBank | Sequence[str] | None = None
    ) -> list[list[Detection]]:
        """Find the actions in videos of equal T with one call of the network.

        Args:
            features: (B, T, C), as in `detect`.
            durations_s: length of each video in seconds, > 0.
            class_bank: as in `detect`.

        Returns:
            The detections of each video, as `detect` gives them.

        Raises:
            FeatureContractError, ClassBankError, ValueError: as `detect`.
        """
        from stale_edge.decoding import decode_outputs

        bank = self._bank_for(class_bank)
        found = []
        for outputs, seconds in zip(self._decodable_together(features, bank, Watch()), durations_s, strict=True):
            grid = time_grid(self.feature_contract, duration_s=float(seconds))
            found.append(decode_outputs(outputs, class_names=bank.names, grid=grid, config=self.decode_config))
        return found

    def candidates(
        self, features: Any, *, class_bank: ClassBank | Sequence[str] | None = None, watch: Watch | None = None
    ) -> WindowCandidates:
        """Find candidates in one window of a video: the steps of `detect` before windows are joined.

        Candidates are taken before soft-NMS if the policy's soft-NMS can run on joined windows, else after it.

        Args:
            features: (T, C) of the window, any T >= 1, floating.
            class_bank: as in `detect`.
            watch: counts the seconds; None: they are not measured.

        Raises:
            FeatureContractError, ClassBankError: (ValueErrors) as `detect`.
        """
        from stale_edge.decoding import decoder_of

        bank, config = self._bank_for(class_bank), self.decode_config
        watch = Watch() if watch is None else watch
        with watch.postprocessing():
            outputs, decoder = self._decodable(features, bank, watch), decoder_of(config)
            found = (decoder.candidates if decoder.joins_candidates else decoder.detections)(outputs, config)
        shift = first_snippet(self.feature_contract)
        n_snippets = decoder.n_snippets(outputs, config)
        return WindowCandidates(found._replace(segments=found.segments + shift), n_snippets, tuple(bank.names))

    def _decodable(self, features: Any, bank: ClassBank, watch: Watch) -> dict[str, FloatArray]:
        """Run the network on one video; return the outputs that the policy reads, finite, without the axis B."""
        contract = self.feature_contract
        values = checked_features(features, contract, any_length=contract.resampling == "linear")
        if values.ndim != 2:
            raise FeatureContractError(f"detect takes one video, features (T, C); got shape {values.shape}")
        return self._run_checked(values[None], bank, watch)[0]

    def _decodable_together(self, features: Any, bank: ClassBank, watch: Watch) -> list[dict[str, FloatArray]]:
        """Run the network on videos (B, T, C); return the outputs of each as `_decodable` does."""
        contract = self.feature_contract
        values = checked_features(features, contract, any_length=contract.resampling == "linear")
        if values.ndim != 3:
            raise FeatureContractError(f"videos together are features (B, T, C); got shape {values.shape}")
        return self._run_checked(values, bank, watch)

    def _run_checked(self, values: FloatArray, bank: ClassBank, watch: Watch) -> list[dict[str, FloatArray]]:
        """Resample checked features (B, T, C) where the contract says so, and run the network on them."""
        from stale_edge.data import resample

        contract = self.feature_contract
        if contract.resample_to is not None:
            values = np.stack([resample(video, contract.resample_to) for video in values])
        with watch.network():
            batch = self._run_for_decoding(values, bank.embeddings)
        return [
            self._checked_outputs({name: value[b] for name, value in batch.items()}, values[b], watch)
            for b in range(len(values))
        ]

    def _checked_outputs(
        self, outputs: dict[str, FloatArray], values: FloatArray, watch: Watch
    ) -> dict[str, FloatArray]:
        """Refuse outputs of one video, features (T, C), that are not finite or have another length."""
        from stale_edge.decoding import decoder_of

        decoder = decoder_of(self.decode_config)
        for name in (name for name in (*decoder.reads, *decoder.may_read) if name in outputs):
            if not np.isfinite(outputs[name]).all():
                raise FeatureContractError(
                    f"the network's {name} are not finite for features of up to {np.abs(values).max():.3g} in size; "
                    "either these are far from what it was trained on, or its training diverged"
                )
        self._check_length(outputs, len(values))
        if watch.class_scores is not None:
            watch.class_scores.append(decoder.class_scores(outputs, self.decode_config))
        return outputs

    def _check_length(self, outputs: Mapping[str, FloatArray], n_snippets: int) -> None:
        """Refuse outputs that the decode settings read as those of another number of snippets."""
        from stale_edge.decoding import decoder_of

        try:
            found = decoder_of(self.decode_config).n_snippets(outputs, self.decode_config)
        except ValueError as error:
            raise BundleError(f"the detector's outputs do not fit its decode settings: {error}") from error
        if found != n_snippets:
            raise BundleError(
                f"by its decode settings the detector's outputs are those of {found} snippets, but it was given "
                f"{n_snippets}: correct the settings (decode.n_levels for points) and export the bundle again"
            )

    def _bank_for(self, choice: ClassBank | Sequence[str] | None) -> ClassBank:
        own = self.class_bank
        if choice is None:
            return own
        if not isinstance(choice, ClassBank):
            return own.select(choice)
        if choice.fingerprint != own.fingerprint:
            raise ClassBankError(
                f"this class bank comes from another text encoder: fingerprint {choice.fingerprint!r}, the localizer's "
                f"is {own.fingerprint!r}; encode the names with the encoder that it was made with"
            )
        self._checked(choice.embeddings)
        return choice

    def _checked(self, embeddings: Any) -> FloatArray:
        array = np.asarray(embeddings)
        width = self.class_bank.width
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
