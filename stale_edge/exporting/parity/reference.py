"""The model's own outputs and detections, computed once and compared with every file."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from stale_edge.bundle import ClassBank
from stale_edge.config import DecodeSettings
from stale_edge.decoding import decode_outputs
from stale_edge.evaluation import mean_average_precision
from stale_edge.evaluation.noise import noise_of_change
from stale_edge.exporting.graph.detector_graph import in_eval_mode, model_config, output_specs, read_outputs
from stale_edge.exporting.parity.videos import ParityData, shape_cases
from stale_edge.model.detector import Detector
from stale_edge.progress import Progress, silent
from stale_edge.runtime.contract import time_grid
from stale_edge.segments import Detection, FloatArray

Outputs = Mapping[str, FloatArray]
"""A detector's deployed outputs for B videos, by name."""


@dataclass(frozen=True)
class Batch:
    """Inputs of a detector with the model's outputs: features (B, T, C), class embeddings (K, D)."""

    features: FloatArray
    class_embeddings: FloatArray
    outputs: Outputs


class Reference:
    """Outputs and decisions of a model on videos, and on batches of several sizes.

    videos: one batch per video. shapes: batches of sizes that no graph was traced with. detections: of each video.
    decoded: names of the outputs that decoding reads.

    Args:
        model: the float32 detector, on the CPU.
        bank: the vocabulary of the bundle.
        data: videos of the training distribution.
        decode_config: how outputs become detections.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        bank: ClassBank,
        data: ParityData,
        decode_config: DecodeSettings,
        progress: Progress = silent,
    ) -> None:
        self.model, self.config = model, model_config(model)
        self.bank, self.data, self.decode_config = bank, data, decode_config
        self.decoded = read_outputs(decode_config, output_specs(model))
        with in_eval_mode(model):
            self.shapes = [
                Batch(case.features, case.class_embeddings, run_detector(model, case.features, case.class_embeddings))
                for case in shape_cases(data, config=self.config, bank=bank)
            ]
            self.videos = []
            for done, video in enumerate(data.videos):
                progress("run the model", done, len(data.videos))
                features = video.features[None]
                self.videos.append(Batch(features, bank.embeddings, run_detector(model, features, bank.embeddings)))
        progress("run the model", len(data.videos), len(data.videos))
        self.detections = [self.decode(i, batch.outputs) for i, batch in enumerate(self.videos)]
        self.average_map = self.measure(self.detections)

    def decode(self, video: int, outputs: Outputs) -> list[Detection]:
        """Turn the outputs for one video into detections."""
        return decode_outputs(
            {name: values[0] for name, values in outputs.items()},
            class_names=self.bank.names,
            grid=time_grid(self.data.contract, duration_s=self.data.videos[video].duration_s),
            config=self.decode_config,
        )

    def measure(self, detections: list[list[Detection]]) -> float | None:
        """Compute average mAP in percent; None without annotations."""
        if self.data.truth is None:
            return None
        truth, known = self.data.truth, set(self.bank.names)
        found = self._layout(detections)
        return mean_average_precision(truth, found, subset="validation", classes=known).average_mAP

    def compare_map(self, detections: list[list[Detection]], allowed_loss: float) -> dict[str, Any]:
        """Give the fields of a `Parity` about mAP; noise is only estimated where more than `allowed_loss` is lost."""
        file, model, noise = self.measure(detections), self.average_map, 0.0
        if file is not None and model is not None and self.data.truth is not None and model - file > allowed_loss:
            layouts = self._layout(self.detections), self._layout(detections)
            noise = noise_of_change(self.data.truth, *layouts, classes=set(self.bank.names))
        return {"average_mAP": file, "model_average_mAP": model, "map_noise": noise}

    def _layout(self, detections: list[list[Detection]]) -> dict[str, Any]:
        results = {
            video.name: [{"label": d.label, "score": d.score, "segment": [d.start_s, d.end_s]} for d in found]
            for video, found in zip(self.data.videos, detections, strict=True)
        }
        return {"results": results}

    def undecided(self, outputs: Outputs) -> NDArray[np.float64]:
        """Compute the signed distance (B, N) of every hard decision from its threshold; > 0 where it is "on"."""
        return cast(Detector, self.model).undecided(outputs)

    @property
    def gate_margins(self) -> dict[str, float]:
        """Summarize the distances of hard decisions from their thresholds: least, 1st percentile and median.

        Empty for a detector without hard decisions.
        """
        distances = np.abs(np.concatenate([self.undecided(batch.outputs).ravel() for batch in self.videos]))
        if not distances.size:
            return {}
        return {
            "least": float(distances.min()),
            "percentile_1": float(np.percentile(distances, 1)),
            "median": float(np.median(distances)),
        }


def run_detector(model: nn.Module, features: FloatArray, class_embeddings: FloatArray) -> dict[str, FloatArray]:
    """Run the detector itself, in its current mode, on (B, T, C) features and (K, D) class embeddings."""
    # Copies: torch has no read-only tensors, and the class bank's array is read-only.
    answer = model(torch.from_numpy(features.copy()), torch.from_numpy(class_embeddings.copy()))
    return {spec.name: getattr(answer, spec.name).numpy() for spec in output_specs(model)}
