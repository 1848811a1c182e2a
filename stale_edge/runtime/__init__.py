"""Bundle + features -> detections, with numpy and onnxruntime alone (torch only for TorchScript files)."""

from stale_edge.runtime.backends import Backend, open_backend
from stale_edge.runtime.contract import check_feature_spec, checked_features
from stale_edge.runtime.localizer import Localizer, PrecisionWarning, load_bundle

__all__ = [
    "Backend",
    "Localizer",
    "PrecisionWarning",
    "check_feature_spec",
    "checked_features",
    "load_bundle",
    "open_backend",
]
