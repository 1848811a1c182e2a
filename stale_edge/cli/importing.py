"""`stale-edge import`: a checkpoint of the public STALE or ActionFormer code."""

from pathlib import Path
from typing import Annotated

import typer

from stale_edge.cli.output import JsonOption, console, write_json


def register(app: typer.Typer) -> None:
    """Add the command of this file."""
    app.command(
        "import",
        epilog="Example: [bold]stale-edge import STALE.pth.tar --out ckpt --class-bank clip.npz[/bold]",
    )(import_)


def import_(
    release: Annotated[Path, typer.Argument(help="Checkpoint file of the public code (.pth.tar).")],
    out: Annotated[Path, typer.Option(help="Checkpoint folder to write.")],
    config: Annotated[
        Path | None, typer.Option(help="ActionFormer: the public configuration of the training (.yaml or .json).")
    ] = None,
    classes: Annotated[
        Path | None,
        typer.Option(
            help="File with class names, one per line; ActionFormer: in order of its rows; STALE: needs --tokenizer."
        ),
    ] = None,
    tokenizer: Annotated[
        str | None, typer.Option(help="CLIP's tokenizer: a folder with vocab.json and merges.txt, or a hub name.")
    ] = None,
    class_bank: Annotated[
        Path | None, typer.Option(help="Class bank (.npz) with the embeddings, instead of --classes.")
    ] = None,
    json_path: JsonOption = None,
) -> None:
    """Convert a checkpoint of the public STALE or ActionFormer code; nothing in the file is executed.

    STALE's file holds no class names and no tokenizer. Without them the checkpoint is the network alone; to export it,
    give --tokenizer and --classes, or --class-bank. ActionFormer's file needs --config.
    """
    from stale_edge.errors import ConfigError
    from stale_edge.model.actionformer.public_import import ActionFormerImport, import_actionformer
    from stale_edge.model.stale.release_import import ReleaseImport, import_release

    report: ActionFormerImport | ReleaseImport
    if config is None:
        report = import_release(release, out, classes=classes, tokenizer=tokenizer, bank=class_bank)
    elif tokenizer is not None or class_bank is not None:
        raise ConfigError(
            "--config is for ActionFormer, which has no text encoder: give no --tokenizer or --class-bank"
        )
    else:
        report = import_actionformer(release, out, config=config, classes=classes)
    write_json(report.to_json(), json_path)
    console(json_path).print(report.summary(), markup=False)
