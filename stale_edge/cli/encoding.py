"""Options of commands that turn videos into features."""

from typing import Annotated

import typer

EncoderRuntimeOption = Annotated[
    str,
    typer.Option(
        help="Runtime of the encoder: onnxruntime, openvino, or auto: what bench --video --recommend chose, with its "
        "precision."
    ),
]
EncoderPrecisionOption = Annotated[
    str,
    typer.Option(
        help="Of the encoder: fp32, fp16, int8, int8-static; with openvino fp32, bf16, int8-static, int8-bf16."
    ),
]
PreprocessingOption = Annotated[
    str | None,
    typer.Option(
        metavar="exact|fast",
        help="exact: pictures as transformers prepares them; fast: by the video decoder's scaler, within 1e-2 on "
        "average. Default: as the bundle was trained, else exact.",
    ),
]
SkipSimilarOption = Annotated[
    float | None,
    typer.Option(
        metavar="THRESHOLD",
        help="A picture that changed by at most this share of the range of brightness since the last encoded one, in "
        "each of 64 fields, takes its features. Default: every picture is encoded.",
    ),
]


def check_encoding_options(preprocessing: str | None, skip_similar: float | None) -> None:
    """Refuse values out of range as wrong usage (exit code 2)."""
    if preprocessing not in (None, "exact", "fast"):
        raise typer.BadParameter(f"must be exact or fast; got {preprocessing}", param_hint="--preprocessing")
    if skip_similar is not None and not 0 < skip_similar < 1:
        raise typer.BadParameter(f"must be a number in (0, 1); got {skip_similar}", param_hint="--skip-similar")


def check_encoder_choice(runtime: str, precision: str) -> None:
    """Refuse a precision beside the runtime `auto` as wrong usage (exit code 2)."""
    if runtime == "auto" and precision != "fp32":
        hint = "precision of the encoder"
        raise typer.BadParameter("is chosen by --encoder-runtime auto; leave it out", param_hint=hint)
