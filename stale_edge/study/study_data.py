"""The data set of the studies that train, given or simulated, and settings that fit it."""

import dataclasses
import json
from pathlib import Path

from stale_edge.bundle.class_bank import ClassBank
from stale_edge.bundle.files import folder_beside, replace_folder
from stale_edge.config import Config, ModelConfig, SimulateConfig, TextConfig, TrainConfig, to_dict, with_overrides
from stale_edge.data import Annotations, DataSet, open_data_set
from stale_edge.data.annotations import read_json, refusing
from stale_edge.data.folder import CLASS_BANK_FILE, FEATURE_SPEC_FILE, TEXT_ENCODER_FOLDER
from stale_edge.errors import DataError
from stale_edge.model.architectures import ARCHITECTURES
from stale_edge.model.small_text import small_text_encoder
from stale_edge.model.text import TextEncoder
from stale_edge.progress import Progress
from stale_edge.study.study import StudyOptions
from stale_edge.study.subsets import sample_videos
from stale_edge.training.simulated_data import simulate_with_encoder
from stale_edge.training.small_config import FIXED_PROMPTS, SMALL_TRAINING, small_model

CHANNELS = 128
"""C and D of simulated data: image and text share one space, as in CLIP."""
N_VIDEOS = 600
"""Videos of the data that a study simulates at scale 1, validation included."""
SMALLEST_N_VIDEOS = 40
N_CLASSES = 40
EPOCHS, FULL_EPOCHS = 10, 15


def open_world(options: StudyOptions, progress: Progress) -> DataSet:
    """Open the data set of a study; without one, simulate it into `out/data`, once.

    A given data set is cut to as many videos as would be simulated, so that a scale takes the same time on any data;
    `full` keeps all. Videos are removed from the annotations in memory, and from training by a list of videos.

    Raises:
        DataError: the data set cannot be opened, or `out/data` holds other data than these options ask for.
    """
    n_videos = options.videos or options.count(N_VIDEOS, 4 * N_VIDEOS, at_least=SMALLEST_N_VIDEOS)
    if options.data is not None:
        given = open_data_set(options.data)
        everything = options.full and options.videos is None
        return given if everything else restrict(given, n_videos, seed=options.seed)
    config = SimulateConfig(
        n_videos=n_videos, n_classes=min(N_CLASSES, max(8, n_videos // 15)), channels=CHANNELS, seed=options.seed
    )
    target = options.out / "data"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        with folder_beside(target) as made:
            encoder = made / TEXT_ENCODER_FOLDER
            small_text_encoder(encoder, dim=CHANNELS, seed=options.seed)
            simulate_with_encoder(made, text_encoder=str(encoder), config=config, progress=progress)
            replace_folder(made, target)
    simulation = _simulation(target)
    if simulation is None or simulation.get("parameters") != json.loads(json.dumps(to_dict(config))):
        raise DataError(
            f"{target}: holds other data than --scale and --seed ask for; choose another --out, or delete the folder"
        )
    return open_data_set(target)


def restrict(data_set: DataSet, n_videos: int, *, seed: int) -> DataSet:
    """Take about `n_videos` of the videos that have features: a part of each subset, with all of its classes."""
    annotations = data_set.annotations
    there = [video for video in annotations.videos if video in data_set.features]
    if n_videos >= len(there):
        return data_set
    chosen: set[str] = set()
    for subset in annotations.subsets:
        videos = [video for video in there if annotations.videos[video].subset == subset]
        if videos:
            chosen.update(sample_videos(annotations, videos, n_videos / len(there), seed=seed))
    kept = {video: entry for video, entry in annotations.videos.items() if video in chosen}
    return dataclasses.replace(data_set, annotations=Annotations(kept))


def describe_features(data_set: DataSet) -> str:
    """Say for a caption whether features are simulated or come from videos."""
    simulation = _simulation(data_set.root)
    if simulation is None:
        return f"real features of {data_set.root.name} (encoder: {data_set.feature_spec.encoder})"
    return f"simulated features, {'invented' if simulation.get('annotations') == 'invented' else 'real'} annotations"


def warn_of_simulation(data_set: DataSet) -> tuple[str, ...]:
    """Give the note for every summary with simulated features."""
    if not is_simulated(data_set):
        return ()
    return ("Features are simulated: differences between rows can be read, but no figure holds for real video.",)


def is_simulated(data_set: DataSet) -> bool:
    """Say whether a data set's features are simulated."""
    return _simulation(data_set.root) is not None


def training_config(data_set: DataSet, options: StudyOptions) -> Config:
    """Choose the model and the training of a study.

    With `full` those of the STALE paper; else the demo's, which take minutes on two cores. The data set's text encoder
    or class bank embeds the classes; without text encoder and class bank, one free embedding a class is learned.
    Nothing is validated while training: the checkpoint of the last epoch is what a study evaluates, so no epoch is
    chosen on the videos that the study reports.
    """
    return with_overrides(_chosen_config(data_set, options), options.settings, architectures=ARCHITECTURES)


def _chosen_config(data_set: DataSet, options: StudyOptions) -> Config:
    channels, (width, text) = data_set.feature_spec.channels, _text(data_set)
    epochs = options.count(EPOCHS, FULL_EPOCHS)
    if options.full:
        return Config(
            model=ModelConfig(feature_channels=channels, embed_dim=width or ModelConfig().embed_dim, text=text),
            train=TrainConfig(epochs=epochs, batch_size=100, learning_rate=1e-4, validate_every=0, seed=options.seed),
        )
    return Config(
        model=small_model(channels, width or CHANNELS, text),
        train=dataclasses.replace(SMALL_TRAINING, epochs=epochs, seed=options.seed),
    )


def _text(data_set: DataSet) -> tuple[int | None, TextConfig]:
    """Say how wide a data set's class embeddings are, None where it has none, and how classes are embedded."""
    encoder, bank = data_set.root / TEXT_ENCODER_FOLDER, data_set.root / CLASS_BANK_FILE
    if encoder.is_dir():
        text = FIXED_PROMPTS if is_simulated(data_set) else TextConfig()
        return TextEncoder.load(str(encoder)).dim, text
    if bank.is_file():
        return ClassBank.load(bank).width, TextConfig()
    return None, TextConfig(encoder="none")


def _simulation(root: Path) -> dict[str, object] | None:
    """Read the description that `data.simulate` wrote; None: the data are not simulated."""
    path = root / FEATURE_SPEC_FILE
    if not path.is_file():
        return None
    document = read_json(path, refusing(path))
    simulation = document.get("simulation") if isinstance(document, dict) else None
    return simulation if isinstance(simulation, dict) else None
