"""Make the page's sample, seeded, within a minute: `sample.py OUT`. A small detector learns six invented classes."""

import argparse
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from stale_edge.bundle import ClassBank
from stale_edge.config import Config, FeatureSpec, ModelConfig, TrainConfig
from stale_edge.exporting import export_checkpoint
from stale_edge.model import build_model
from stale_edge.model.checkpoint import write_checkpoint

NAMES = ("run", "jump", "swim", "throw", "climb", "juggle")
CHANNELS, LENGTH = 32, 100
FPS, STRIDE = 8.0, 16
STEPS, BATCH = 220, 6
MODEL = ModelConfig(
    feature_channels=CHANNELS,
    embed_dim=CHANNELS,
    n_heads=2,
    feedforward_dim=48,
    n_temporal_layers=1,
    n_mask_queries=6,
    localizer_dim=16,
    dynamic_channels=4,
    dropout=0.0,
)


def draw(rng: np.random.Generator, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw features (T, C), labels (T,) with background K, and masks (T, T): row i holds the action of snippet i."""
    features = 0.75 * rng.standard_normal((LENGTH, CHANNELS)).astype(np.float32)
    labels = np.full(LENGTH, len(NAMES))
    masks = np.zeros((LENGTH, LENGTH), np.float32)
    at, order = int(rng.integers(1, 10)), []
    while at < LENGTH - 6:
        end = min(at + int(rng.integers(6, 20)), LENGTH - 1)
        order = order or rng.permutation(len(NAMES)).tolist()  # every class before one comes again
        label = order.pop()
        features[at:end] += rng.uniform(0.4, 1.0) * directions[label]  # some actions are hard to see
        labels[at:end] = label
        masks[at:end, at:end] = 1
        at = end + int(rng.integers(3, 10))
    return features, labels, masks


def train(bank: ClassBank, rng: np.random.Generator) -> torch.nn.Module:
    """Train a detector on the six classes."""
    torch.manual_seed(0)
    model = build_model(MODEL).train()
    embeddings = torch.from_numpy(bank.embeddings.copy())
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(STEPS):
        videos = zip(*(draw(rng, bank.embeddings) for _ in range(BATCH)), strict=True)
        features, labels, masks = (torch.from_numpy(np.stack(part)) for part in videos)
        output = model(features, embeddings)
        inside = (labels < len(NAMES)).float()
        mask_loss = F.binary_cross_entropy(output.masks, masks, reduction="none").mean(dim=2)
        loss = (
            F.cross_entropy(output.class_logits, labels)
            + (mask_loss * inside).sum() / inside.sum()
            + F.binary_cross_entropy(output.foreground, inside)
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path, help="a folder; replaced if it is there")
    out = parser.parse_args().out
    if out.exists():
        shutil.rmtree(out)
    out.mkdir(parents=True)
    rng = np.random.default_rng(0)
    directions = rng.standard_normal((len(NAMES), CHANNELS)).astype(np.float32)
    bank = ClassBank(NAMES, directions, "sample")
    write_checkpoint(
        out / "checkpoint",
        model=train(bank, rng),
        config=Config(model=MODEL, train=TrainConfig(n_snippets=LENGTH)),
        feature_spec=FeatureSpec(encoder="simulated", channels=CHANNELS, fps=FPS, stride=STRIDE),
        class_bank=bank,
        text_encoder=None,
    )
    export_checkpoint(out / "checkpoint", out / "bundle", formats=["onnx"], precisions=["fp32", "int8"])
    shutil.rmtree(out / "checkpoint")
    np.save(out / "features.npy", draw(rng, directions)[0])
    said = {"features": "simulated.npy", "duration_s": LENGTH * STRIDE / FPS}
    (out / "sample.json").write_text(json.dumps(said) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
