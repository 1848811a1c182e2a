"""Losses, targets, the training loop and evaluation in PyTorch."""

from stale_edge.training.evaluate import TorchLocalizer, evaluate_checkpoint
from stale_edge.training.loop import train
from stale_edge.training.result import TrainResult

__all__ = ["TorchLocalizer", "TrainResult", "evaluate_checkpoint", "train"]
