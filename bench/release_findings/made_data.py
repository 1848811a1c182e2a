"""The simulated task that all parts share: data set, network and training, which takes minutes."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from stale_edge.config import Config, ModelConfig, SimulateConfig, TextConfig, TrainConfig
from stale_edge.data import DataSet, open_data_set
from stale_edge.data.folder import ANNOTATIONS_FILE, TEXT_ENCODER_FOLDER
from stale_edge.data.public import find_public_layout, read_public_annotations
from stale_edge.model.small_text import small_text_encoder
from stale_edge.training import train
from stale_edge.training.simulated_data import simulate_with_encoder

CHANNELS, N_CLASSES = 128, 40


def make_data(folder: Path, *, n_videos: int, seed: int, annotations: Path | None) -> DataSet:
    """Simulate the data set that all parts share; if annotations are given, with the real timelines of 40 classes."""
    if (folder / ANNOTATIONS_FILE).is_file():
        return open_data_set(folder)
    if folder.exists():
        shutil.rmtree(folder)
    small_text_encoder(folder / TEXT_ENCODER_FOLDER, dim=CHANNELS, seed=seed)
    timelines = None
    if annotations is not None:
        timelines = folder.parent / "timelines.json"
        timelines.write_text(json.dumps(_of_some_classes(annotations, seed=seed)), encoding="utf-8")
    return simulate_with_encoder(
        folder,
        text_encoder=str(folder / TEXT_ENCODER_FOLDER),
        config=SimulateConfig(n_videos=n_videos, n_classes=N_CLASSES, channels=CHANNELS, seed=seed),
        annotations=timelines,
    )


def _of_some_classes(folder: Path, *, seed: int) -> dict[str, Any]:
    """Read the real videos whose actions all belong to 40 classes, which the seed draws."""
    layout = find_public_layout(folder)
    if layout is None:
        raise SystemExit(f"{folder}: no anet_anno_action.json")
    annotations = read_public_annotations(layout.annotations, layout.video_info)
    chosen = set(np.random.default_rng(seed).choice(annotations.classes, size=N_CLASSES, replace=False).tolist())
    document = annotations.to_layout()
    document["database"] = {
        video: entry
        for video, entry in document["database"].items()
        if entry["annotations"] and all(action["label"] in chosen for action in entry["annotations"])
    }
    return document


def config_for(*, epochs: int, seed: int, architecture: Any = "paper", classes: Path | None = None) -> Config:
    """Give the settings of network and training, the same for all parts; training takes minutes."""
    return Config(
        model=ModelConfig(
            architecture=architecture,
            feature_channels=CHANNELS,
            embed_dim=CHANNELS,
            n_temporal_layers=1,
            feedforward_dim=2 * CHANNELS,
            localizer_dim=64,
            dropout=0.5,
            text=TextConfig(n_contexts=0),
        ),
        train=TrainConfig(
            epochs=epochs,
            learning_rate=1e-3,
            weight_decay=1e-3,
            batch_size=16,
            validate_every=epochs,
            seed=seed,
            device="cpu",
        ),
        classes="" if classes is None else str(classes),
    )


def trained(config: Config, data: Path, run: Path) -> Path:
    """Train unless an earlier call has done so; gives the checkpoint of the last epoch."""
    if not (run / "last").is_dir() or not (run / "done").is_file():
        if run.exists():
            shutil.rmtree(run)
        train(config, data, run)
        (run / "done").touch()
    return run / "last"
