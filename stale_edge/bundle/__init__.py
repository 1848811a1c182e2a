"""The folder a device receives: manifest, detector files and class bank; read, write, verify. Torch-free."""

from stale_edge.bundle.class_bank import ClassBank

__all__ = ["ClassBank"]
