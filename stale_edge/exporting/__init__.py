"""Checkpoint -> bundle: ONNX and TorchScript in fp32, fp16 and int8; each file is compared with the model."""

from stale_edge.exporting.artifact_formats import FORMATS, ArtifactFormat, select_formats
from stale_edge.exporting.detector_exporter import DetectorExporter, export_detector
from stale_edge.exporting.export import ExportReport, export_checkpoint
from stale_edge.exporting.exported import Exported
from stale_edge.exporting.graph.rewriting import WeightCount
from stale_edge.exporting.parity.result import BUDGETS, Budget, Parity

__all__ = [
    "BUDGETS",
    "FORMATS",
    "ArtifactFormat",
    "Budget",
    "DetectorExporter",
    "ExportReport",
    "Exported",
    "Parity",
    "WeightCount",
    "export_checkpoint",
    "export_detector",
    "select_formats",
]
