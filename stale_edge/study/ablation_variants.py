"""The variants of the ablations: what each changes in the settings of the study."""

import dataclasses
from typing import Any

from stale_edge.config import Config, ModelConfig, TextConfig
from stale_edge.data import DataSet
from stale_edge.data.folder import TEXT_ENCODER_FOLDER
from stale_edge.errors import ConfigError
from stale_edge.study.other_systems import B_III, EFFPROMPT, b_iii_config, effprompt_config
from stale_edge.study.study import StudyOptions
from stale_edge.study.study_data import training_config

SEEN_PERCENT = 75
STALE, TUNED, TWO_STAGE = "stale", "text-tuned", "b-i"
VARIANTS: dict[str, dict[str, Any]] = {
    STALE: {},
    "mask-none": {"masking": "none"},
    "mask-ground-truth": {"masking": "ground-truth"},
    "mask-cnn": {"masking": "cnn"},
    "queries-5": {"n_mask_queries": 5},
    "queries-100": {"n_mask_queries": 100},
    "text-none": {"text": TextConfig(encoder="none")},
    TUNED: {},
    "temporal-cnn": {"temporal": "cnn"},
    "temporal-ms-tcn": {"temporal": "ms-tcn"},
    "b-ii": {"masking": "none", "temporal": "none"},
    TWO_STAGE: {"masking": "none", "text": TextConfig(encoder="none")},
    EFFPROMPT: {},
    B_III: {},
}
"""Changes of each variant to the model of the study; each is one training per class split."""
_OTHER_SYSTEMS = {EFFPROMPT: effprompt_config, B_III: b_iii_config}


def variant_config(variant: str, data_set: DataSet, options: StudyOptions) -> Config | None:
    """Change the study's settings for a variant; None: the data set lacks what the variant needs.

    Raises:
        ConfigError: the settings are of another detector than STALE.
    """
    config = training_config(data_set, options)
    if variant in _OTHER_SYSTEMS:
        return _OTHER_SYSTEMS[variant](config, data_set)
    changes = dict(VARIANTS[variant])
    if variant == TUNED:
        if not config.model.text.source and not (data_set.root / TEXT_ENCODER_FOLDER).is_dir():
            return None
        changes["text"] = dataclasses.replace(config.model.text, encoder="tuned")
    if not isinstance(config.model, ModelConfig):
        raise ConfigError(f"the ablations are STALE's; model.architecture is {config.model.architecture!r}")
    model = dataclasses.replace(config.model, **changes)
    loss = config.loss
    if model.masking in ("none", "ground-truth"):  # no foreground is predicted, so eq. 11 does not apply
        loss = dataclasses.replace(loss, completeness=0.0)
    return dataclasses.replace(config, model=model, loss=loss)
