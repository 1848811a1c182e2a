"""Average mAP on the validation videos while a detector is trained."""

import time
from dataclasses import dataclass
from typing import Any

from stale_edge.config import Config
from stale_edge.data.folder import DataSet
from stale_edge.progress import Progress
from stale_edge.runtime.evaluate import EvaluationSettings, evaluate_localizer
from stale_edge.training.class_sources import ClassSource, bank_of
from stale_edge.training.plan import TrainingPlan
from stale_edge.training.torch_localizer import TorchLocalizer, feature_contract


@dataclass(frozen=True)
class Validation:
    """What a run validates, and when.

    config: `train.validate_every` and how outputs are decoded.
    detector: the one that would be deployed, for example with averaged weights.
    classes: gives the class embeddings.
    """

    config: Config
    data_set: DataSet
    plan: TrainingPlan
    detector: Any
    classes: ClassSource
    progress: Progress

    @property
    def possible(self) -> bool:
        """Whether any epoch is validated: if asked for, with videos to validate on, by a detector that can run."""
        config = self.config
        return config.train.validate_every > 0 and self.plan.validation_subset is not None and config.model.deployable

    def measure(self, epoch: int) -> dict[str, Any]:
        """Give the fields of validation of an epoch's record; empty: this epoch is not validated."""
        train, subset = self.config.train, self.plan.validation_subset
        if not self.possible or subset is None or (epoch % train.validate_every and epoch != train.epochs):
            return {}
        started = time.perf_counter()
        localizer = TorchLocalizer(
            self.detector,
            class_bank=bank_of(self.classes, self.plan.vocabulary, detector=self.detector),
            feature_contract=feature_contract(self.config, self.data_set.feature_spec),
            decode_config=self.config.decode,
        )
        report = evaluate_localizer(
            localizer,
            self.data_set,
            classes=self.plan.vocabulary,
            settings=EvaluationSettings(subset),
            progress=lambda _, done, total, note="": self.progress(f"validate, epoch {epoch}", done, total, note),
        )
        return {
            "average_mAP": report.result.average_mAP,
            "mAP": list(report.result.mAP),
            "baseline_average_mAP": None if report.baseline is None else report.baseline.average_mAP,
            "validation_seconds": round(time.perf_counter() - started, 3),
        }
