"""A tiny data set that a detector can learn in seconds: each class is a direction, the text embeddings name it."""

import json
from pathlib import Path

import numpy as np

from stale_edge.bundle import ClassBank
from stale_edge.config import Config, config_from_dict
from stale_edge.model.architectures import ARCHITECTURES

CHANNELS = 16
CLASSES = ("bowling", "diving", "juggling", "surfing")


def class_embeddings() -> np.ndarray:
    """Unit vectors (K, C), the same in every data set."""
    vectors = np.random.default_rng(7).standard_normal((len(CLASSES), CHANNELS))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def write_data_set(root: Path, *, n_videos: int = 12, seed: int = 0) -> Path:
    """Write a data set folder with a class bank; every third video is for validation, each shows one or two actions."""
    rng = np.random.default_rng(seed)
    (root / "features").mkdir(parents=True)
    database = {}
    for i in range(n_videos):
        length = int(rng.integers(12, 30))
        duration_s = length * 1.5
        features = 0.3 * rng.standard_normal((length, CHANNELS))
        annotations = []
        for part in range(1 + i % 2):
            k = (i + part) % len(CLASSES)
            start = part * (length // 2) + int(rng.integers(0, 3))
            stop = start + int(rng.integers(3, length // 2 - 2))
            features[start:stop] += 2 * class_embeddings()[k]
            annotations.append({"segment": [start * 1.5, stop * 1.5], "label": CLASSES[k]})
        np.save(root / "features" / f"video_{i}.npy", features.astype(np.float32))
        subset = "validation" if i % 3 == 2 else "training"
        database[f"video_{i}"] = {"duration": duration_s, "subset": subset, "annotations": annotations}
    (root / "annotations.json").write_text(json.dumps({"version": "1", "taxonomy": [], "database": database}))
    ClassBank(CLASSES, class_embeddings(), "test:directions").save(root / "class_bank.npz")
    return root


def small_config(**train: object) -> Config:
    """Settings for a detector that trains in milliseconds a step."""
    return config_from_dict(
        {
            "model": {
                "feature_channels": CHANNELS, "embed_dim": CHANNELS, "n_heads": 2, "feedforward_dim": 16,
                "n_temporal_layers": 1, "n_mask_queries": 3, "localizer_dim": 8, "dynamic_channels": 4,
                "text": {"n_contexts": 2},
            },
            "train": {"epochs": 3, "batch_size": 3, "n_snippets": 12, "learning_rate": 5e-3, "device": "cpu", **train},
        },
        ARCHITECTURES,
    )  # fmt: skip
