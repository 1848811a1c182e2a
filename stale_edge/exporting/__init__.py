"""Checkpoint -> bundle: ONNX and TorchScript in fp32, fp16 and int8, each judged by the parity gate first."""

from stale_edge.exporting.detector import DetectorExporter, export_detector
from stale_edge.exporting.export import Artifact, ExportReport, export_checkpoint
from stale_edge.exporting.formats import FORMATS, ArtifactFormat, select_formats
from stale_edge.exporting.graph.rewriting import WeightCount
from stale_edge.exporting.parity.check import BUDGETS, ArtifactParity, Budget

__all__ = [
    "BUDGETS",
    "FORMATS",
    "Artifact",
    "ArtifactFormat",
    "ArtifactParity",
    "Budget",
    "DetectorExporter",
    "ExportReport",
    "WeightCount",
    "export_checkpoint",
    "export_detector",
    "select_formats",
]
