"""Weak supervision: two branches that train each other from the classes of whole videos, arXiv:2212.09335."""
