"""Padded length of a video: the public program's padding where outputs depend on it, and no more than needed.

A padded snippet is not zero after a normalisation, so the last points of a video depend on *whether* padding follows,
but not on how much. The public program pads to `max_length`; one spare point on every level is enough.
"""

from stale_edge.model.actionformer.settings import ActionFormerConfig
from stale_edge.model.pyramid.padding import greater, lesser


def public_length(config: ActionFormerConfig, n_snippets: int) -> int:
    """Give the length that the public program pads a video to."""
    return _public_units(config, n_snippets) * config.unit


def padded_length(config: ActionFormerConfig, n_snippets: int) -> int:
    """Give the shortest length with the outputs of the public program, a multiple of `config.unit`.

    With one spare point on every level the outputs equal those of any longer padding. Where the public program leaves
    less than that, as for a video of exactly `max_length`, its own length is needed.
    """
    spare = (n_snippets + config.unit - 1) // config.unit + 1
    return lesser(spare, _public_units(config, n_snippets)) * config.unit


def _public_units(config: ActionFormerConfig, n_snippets: int) -> int:
    """Give the public length in points of the coarsest level.

    Lengths are computed in these units so that a recorded graph can tell that every level's length is whole.
    """
    rounded = (n_snippets + config.divisor - 1) // config.divisor * (config.divisor // config.unit)
    return greater(config.max_length // config.unit, rounded)
