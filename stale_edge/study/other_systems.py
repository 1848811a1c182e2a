"""Other systems of the papers in the studies: EffPrompt as two stages, and B-III on features of a video encoder."""

import dataclasses

import numpy as np

from stale_edge.bundle.files import folder_beside, replace_folder
from stale_edge.config import Config, FeatureSpec, ModelConfig
from stale_edge.data import DataSet, open_data_set
from stale_edge.data.folder import feature_spec_file, features_folder, write_feature_spec
from stale_edge.errors import ConfigError
from stale_edge.model.actionformer import NAMED_SETTINGS
from stale_edge.study.study_data import is_simulated
from stale_edge.training.small_systems import actionformer_training, point_training, small_actionformer, small_two_stage

ACTIONFORMER, EFFPROMPT, B_III = "actionformer", "effprompt", "b-iii"
VIDEO_ENCODER = "i3d"
"""Name of the video encoder in a data set: features_i3d/, feature_spec_i3d.json."""
VIDEO_CHANNELS = 2048
ACTIONFORMER_NOTE = (
    "ActionFormer here is trained on the same videos for as many epochs, with a row for each class: it must learn from "
    "videos what STALE reads from class names. It reads features as they are; STALE takes the mean of each video away. "
    "Optimizer, warm-up and weight average are as in its public settings for ActivityNet; batch and decay suit few "
    "steps. The 29.3 M parameters that the thesis lists beside results on ActivityNet are its THUMOS14 network "
    "(29,251,612); those for ActivityNet have 8,123,145 (I3D) and 6,943,497 (TSP)."
)
EFFPROMPT_NOTE = (
    "EffPrompt here is `two-stage`: its localization was never published, so the first stage, the pooling and the "
    "score are ours (docs/systems.md). On simulated features its prompts are not learned, like STALE's contexts, since "
    "the text encoder is random."
)
B_III_NOTE = (
    "B-III here: B-II on features of 2,048 channels, against the text embeddings; the paper names the encoder alone. "
    "Where features are simulated, so are these: a fixed random layer over the first ones, with noise."
)


def actionformer_config(config: Config, data_set: DataSet, *, full: bool) -> Config:
    """Change the settings of a study to ActionFormer on videos of one length, trained for as many epochs.

    Args:
        config: of STALE; epochs, seed and lists of videos stay.
        data_set: of the study.
        full: take the published network for ActivityNet; else one as wide as the small two-stage detector.
    """
    channels = data_set.feature_spec.channels
    if not full:
        return small_actionformer(config, channels=channels)
    model = dataclasses.replace(NAMED_SETTINGS["activitynet-i3d"], feature_channels=channels, n_classes=0)
    train = actionformer_training(config.train, batch_size=16, average_decay=0.999)
    train = dataclasses.replace(train, n_snippets=model.max_length)
    return point_training(dataclasses.replace(config, model=model, train=train))


def effprompt_config(config: Config, data_set: DataSet) -> Config | None:
    """Change the settings of a study to two stages; None: text and features have different widths.

    Args:
        config: of STALE; training and the source of the class embeddings stay.
        data_set: of the study.
    """
    model = config.model
    if not isinstance(model, ModelConfig):
        raise ConfigError(f"settings of STALE are changed to two stages; model.architecture is {model.architecture!r}")
    channels = data_set.feature_spec.channels
    if channels != model.embed_dim or model.text.encoder == "none":
        return None
    return small_two_stage(config, channels=channels, learn_prompts=not is_simulated(data_set))


def b_iii_config(config: Config, data_set: DataSet) -> Config | None:
    """Change the settings of a study to B-III; None: the data set has no features of a video encoder."""
    model = config.model
    if not (data_set.root / features_folder(VIDEO_ENCODER)).is_dir() or not isinstance(model, ModelConfig):
        return None
    channels = open_data_set(data_set.root, encoder=VIDEO_ENCODER).feature_spec.channels
    changed = dataclasses.replace(model, feature_channels=channels, masking="none", temporal="none")
    return dataclasses.replace(config, model=changed, loss=dataclasses.replace(config.loss, completeness=0.0))


def simulate_video_encoder(data_set: DataSet, *, seed: int) -> None:
    """Write features of a second encoder into a simulated data set, unless they are there."""
    target = data_set.root / features_folder(VIDEO_ENCODER)
    if target.exists():
        return
    rng = np.random.default_rng([seed, 3])
    layer = rng.standard_normal((data_set.feature_spec.channels, VIDEO_CHANNELS)).astype(np.float32)
    spec = FeatureSpec(encoder="simulated video encoder", channels=VIDEO_CHANNELS)
    write_feature_spec(data_set.root / feature_spec_file(VIDEO_ENCODER), spec)
    with folder_beside(target) as made:
        for video in data_set.annotations.videos:
            if video not in data_set.features:
                continue
            seen = data_set.load(video) @ layer
            seen += 0.3 * seen.std() * rng.standard_normal(seen.shape, dtype=np.float32)
            np.save(made / f"{video}.npy", np.maximum(seen, 0).astype(np.float16))
        replace_folder(made, target)
