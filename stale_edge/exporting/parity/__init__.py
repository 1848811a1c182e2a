"""Parity: whether an exported file decides as the model does that it was made from."""
