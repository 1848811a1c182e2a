"""Small networks trained on the demo's simulated task; without a bundle, detections are compared on them."""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from stale_edge.benchmarking.torch_rows.made_bundles import Deployed, write_unchecked
from stale_edge.config import Config, SimulateConfig, TrainConfig
from stale_edge.data import DataSet, resample
from stale_edge.data.folder import TEXT_ENCODER_FOLDER
from stale_edge.errors import ConfigError
from stale_edge.exporting.calibration import Calibration
from stale_edge.model.architectures import SMALL_CHANNELS, architecture_of
from stale_edge.model.checkpoint import read_checkpoint
from stale_edge.model.small_text import small_text_encoder
from stale_edge.progress import Progress
from stale_edge.training import train
from stale_edge.training.simulated_data import simulate_with_encoder
from stale_edge.training.small_config import SMALL_TRAINING
from stale_edge.training.torch_localizer import feature_contract

N_VIDEOS, N_CLASSES, EPOCHS, LENGTH = 800, 40, 10, 100
"""The numbers of the demo."""
CALIBRATION_VIDEOS = 32
SEEDS = (0, 1, 2)
"""Seeds of task, weights and order, one network each; fixed, so that machines compare the same networks."""
TRAINING_THREADS = 1
"""Sums of several threads are rounded in another order, and after ten epochs the networks differ."""


def describe(architecture: str) -> str:
    """Describe the network and the videos that detections are compared on."""
    return (
        f"the validation videos of {N_VIDEOS} simulated ones, with {len(SEEDS)} {architecture} networks of width "
        f"{SMALL_CHANNELS} (seeds {', '.join(map(str, SEEDS))}), each trained on the others of its own for {EPOCHS} "
        f"epochs on one thread in fp32, T = {LENGTH}, {N_CLASSES} classes; the same products in float32 as in the "
        "network that is timed"
    )


def make_trained_bundle(
    folder: Path, pairs: Sequence[tuple[str, str]], *, architecture: str, seed: int, progress: Progress
) -> Path:
    """Simulate data in `folder/data`, train on it, and write `folder/bundle`; one to three minutes on one core.

    Args:
        folder: an empty folder.
        pairs: (runtime, precision) to run the bundle with.
        architecture: architecture of the timed network.
        seed: seed of the task, the weights and the order.
        progress: called with (stage, done, total, note).

    Returns:
        The bundle; its data set is beside it.
    """

    def report(stage: str, done: int, total: int, note: str = "") -> None:
        progress(f"network to compare decisions on: {stage}", done, total, note)

    data = folder / "data"
    small_text_encoder(data / TEXT_ENCODER_FOLDER, dim=SMALL_CHANNELS, seed=seed)
    data_set = simulate_with_encoder(
        data,
        text_encoder=str(data / TEXT_ENCODER_FOLDER),
        config=SimulateConfig(n_videos=N_VIDEOS, n_classes=N_CLASSES, channels=SMALL_CHANNELS, seed=seed),
        progress=report,
    )
    with _repeatable():
        trained = train(training_config(architecture, seed), data, folder / "run", progress=report)
    checkpoint = read_checkpoint(trained.last)
    contract = feature_contract(checkpoint.config, checkpoint.feature_spec)
    bank = checkpoint.class_bank
    deployed = Deployed(
        checkpoint.model,
        bank,
        contract,
        Calibration(_training_videos(data_set), bank.embeddings, f"{CALIBRATION_VIDEOS} training videos"),
        "trained on simulated data, for comparing decisions alone",
    )
    write_unchecked(
        folder / "bundle", deployed, pairs, stage="network to compare decisions on: export", progress=progress
    )
    return folder / "bundle"


def training_config(architecture: str, seed: int) -> Config:
    """Choose a small network of an architecture and its training, without validation during training.

    Raises:
        ConfigError: the architecture has no small network.
    """
    row = architecture_of(architecture)
    if row.small is None:
        raise ConfigError(
            f"--recommend without a bundle trains a small network, and there is none of the architecture "
            f"{architecture}: train and export one, and name its bundle"
        )
    train = SMALL_TRAINING if row.train == TrainConfig() else row.train
    train = dataclasses.replace(
        train,
        epochs=EPOCHS,
        weight_decay=row.train.weight_decay,
        validate_every=0,
        n_snippets=LENGTH,
        seed=seed,
        device="cpu",
        precision="fp32",
    )
    return Config(row.small, train, row.loss(), row.decode)


def _training_videos(data_set: DataSet) -> tuple[np.ndarray, ...]:
    names = data_set.videos("training")
    chosen = [names[int(i)] for i in np.linspace(0, len(names) - 1, CALIBRATION_VIDEOS)]
    return tuple(resample(np.asarray(data_set.load(name), np.float32), LENGTH) for name in chosen)


@contextlib.contextmanager
def _repeatable() -> Iterator[None]:
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(TRAINING_THREADS)
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)
