"""Bundle + features -> detections, with numpy and onnxruntime alone (torch only for TorchScript files)."""

from stale_edge.runtime.backends import Backend, open_backend
from stale_edge.runtime.contract import check_feature_spec, checked_features
from stale_edge.runtime.loading import PrecisionWarning, load_bundle
from stale_edge.runtime.localizer import Localizer
from stale_edge.runtime.streaming import StreamingLocalizer
from stale_edge.runtime.text_encoder import BundleTextEncoder, load_text_encoder
from stale_edge.runtime.visual_encoder import VisualEncoder, load_encoder

__all__ = [
    "Backend",
    "BundleTextEncoder",
    "Localizer",
    "PrecisionWarning",
    "StreamingLocalizer",
    "VisualEncoder",
    "check_feature_spec",
    "checked_features",
    "load_bundle",
    "load_encoder",
    "load_text_encoder",
    "open_backend",
]
