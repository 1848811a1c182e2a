"""A CLIP -> the bundle of the training-free detector, with both encoders inside."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from stale_edge.bundle.encoder_folder import read_encoder
from stale_edge.config import Config, ExtractConfig, FeatureSpec, NoLossConfig, TextConfig, TrainingFreeConfig
from stale_edge.config.training_free import TRAINING_FREE_DECODE
from stale_edge.errors import CheckpointError
from stale_edge.exporting.encoder import export_encoder
from stale_edge.exporting.export import ExportReport, export_checkpoint
from stale_edge.model.checkpoint import write_checkpoint
from stale_edge.model.class_embeddings import class_bank
from stale_edge.model.text import TextEncoder
from stale_edge.model.training_free.network import TrainingFree
from stale_edge.model.training_free.prompts import Prompts
from stale_edge.progress import Progress, silent


def export_training_free(
    source: str | Path,
    out: Path | str,
    *,
    classes: Sequence[str],
    encoder: Path | None = None,
    prompts: Prompts | None = None,
    rate: float | None = None,
    progress: Progress = silent,
    **how: Any,
) -> ExportReport:
    """Make the bundle of the training-free detector, whole or not at all; an older bundle at `out` is replaced.

    Args:
        source: a whole CLIP: hub name, or local folder in transformers' format.
        out: the bundle's folder.
        classes: names of the class bank; the bundle's text encoder reads further ones.
        encoder: folder of the visual encoder; None: the one of `source` is exported, in fp32.
        prompts: background prompts and templates; None: the defaults.
        rate: snippets a second, > 0; None: the default of `ExtractConfig`.
        progress: called with (stage, done, total).
        how: `formats`, `precisions`, `data`, `layer_report` and `keep_passing` of `export_checkpoint`.

    Raises:
        CheckpointError: there is no such CLIP, or its encoders have different widths.
        StaleEdgeError: as `export_checkpoint` and `export_encoder`.
    """
    prompts = Prompts() if prompts is None else prompts
    plain = TextEncoder.load(source)
    try:
        background = torch.from_numpy(class_bank(plain, prompts.background).embeddings.copy())
    except ValueError as error:
        raise CheckpointError(f"{source} cannot read the background prompts: {error}; give others") from error
    text = TextEncoder(plain.tower, plain.tokenizer, prompt="\n".join(prompts.templates)).eval()
    with tempfile.TemporaryDirectory(prefix="stale-edge-") as scratch:
        visual = Path(scratch) / "encoder"
        if encoder is None:
            export_encoder(source, visual, precisions=("fp32",), progress=progress)
        else:
            visual = encoder
        manifest = read_encoder(visual).manifest
        if manifest.embed_dim != text.dim:
            raise CheckpointError(
                f"{source}: its text embeddings are {text.dim} wide, the features of {manifest.name} "
                f"{manifest.embed_dim}; both must come from one CLIP"
            )
        default = ExtractConfig()
        fps, stride = (default.fps, default.stride) if rate is None else (rate, 1)
        config = Config(
            model=TrainingFreeConfig(
                feature_channels=text.dim,
                embed_dim=text.dim,
                n_background=len(background),
                text=TextConfig(source=str(source), n_contexts=0),
            ),
            loss=NoLossConfig(),
            decode=TRAINING_FREE_DECODE,
        )
        model = TrainingFree(config.model)  # type: ignore[arg-type]
        model.set_background(background)
        checkpoint = Path(scratch) / "checkpoint"
        write_checkpoint(
            checkpoint,
            model=model,
            config=config,
            feature_spec=FeatureSpec(manifest.fingerprint, text.dim, fps, stride),
            class_bank=class_bank(text, classes),
            text_encoder=text,
        )
        return export_checkpoint(checkpoint, out, encoder=visual, progress=progress, **how)
