"""Losses, targets, the training loop and evaluation in PyTorch."""
