"""Edge deployment kit for STALE, zero-shot temporal action localization with CLIP.

Everything exported here is torch-free except `load_checkpoint`, which imports torch when it is called.
"""

import importlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stale_edge.version import __version__

if TYPE_CHECKING:
    from torch import nn

    from stale_edge.decoding import decode, soft_nms
    from stale_edge.evaluation import average_precision, mean_average_precision
    from stale_edge.jobs.searching import find
    from stale_edge.runtime import Localizer, StreamingLocalizer, load_bundle
    from stale_edge.segments import Detection

# From 1.29 on, ONNX Runtime sends usage data, hashes of models among them, unless this is set before it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

_HOME = {
    "Detection": "stale_edge.segments",
    "Localizer": "stale_edge.runtime",
    "StreamingLocalizer": "stale_edge.runtime",
    "average_precision": "stale_edge.evaluation",
    "decode": "stale_edge.decoding",
    "find": "stale_edge.jobs.searching",
    "load_bundle": "stale_edge.runtime",
    "mean_average_precision": "stale_edge.evaluation",
    "soft_nms": "stale_edge.decoding",
}

__all__ = [
    "Detection",
    "Localizer",
    "StreamingLocalizer",
    "__version__",
    "average_precision",
    "decode",
    "find",
    "load_bundle",
    "load_checkpoint",
    "mean_average_precision",
    "soft_nms",
]


def load_checkpoint(path: Path | str) -> "nn.Module":
    """Load the detector of a checkpoint; imports torch, which only this call needs.

    Returns:
        The module in eval mode on the CPU; `forward(features (B, T, C), class_embeddings (K, D)) -> StaleOutput`.

    Raises:
        CheckpointError: missing, truncated, changed, foreign, or of another format version; the file is named.
        MissingExtraError: torch, or what comes with it in the extra `train`, is not installed.
    """
    try:
        from stale_edge.model import checkpoint
    except ModuleNotFoundError as error:
        from stale_edge.errors import MissingExtraError

        raise MissingExtraError(
            f"a checkpoint needs {error.name}: pip install 'stale-edge[train]'; a bundle needs only load_bundle"
        ) from error
    return checkpoint.load_checkpoint(path)


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module 'stale_edge' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
