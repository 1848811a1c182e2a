"""`stale-edge encoder export`: a CLIP vision tower → an encoder folder that needs no torch."""

from pathlib import Path
from typing import Annotated

import typer

from stale_edge.cli.output import JsonOption, console, progress_bar, split_names, write_json

_EXPORT = "[bold]stale-edge encoder export --from openai/clip-vit-base-patch32 --out encoder[/bold]"


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    group = typer.Typer(
        no_args_is_help=True,
        help="Make the visual encoder, which turns pictures into features.",
        epilog=f"Example: {_EXPORT}",
    )

    @group.callback()
    def _encoder() -> None:
        """Keep `export` a separate command; Typer would otherwise merge a single command into the group."""

    group.command("export", epilog=f"Example: {_EXPORT}")(export)
    app.add_typer(group, name="encoder")


def export(
    source: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="NAME_OR_DIR",
            help="CLIP, TinyCLIP, SigLIP 2 or an image network by hub name, or a local folder.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Encoder folder to write.")],
    precisions: Annotated[
        str, typer.Option(help="Comma-separated: fp32, fp16, int8, int8-static; with OpenVINO also bf16, int8-bf16.")
    ] = "fp32,fp16,int8,int8-static",
    classes: Annotated[
        Path | None,
        typer.Option(help="Class bank (.npz) whose classes must stay distinct; default: random directions."),
    ] = None,
    video: Annotated[
        Path | None, typer.Option(help="Video with pictures to compare files on; default: simulated pictures.")
    ] = None,
    decode_with: Annotated[
        Path | None,
        typer.Option(
            metavar="BUNDLE",
            help="Bundle trained on this encoder: each file must find 98 % of its detections in --video again.",
        ),
    ] = None,
    description: Annotated[
        Path | None,
        typer.Option("--describe", metavar="FILE", help="How to run a model of another type; see docs/video.md."),
    ] = None,
    json_path: JsonOption = None,
) -> None:
    """Turn a CLIP vision tower into ONNX; a file whose embeddings differ is not written (exit code 3)."""
    from stale_edge.bundle import ClassBank
    from stale_edge.exporting.encoder import PRECISIONS, export_encoder
    from stale_edge.model.encoder_families import EncoderDescription
    from stale_edge.model.vision import load_vision_tower

    chosen = split_names(precisions)
    unknown = [precision for precision in chosen if precision not in PRECISIONS]
    if unknown or not chosen:
        raise typer.BadParameter(
            f"must be some of {', '.join(PRECISIONS)}; got {precisions}", param_hint="--precisions"
        )
    if decode_with is not None and video is None:
        raise typer.BadParameter("needs --video FILE to decode", param_hint="--decode-with")
    with progress_bar() as progress:
        described = None if description is None else EncoderDescription.read(description)
        report = export_encoder(
            load_vision_tower(source, description=described),
            out,
            precisions=chosen,
            bank=None if classes is None else ClassBank.load(classes),
            video=video,
            detector=decode_with,
            progress=progress,
        )
    write_json(report.to_json(), json_path)
    console(json_path).print(report.summary(), markup=False)
