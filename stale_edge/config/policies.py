"""The settings of any decode policy."""

from dataclasses import replace

from stale_edge.config.decoding import DecodeConfig
from stale_edge.config.points import PointsConfig
from stale_edge.config.runs import RunsConfig

DecodeSettings = DecodeConfig | PointsConfig | RunsConfig
"""The field `policy` names the decode policy."""


def with_levels(decode: DecodeSettings, n_levels: int) -> DecodeSettings:
    """Give the decoder of points as many levels as the network has; other policies know no levels."""
    return replace(decode, n_levels=n_levels) if isinstance(decode, PointsConfig) else decode
