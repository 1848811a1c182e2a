"""Segments of videos to and from the files of annotation tools, players and editors."""

from stale_edge.interchange.convert import READERS, WRITERS, convert

__all__ = ["READERS", "WRITERS", "convert"]
