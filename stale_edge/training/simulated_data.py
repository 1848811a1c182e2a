"""Simulated data sets in the embedding space of a text encoder, which then comes with the data."""

import dataclasses
from pathlib import Path

from stale_edge.config import SimulateConfig
from stale_edge.data import DataSet
from stale_edge.data.folder import CLASS_BANK_FILE, TEXT_ENCODER_FOLDER
from stale_edge.data.simulate import class_names, simulate
from stale_edge.model.class_embeddings import class_bank
from stale_edge.model.text import TextEncoder
from stale_edge.progress import Progress, silent


def simulate_with_encoder(
    out: Path,
    *,
    text_encoder: str,
    config: SimulateConfig,
    annotations: Path | None = None,
    progress: Progress = silent,
) -> DataSet:
    """Write a simulated data set whose class directions come from a text encoder, as `data.simulate` describes.

    The folder also gets `text_encoder/`, for training, and `class_bank.npz`, the embeddings of the baseline, which
    training does not change.

    Args:
        out: folder that does not exist yet, is empty, or holds the text encoder already.
        text_encoder: hub name or folder of a CLIP text tower; it is copied to `out` if it is not there yet.
        config: the simulated task; features become as wide as the embeddings, whatever `channels` says.
        annotations: real annotations to simulate features for; None: videos are invented.
        progress: called with (stage, done, total).

    Raises:
        ValueError: the encoder cannot encode a class name.
        CheckpointError: the text encoder cannot be loaded.
        DataError: `out` holds a data set, or the annotation file cannot be used.
    """
    encoder = TextEncoder.load(text_encoder)
    bank = class_bank(encoder, class_names(config, annotations))
    if not (out / TEXT_ENCODER_FOLDER).exists():
        encoder.save(out / TEXT_ENCODER_FOLDER)
    config = dataclasses.replace(config, channels=bank.width)
    data_set = simulate(out, config=config, annotations=annotations, class_bank=bank, progress=progress)
    bank.save(out / CLASS_BANK_FILE)
    return data_set
