"""A detector with its weights multiplied out, for inference."""

from torch import nn

from stale_edge.model import PaperStale, ReleaseStale
from stale_edge.model.channel_statistics import FeatureStatistics
from stale_edge.model.stale.folded_paper import fold_paper
from stale_edge.model.stale.folded_release import FoldedRelease


def fold_detector(model: nn.Module, statistics: FeatureStatistics | None = None) -> nn.Module:
    """Give a detector that answers as `model` does, with fewer products where its architecture allows it.

    Args:
        model: detector of this package, in float32; it is not changed, and may share weights with what is returned.
        statistics: of features, for the public network; None: they are read as they are.

    Returns:
        A detector for inference, with the same `config`; `model` itself if it is of neither architecture.
    """
    if isinstance(model, ReleaseStale):
        return FoldedRelease(model, statistics)
    return fold_paper(model) if isinstance(model, PaperStale) else model
