"""The settings of any decode policy."""

from stale_edge.config.decoding import DecodeConfig
from stale_edge.config.points import PointsConfig
from stale_edge.config.runs import RunsConfig

DecodeSettings = DecodeConfig | PointsConfig | RunsConfig
"""The field `policy` names the decode policy."""
