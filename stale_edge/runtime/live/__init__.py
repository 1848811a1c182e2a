"""Live detection: sources of snippets, a bounded intake, and the events of a stream."""

from stale_edge.runtime.live.intake import Intake
from stale_edge.runtime.live.sources import Incoming, LiveSource, open_live
from stale_edge.runtime.live.watch import WatchSettings, watch

__all__ = ["Incoming", "Intake", "LiveSource", "WatchSettings", "open_live", "watch"]
