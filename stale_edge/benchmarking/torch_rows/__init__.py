"""Rows that PyTorch runs, and the bundles made with it; other modules import these only inside functions."""
