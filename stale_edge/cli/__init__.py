"""The command `stale-edge`: every command parses its arguments, calls one library function, and prints."""

from stale_edge.cli.app import main

__all__ = ["main"]
