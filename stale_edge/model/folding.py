"""A detector with its weights multiplied out, for inference."""

from torch import nn

from stale_edge.model.architectures import architecture_of
from stale_edge.model.channel_statistics import FeatureStatistics


def fold_detector(model: nn.Module, statistics: FeatureStatistics | None = None) -> nn.Module:
    """Give a detector equivalent to `model`, with fewer products where its architecture allows it.

    Args:
        model: detector of this package, in float32; it is not changed, and may share weights with what is returned.
        statistics: of features, for int8; not used by an architecture that gains nothing from them. None: features are
            read as they are.

    Returns:
        A `Detector` for inference with the same `config`; `model` itself if it has none, or cannot be folded.
    """
    config = getattr(model, "config", None)
    if config is None:
        return model
    row = architecture_of(config.architecture)
    if statistics is not None and row.fold_centred is not None:
        return row.fold_centred(model, statistics)
    return row.fold(model)
