"""Losses, targets, the training loop and evaluation in PyTorch."""

from stale_edge.training.alternating import train
from stale_edge.training.torch_localizer import TorchLocalizer, evaluate_checkpoint
from stale_edge.training.train_result import TrainResult

__all__ = ["TorchLocalizer", "TrainResult", "evaluate_checkpoint", "train"]
