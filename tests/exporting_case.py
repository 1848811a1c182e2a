"""A tiny detector that learned a toy task, with its checkpoint and data set: low precision must keep its decisions."""

import functools
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stale_edge.bundle import ClassBank
from stale_edge.config import Config, FeatureSpec, ModelConfig, TrainConfig
from stale_edge.model import build_model
from stale_edge.model.checkpoint import write_checkpoint

CHANNELS = 16
LENGTH = 30
NAMES = ("run", "jump", "swim")
SECONDS_PER_SNIPPET = 2.0

PAPER = ModelConfig(
    feature_channels=CHANNELS,
    embed_dim=CHANNELS,
    n_heads=2,
    feedforward_dim=24,
    n_temporal_layers=1,
    n_mask_queries=4,
    localizer_dim=12,
    dynamic_channels=4,
    dropout=0.0,
)
RELEASE = ModelConfig(
    architecture="release", feature_channels=CHANNELS, embed_dim=CHANNELS, n_heads=2, temporal_scale=14
)
"""A length that differs from all other sizes in these tests."""


def bank() -> ClassBank:
    rng = np.random.default_rng(5)
    return ClassBank(NAMES, rng.standard_normal((len(NAMES), CHANNELS)).astype(np.float32), "toy")


@dataclass(frozen=True)
class Toy:
    """features (B, T, C), labels (B, T) with background K, masks (B, T, T): row i for snippet i."""

    features: Tensor
    labels: Tensor
    masks: Tensor


def draw(n_videos: int, seed: int) -> Toy:
    """Draw videos of background noise with one action: the direction of its class added to some snippets in a row."""
    rng = np.random.default_rng(seed)
    directions = bank().embeddings
    features = 0.4 * rng.standard_normal((n_videos, LENGTH, CHANNELS)).astype(np.float32)
    labels = np.full((n_videos, LENGTH), len(NAMES))
    masks = np.zeros((n_videos, LENGTH, LENGTH), dtype=np.float32)
    for video in range(n_videos):
        start, length, label = rng.integers(2, 14), rng.integers(5, 14), rng.integers(len(NAMES))
        inside = slice(start, start + length)
        features[video, inside] += directions[label]
        labels[video, inside] = label
        masks[video, inside, inside] = 1
    return Toy(torch.from_numpy(features), torch.from_numpy(labels), torch.from_numpy(masks))


@functools.cache
def trained_model() -> nn.Module:
    """Train on the toy task for some seconds; always gives the same weights on one machine."""
    torch.manual_seed(0)
    model = build_model(PAPER).train()
    embeddings = torch.from_numpy(bank().embeddings.copy())
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for step in range(160):
        toy = draw(8, seed=1000 + step)
        output = model(toy.features, embeddings)
        inside = (toy.labels < len(NAMES)).float()
        mask_loss = F.binary_cross_entropy(output.masks, toy.masks, reduction="none").mean(dim=2)
        loss = (
            F.cross_entropy(output.class_logits, toy.labels)
            + (mask_loss * inside).sum() / inside.sum()
            + F.binary_cross_entropy(output.foreground, inside)
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


def save_checkpoint(path: Path, model: nn.Module) -> Path:
    config = Config(model=PAPER, train=TrainConfig(n_snippets=LENGTH))
    spec = FeatureSpec(encoder="toy", channels=CHANNELS, fps=8.0, stride=16)
    write_checkpoint(path, model=model, config=config, feature_spec=spec, class_bank=bank(), text_encoder=None)
    return path


def save_data(root: Path, n_videos: int = 16) -> Path:
    """Write validation videos as a data set folder."""
    toy = draw(n_videos, seed=1)
    (root / "features").mkdir(parents=True)
    database = {}
    for i in range(n_videos):
        np.save(root / "features" / f"v{i}.npy", toy.features[i].numpy())
        inside = torch.nonzero(toy.labels[i] < len(NAMES)).flatten()
        segment = [int(inside[0]) * SECONDS_PER_SNIPPET, (int(inside[-1]) + 1) * SECONDS_PER_SNIPPET]
        database[f"v{i}"] = {
            "duration": LENGTH * SECONDS_PER_SNIPPET,
            "subset": "validation",
            "annotations": [{"segment": segment, "label": NAMES[int(toy.labels[i, inside[0]])]}],
        }
    text = json.dumps({"version": "1.3", "taxonomy": [], "database": database})
    (root / "annotations.json").write_text(text, encoding="utf-8")
    spec = {"encoder": "toy", "channels": CHANNELS, "fps": 8.0, "stride": 16}
    (root / "feature_spec.json").write_text(json.dumps(spec), encoding="utf-8")
    return root
