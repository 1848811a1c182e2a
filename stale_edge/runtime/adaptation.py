"""Adaptation of class embeddings to one video, without training: the idea of T3AL, arXiv:2404.05426, in NumPy."""

import time
from dataclasses import replace
from typing import Any

import numpy as np

from stale_edge.bundle import ClassBank
from stale_edge.runtime.base import BaseLocalizer
from stale_edge.runtime.timings import Measured

TOP_SHARE = 0.1
"""A name's pseudo-labels are this share of the snippets, those that it fits best."""
STEP = 0.05
"""Length of one step, as a share of the length of the embedding."""


def adapted_classes(localizer: BaseLocalizer, features: Any, bank: ClassBank, *, steps: int) -> ClassBank:
    """Move class embeddings towards the snippets of a video that they fit best.

    T3AL trains the projections of image and text on pseudo-labels of one video; here only the embedding of a name
    moves, which is an input of every runtime. One step: the snippets with the highest logits of a class are its
    pseudo-labels; its embedding moves by `STEP` towards their mean, less the mean of the video.

    Args:
        localizer: of the policy `runs`, with features and class embeddings in one space.
        features: (T, C) of the whole video.
        bank: K classes, (K, C).
        steps: >= 0; each runs the network once.
    """
    snippets = np.asarray(features, dtype=np.float32)
    snippets = snippets / np.maximum(np.linalg.norm(snippets, axis=1, keepdims=True), 1e-6)
    snippets = snippets - snippets.mean(axis=0)
    n_top = max(1, round(TOP_SHARE * len(snippets)))
    for _ in range(steps):
        logits = localizer.forward(features, bank.embeddings)["class_logits"][:-1]  # (K, T)
        best = np.argsort(-logits, axis=1)[:, :n_top]  # (K, n_top)
        targets = snippets[best].mean(axis=1)  # (K, C)
        targets /= np.maximum(np.linalg.norm(targets, axis=1, keepdims=True), 1e-6)
        lengths = np.linalg.norm(bank.embeddings, axis=1, keepdims=True)
        bank = replace(bank, embeddings=bank.embeddings + STEP * lengths * targets)
    return bank


class AdaptingLocalizer:
    """A localizer that adapts the class embeddings to each video first; `adapt_s` sums the seconds that this takes."""

    def __init__(self, localizer: BaseLocalizer, *, steps: int) -> None:
        self._localizer, self._steps = localizer, steps
        self.adapt_s = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._localizer, name)

    def measure(self, features: Any, *, class_bank: ClassBank, **how: Any) -> Measured:
        """Find the actions in one video, as `BaseLocalizer.measure` does."""
        started = time.perf_counter()
        bank = adapted_classes(self._localizer, features, class_bank, steps=self._steps)
        self.adapt_s += time.perf_counter() - started
        return self._localizer.measure(features, class_bank=bank, **how)
