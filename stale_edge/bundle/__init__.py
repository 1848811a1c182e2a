"""The bundle, a folder for devices with manifest, detector files and class bank: read, write, verify. Torch-free."""

from stale_edge.bundle.class_bank import ClassBank
from stale_edge.bundle.class_edits import add_classes, list_classes, remove_classes
from stale_edge.bundle.feature_contract import FORMAT, FORMAT_1, FeatureContract
from stale_edge.bundle.manifest import (
    CLASS_BANK_NAME,
    MANIFEST_NAME,
    FileEntry,
    Manifest,
    TensorSpec,
    detector_inputs,
    localizer_inputs,
    localizer_outputs,
    mask_detector_outputs,
)
from stale_edge.bundle.onnx_metadata import graph_metadata, read_onnx_metadata
from stale_edge.bundle.store import (
    Bundle,
    describe_bundle,
    metadata_problems,
    quantized_weights,
    read_bundle,
    verify_bundle,
)
from stale_edge.bundle.writer import BundleWriter, write_bundle

__all__ = [
    "CLASS_BANK_NAME",
    "FORMAT",
    "FORMAT_1",
    "MANIFEST_NAME",
    "Bundle",
    "BundleWriter",
    "ClassBank",
    "FeatureContract",
    "FileEntry",
    "Manifest",
    "TensorSpec",
    "add_classes",
    "describe_bundle",
    "detector_inputs",
    "graph_metadata",
    "list_classes",
    "localizer_inputs",
    "localizer_outputs",
    "mask_detector_outputs",
    "metadata_problems",
    "quantized_weights",
    "read_bundle",
    "read_onnx_metadata",
    "remove_classes",
    "verify_bundle",
    "write_bundle",
]
