"""Train the public network unchanged, and with one repair at a time."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from figures import spread
from made_data import config_for, trained
from torch import Tensor

from stale_edge.config import ModelConfig
from stale_edge.data import DataSet
from stale_edge.model import StaleOutput
from stale_edge.model.layers import l2_normalize
from stale_edge.model.stale.release import LOGIT_SCALE, ReleaseStale, directions
from stale_edge.training import evaluate_checkpoint


class Repaired(ReleaseStale):
    """The public network with one repair.

    residual: eq. 6 keeps the text itself (stale_model.py:40, 220 multiply it by 0).
    clamp: set negative features to 1e-4 before the cosine (stale_model.py:111).
    mask_gate: the foreground comes from the mask transformer, as in eq. 3 to 5, and not from the mean mask.
    """

    def __init__(
        self, config: ModelConfig, *, residual: float = 0.0, clamp: bool = True, mask_gate: bool = False
    ) -> None:
        super().__init__(config)
        self.residual, self.clamp, self.mask_gate = residual, clamp, mask_gate

    def forward(self, features: Tensor, class_embeddings: Tensor) -> StaleOutput:
        """Do the same as `ReleaseStale.forward`, with the repairs."""
        embedding, masks, snippets = self._localize(features, class_embeddings)
        foreground = self.masking(features, embedding)
        if self.mask_gate:
            gate = (foreground > 0.5).to(embedding.dtype)
            if self.training:
                gate = gate + (foreground - foreground.detach())
            snippets = embedding * gate.unsqueeze(-1)
        plain = torch.cat([class_embeddings, self.background]).expand(snippets.shape[0], -1, -1)
        text = self._adapt(class_embeddings, snippets) + self.residual * plain
        visual = directions(snippets) if self.clamp else l2_normalize(snippets)
        logits = (l2_normalize(text) * LOGIT_SCALE) @ visual.transpose(1, 2)
        return StaleOutput(logits, masks, foreground, embedding)


NETWORKS: dict[str, dict[str, Any]] = {
    "as published": {},
    "text kept in the residual": {"residual": 1.0},
    "features not clamped": {"clamp": False},
    "gated by the mask transformer": {"mask_gate": True},
}


@contextlib.contextmanager
def building(arguments: dict[str, Any]) -> Iterator[None]:
    """Make training and reading of checkpoints build the repaired network."""

    def build(config: ModelConfig) -> Repaired:
        return Repaired(config, **arguments)

    with (
        mock.patch("stale_edge.training.loop.build_model", build),
        mock.patch("stale_edge.model.checkpoint.build_model", build),
    ):
        yield


def measure_network(data: DataSet, work: Path, *, epochs: int, seeds: int) -> dict[str, Any]:
    """Train the public network on three quarters of the classes, unchanged and with each repair."""
    rows = {}
    splits = data.root / "splits"
    for name, arguments in NETWORKS.items():
        seen, unseen = [], []
        for seed in range(seeds):
            config = config_for(epochs=epochs, seed=seed, architecture="release", classes=splits / "train.list")
            with building(arguments):
                checkpoint = trained(config, data.root, work / "runs" / f"network-{name.replace(' ', '-')}-{seed}")
                for values, split in ((seen, "train.list"), (unseen, "test.list")):
                    report = evaluate_checkpoint(checkpoint, data.root, split=splits / split)
                    values.append(report.result.average_mAP)
            print(f"network {name:32} seed {seed}  seen {seen[-1]:.2f}  unseen {unseen[-1]:.2f}", flush=True)
        rows[name] = {"seen": spread(seen), "unseen": spread(unseen)}
    return {"rows": rows, "seeds": seeds}
