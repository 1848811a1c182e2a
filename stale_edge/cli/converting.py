"""`stale-edge convert`: segments to and from the files of annotation tools, players and editors."""

from pathlib import Path
from typing import Annotated

import typer

from stale_edge.cli.output import JsonOption, console, write_json


def register(app: typer.Typer) -> None:
    """Add the command of this file."""
    app.command("convert", epilog="Example: [bold]stale-edge convert detections.json labels.eaf[/bold]")(convert)


def convert(
    source: Annotated[
        Path,
        typer.Argument(
            help="Annotations or detections (ActivityNet's JSON), CSV, Label Studio's or FiftyOne's JSON, an ELAN file "
            "or a folder of them."
        ),
    ],
    target: Annotated[
        Path, typer.Argument(help="File to write; a folder for formats of one video if there are several.")
    ],
    to: Annotated[
        str | None,
        typer.Option(
            "--format",
            "-f",
            help="annotations, detections, csv, label-studio, fiftyone, vtt, srt, elan, audacity, otio, edl, fcpxml, "
            "clips, sheet; default: as the suffix says.",
        ),
    ] = None,
    durations: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Annotations with the length and subset of videos, where SOURCE has none."),
    ] = None,
    videos: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the videos, for clips, sheet, addresses and lengths.")
    ] = None,
    min_score: Annotated[float, typer.Option(min=0, help="Leave out detections that score less.")] = 0.0,
    json_path: JsonOption = None,
) -> None:
    """Convert segments of videos to another format; times are kept to the millisecond, labels in full."""
    from stale_edge.interchange.convert import FORMATS, ConvertOptions
    from stale_edge.interchange.convert import convert as convert_files

    if to is not None and to not in FORMATS:
        raise typer.BadParameter(f"must be one of {', '.join(FORMATS)}; got {to!r}", param_hint="--format")
    done = convert_files(source, target, ConvertOptions(to, durations, videos, min_score))
    write_json(
        {"format": done.to, "files": [str(path) for path in done.files], "videos": done.n_videos}
        | {"segments": done.n_segments},
        json_path,
    )
    console(json_path).print(f"{target}: {done.to}, {done.n_segments} segments of {done.n_videos} videos", markup=False)
