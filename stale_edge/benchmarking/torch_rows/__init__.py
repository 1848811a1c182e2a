"""PyTorch rows, and bundles made with PyTorch; other modules import these only inside functions."""
