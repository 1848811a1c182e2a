"""Other systems of the papers in the studies: EffPrompt as two stages, and B-III on features of a video encoder."""

import dataclasses

import numpy as np

from stale_edge.bundle.files import folder_beside, replace_folder
from stale_edge.config import Config, FeatureSpec, ModelConfig, PointsConfig
from stale_edge.data import DataSet, open_data_set
from stale_edge.data.folder import feature_spec_file, features_folder, write_feature_spec
from stale_edge.errors import ConfigError
from stale_edge.model.effprompt.settings import PromptsConfig
from stale_edge.model.two_stage.settings import ProposalsConfig, TwoStageConfig, TwoStageLossConfig
from stale_edge.study.study_data import is_simulated

EFFPROMPT, B_III = "effprompt", "b-iii"
VIDEO_ENCODER = "i3d"
"""Name of the video encoder in a data set: features_i3d/, feature_spec_i3d.json."""
VIDEO_CHANNELS = 2048
SMALL_WIDTH = 64
"""Width of the first stage, as of the small STALE that it stands beside."""
EFFPROMPT_NOTE = (
    "EffPrompt here is `two-stage`: its localization was never published, so the first stage, the pooling and the "
    "score are ours (docs/systems.md). On simulated features its prompts are not learned, like STALE's contexts, since "
    "the text encoder is random."
)
B_III_NOTE = (
    "B-III here: B-II on features of 2,048 channels, against the text embeddings; the paper names the encoder alone. "
    "Where features are simulated, so are these: a fixed random layer over the first ones, with noise."
)


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
    around = {"prefix": 0, "postfix": 0} if is_simulated(data_set) else {}
    small = ProposalsConfig(pyramid_dim=SMALL_WIDTH, neck_dim=SMALL_WIDTH, head_dim=SMALL_WIDTH)
    return dataclasses.replace(
        config,
        model=TwoStageConfig(
            feature_channels=channels,
            embed_dim=channels,
            proposals=ProposalsConfig() if model.embed_dim >= ModelConfig().embed_dim else small,
            n_temporal_layers=2 if channels % 8 == 0 else 0,
            text=PromptsConfig(source=model.text.source, encoder=model.text.encoder, **around),
        ),
        loss=TwoStageLossConfig(),
        decode=PointsConfig(max_detections=100, n_levels=6),
    )


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
