"""Evaluation of detectors that still are PyTorch modules."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from stale_edge.bundle import ClassBank, FeatureContract
from stale_edge.config import Config, DecodeConfig, FeatureSpec
from stale_edge.data import open_data_set, read_scores, read_split, resample
from stale_edge.decoding import decode
from stale_edge.errors import ClassBankError, FeatureContractError
from stale_edge.model.checkpoint import Checkpoint, read_checkpoint
from stale_edge.model.output import StaleOutput
from stale_edge.runtime.contract import check_feature_spec, checked_features
from stale_edge.runtime.evaluate import EvaluationReport, evaluate_localizer
from stale_edge.segments import Detection, FloatArray
from stale_edge.training.classes import bank_for

Progress = Callable[..., None]
"""Called with (stage, done, total) or (stage, done, total, note)."""


class TorchLocalizer:
    """A PyTorch detector with the interface of `runtime.Localizer`: same contract, resampling and decoding.

    The detector is put into eval mode for each call and left in the mode it was in.

    Args:
        detector: on any device.
        class_bank: the vocabulary looked for by default.
        feature_contract: what features must be, and what they are resampled to.
        decode_config: how logits and masks become detections.
    """

    def __init__(
        self,
        detector: nn.Module,
        *,
        class_bank: ClassBank,
        feature_contract: FeatureContract,
        decode_config: DecodeConfig,
    ) -> None:
        self._detector = detector
        self.class_bank = class_bank
        self.feature_contract = feature_contract
        self.decode_config = decode_config

    @classmethod
    def of(cls, checkpoint: Checkpoint, *, class_bank: ClassBank | None = None) -> "TorchLocalizer":
        """Make a localizer of a checkpoint, with its own class bank or another."""
        return cls(
            checkpoint.model,
            class_bank=checkpoint.class_bank if class_bank is None else class_bank,
            feature_contract=feature_contract(checkpoint.config, checkpoint.feature_spec),
            decode_config=checkpoint.config.decode,
        )

    def forward(self, features: Any, class_embeddings: Any = None) -> dict[str, FloatArray]:
        """Run the detector as it is; see `runtime.Localizer.forward`.

        Raises:
            FeatureContractError: (a ValueError) the features do not fit.
        """
        values = checked_features(features, self.feature_contract)
        batch = values if values.ndim == 3 else values[None]  # (B, T, C)
        embeddings = self.class_bank.embeddings if class_embeddings is None else class_embeddings
        device = next(self._detector.parameters()).device
        was_training = self._detector.training
        self._detector.eval()
        try:
            with torch.inference_mode():
                output: StaleOutput = self._detector(
                    torch.tensor(batch, device=device), torch.tensor(embeddings, dtype=torch.float32, device=device)
                )
        finally:
            self._detector.train(was_training)
        named = {name: getattr(output, name) for name in ("class_logits", "masks", "foreground")}
        arrays = {name: value.float().cpu().numpy() for name, value in named.items()}
        return arrays if values.ndim == 3 else {name: value[0] for name, value in arrays.items()}

    def detect(
        self,
        features: Any,
        *,
        duration_s: float,
        class_bank: ClassBank | Sequence[str] | None = None,
        video_label: str | None = None,
        video_score: float | None = None,
    ) -> list[Detection]:
        """Find which action happens when in one video; see `runtime.Localizer.detect`.

        Raises:
            FeatureContractError: (a ValueError) the features do not fit.
            ClassBankError: (a ValueError) an unknown name, or embeddings of another text encoder.
            ValueError: the duration, video_label or video_score is not allowed.
        """
        if isinstance(duration_s, bool) or not math.isfinite(duration_s) or duration_s <= 0:
            raise ValueError(f"duration_s must be the video's length in seconds, finite and > 0; got {duration_s!r}")
        bank = self._bank_for(class_bank)
        contract = self.feature_contract
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
            policy=self.decode_config.policy,
            video_label=video_label,
            video_score=video_score,
            config=self.decode_config,
        )

    def _bank_for(self, choice: ClassBank | Sequence[str] | None) -> ClassBank:
        if choice is None:
            return self.class_bank
        if not isinstance(choice, ClassBank):
            return self.class_bank.select(choice)
        if choice.fingerprint != self.class_bank.fingerprint:
            raise ClassBankError(
                f"this class bank comes from another text encoder: fingerprint {choice.fingerprint!r}, the model's is "
                f"{self.class_bank.fingerprint!r}; encode the names with the checkpoint's own encoder"
            )
        return choice


def feature_contract(config: Config, spec: FeatureSpec) -> FeatureContract:
    """Say what features a trained detector takes: every video is resampled to the T it was trained with."""
    n_snippets = config.train.n_snippets
    fixed = n_snippets if config.model.architecture == "release" else None
    return FeatureContract.from_spec(spec, length=fixed, resampling="linear", resample_to=n_snippets)


def evaluate_checkpoint(
    path: Path,
    data: Path,
    *,
    split: Path | None = None,
    scores: Path | None = None,
    subset: str = "validation",
    progress: Progress | None = None,
) -> EvaluationReport:
    """Measure a checkpoint's mAP on a data set, with the training-free baseline beside it.

    Args:
        path: the checkpoint.
        data: the data set folder.
        split: class names to look for and to score, one a line; None: every class of the data set. Names that the
            checkpoint was not trained on are encoded by its text encoder, or read from the data set's `class_bank.npz`;
            without `split`, those that neither knows have AP 0, with it they are an error.
        scores: video-level scores for score enhancement; None: none are used.
        subset: of the annotations.
        progress: called with (stage, done, total).

    Raises:
        DataError, CheckpointError, ClassBankError, FeatureContractError: something cannot be read or does not fit.
    """
    checkpoint, data_set = read_checkpoint(path), open_data_set(data)
    contract = feature_contract(checkpoint.config, checkpoint.feature_spec)
    check_feature_spec(contract, data_set.feature_spec)
    classes = None if split is None else read_split(split)
    bank = bank_for(checkpoint, data_set.class_names if classes is None else classes, root=data_set.root)
    return evaluate_localizer(
        TorchLocalizer.of(checkpoint, class_bank=bank),
        data_set,
        classes=classes,
        subset=subset,
        scores=None if scores is None else read_scores(scores),
        progress=progress,
    )
