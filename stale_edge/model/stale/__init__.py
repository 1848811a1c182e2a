"""STALE: the network of its paper, the network of its public code, and the objective both are trained with."""
