"""The results of a demo as one value, from which the JSON and the report are made."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stale_edge.data import DataSet
from stale_edge.demo.stages import baseline_of
from stale_edge.evaluation.ladder import Rung
from stale_edge.exporting import ExportReport
from stale_edge.runtime.evaluate import EvaluationReport
from stale_edge.training import TrainResult

SCHEMA = "stale-edge-demo/1"


@dataclass
class Outcome:
    """Results of the stages of one demo, for the JSON and for the report.

    ladder: the training-free baseline, the linear probe, the detector.
    unseen, on_device: results on the open set, with names embedded by PyTorch's text encoder, and by the bundle's own
        without torch; None: the detector knows no other classes than those it is trained on.
    """

    out: Path
    seed: int
    data_set: DataSet
    trained: TrainResult
    closed: EvaluationReport
    unseen: EvaluationReport | None
    ladder: tuple[Rung, ...]
    on_device: EvaluationReport | None
    exported: ExportReport
    bench: dict[str, Any]
    seconds: dict[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values in the demo's schema; mAP in percent."""
        precisions = {
            artifact.entry.precision: {
                "average_mAP": artifact.parity.average_mAP,
                "model_bytes": artifact.entry.bytes,
                "flipped_snippets": artifact.parity.flipped_snippets,
                "matched_detections": artifact.parity.matched_detections,
            }
            for artifact in self.exported.artifacts
            if artifact.entry.runtime == "onnxruntime"
        }
        return {
            "schema": SCHEMA,
            "seed": self.seed,
            "features": "simulated",
            "closed_set": _accuracy(self.closed),
            "open_set": self._open_set(),
            "ladder": [rung.to_json() for rung in self.ladder],
            "precisions": precisions,
            "machine": self.bench["machine"],
            "bench": self.bench["rows"],
            "seconds": self.seconds,
        }

    def _open_set(self) -> dict[str, Any] | None:
        if self.unseen is None or self.on_device is None:
            return None
        return {**_accuracy(self.unseen), "bundle_average_mAP": self.on_device.result.average_mAP}


def _accuracy(report: EvaluationReport) -> dict[str, Any]:
    return {"average_mAP": report.result.average_mAP, "baseline_average_mAP": baseline_of(report)}
