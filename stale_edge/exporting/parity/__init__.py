"""Parity check: compare an exported file's decisions with its model's."""
