"""Evaluation of detectors that are PyTorch modules."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from stale_edge.bundle import ClassBank, FeatureContract
from stale_edge.config import Config, DecodeSettings, FeatureSpec
from stale_edge.data import open_data_set, read_split
from stale_edge.errors import DeviceError
from stale_edge.model.checkpoint import Checkpoint, read_checkpoint
from stale_edge.model.detector import Detector, as_module
from stale_edge.progress import Progress, silent
from stale_edge.runtime.base import BaseLocalizer
from stale_edge.runtime.contract import check_feature_spec
from stale_edge.runtime.devices import torch_device
from stale_edge.runtime.evaluate import EvaluationReport, EvaluationSettings, evaluate_localizer
from stale_edge.segments import FloatArray
from stale_edge.training.class_sources import bank_for


class TorchLocalizer(BaseLocalizer):
    """A PyTorch detector behind the interface of `runtime.Localizer`.

    The detector is put into eval mode for each call and left in the mode it was in.

    Args:
        detector: on any device.
        class_bank: the vocabulary looked for by default.
        feature_contract: what features must be, and what they are resampled to.
        decode_config: how its outputs become detections.
    """

    def __init__(
        self,
        detector: Any,
        *,
        class_bank: ClassBank,
        feature_contract: FeatureContract,
        decode_config: DecodeSettings,
    ) -> None:
        self._detector: Detector = detector
        self._class_bank = class_bank
        self._feature_contract = feature_contract
        self._decode_config = decode_config

    @classmethod
    def of(cls, checkpoint: Checkpoint, *, class_bank: ClassBank | None = None) -> "TorchLocalizer":
        """Make a localizer of a checkpoint, with its own class bank or another."""
        return cls(
            checkpoint.model,
            class_bank=checkpoint.class_bank if class_bank is None else class_bank,
            feature_contract=feature_contract(checkpoint.config, checkpoint.feature_spec),
            decode_config=checkpoint.config.decode,
        )

    @property
    def class_bank(self) -> ClassBank:
        """The vocabulary looked for by default, with its embeddings."""
        return self._class_bank

    @property
    def feature_contract(self) -> FeatureContract:
        """What features must be, and what they are resampled to."""
        return self._feature_contract

    @property
    def decode_config(self) -> DecodeSettings:
        """How its outputs become detections."""
        return self._decode_config

    @property
    def provider(self) -> str:
        """PyTorch's device."""
        return f"PyTorch {self._device.type}"

    def _run(self, features: FloatArray, class_embeddings: FloatArray) -> dict[str, FloatArray]:
        module, device = as_module(self._detector), self._device
        was_training = module.training
        module.eval()
        try:
            with torch.inference_mode():
                output = module(torch.tensor(features, device=device), torch.tensor(class_embeddings, device=device))
        finally:
            module.train(was_training)
        names = [spec.name for spec in self._detector.output_specs()]
        return {name: getattr(output, name).float().cpu().numpy() for name in names}

    @property
    def _device(self) -> torch.device:
        """Where the detector's weights are; one without any runs on the CPU."""
        return next((weight.device for weight in as_module(self._detector).parameters()), torch.device("cpu"))


def feature_contract(config: Config, spec: FeatureSpec) -> FeatureContract:
    """Say what features a trained detector takes, and whether every video is resampled to the T of training."""
    model = config.model
    fixed = model.length_rule.fixed
    resampled = (fixed or config.train.n_snippets) if model.resampling == "linear" else None
    features = getattr(model, "features", None)  # not every architecture normalises inside its network
    return FeatureContract.from_spec(
        spec,
        length=fixed,
        resampling=model.resampling,
        resample_to=resampled,
        normalize="none" if features is None else features.normalize,
    )


def evaluate_checkpoint(
    path: Path,
    data: Path,
    *,
    split: Path | None = None,
    settings: EvaluationSettings | None = None,
    progress: Progress = silent,
) -> EvaluationReport:
    """Measure a checkpoint's mAP on a data set, with the training-free baseline beside it.

    Args:
        path: the checkpoint.
        data: the data set folder.
        split: class names to look for and to score, one a line; None: every class of the data set. Names that the
            checkpoint was not trained on are encoded by its text encoder, or read from the data set's `class_bank.npz`;
            without `split`, names found in neither have AP 0, with it they are an error.
        settings: as in `evaluate_localizer`.
        progress: called with (stage, done, total).

    Raises:
        DataError, CheckpointError, ClassBankError, FeatureContractError: something cannot be read or does not fit.
        DeviceError: PyTorch sees no GPU, or does not have such a device.
    """
    device = EvaluationSettings.device if settings is None else settings.device
    if device == "tensorrt":
        raise DeviceError("device tensorrt runs bundles; a checkpoint runs in PyTorch: use cuda, or export it")
    checkpoint, data_set = read_checkpoint(path), open_data_set(data)
    contract = feature_contract(checkpoint.config, checkpoint.feature_spec)
    check_feature_spec(contract, data_set.feature_spec)
    classes = None if split is None else read_split(split)
    bank = bank_for(checkpoint, data_set.class_names if classes is None else classes, root=data_set.root)
    localizer = TorchLocalizer.of(checkpoint, class_bank=bank)
    checkpoint.model.to(torch_device(torch, device))
    report = evaluate_localizer(
        localizer,
        data_set,
        classes=classes,
        settings=settings,
        progress=progress,
    )
    return replace(report, provider=localizer.provider)
