"""A detector reduced to the outputs that decoding reads."""

from collections.abc import Sequence

from torch import Tensor, nn

from stale_edge.config import DecodeSettings
from stale_edge.decoding import decoder_of
from stale_edge.model.architectures import architecture_of
from stale_edge.model.detector import Detector


class ForDecoding(nn.Module):
    """Runs a detector and returns some of its outputs; a compiler removes work that only the others need.

    Args:
        detector: folded or not, in eval mode.
        reads: names of the outputs, in the order in which they are returned.
    """

    def __init__(self, detector: nn.Module, reads: Sequence[str]) -> None:
        super().__init__()
        self.whole = detector
        self.reads = tuple(reads)

    def forward(self, features: Tensor, class_embeddings: Tensor) -> tuple[Tensor, ...]:
        """Run features (B, T, C) and class embeddings (K, D)."""
        output = self.whole(features, class_embeddings)
        return tuple(getattr(output, name) for name in self.reads)


def decoding_of(detector: Detector) -> DecodeSettings:
    """Return a detector's default decode settings."""
    return architecture_of(detector.config.architecture).decode


def read_outputs(detector: Detector) -> tuple[str, ...]:
    """Name the outputs of a detector that decoding reads."""
    decoder = decoder_of(decoding_of(detector))
    names = [spec.name for spec in detector.output_specs()]
    return tuple(name for name in names if name in decoder.reads + decoder.may_read)
