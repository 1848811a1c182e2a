"""Bundles by name: pushed to and pulled from a model hub, with a card made of the manifest."""

from stale_edge.hub.exchange import is_hub_name, pull, push

__all__ = ["is_hub_name", "pull", "push"]
