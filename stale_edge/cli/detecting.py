"""`stale-edge detect`: bundle + features → detections, without torch."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from stale_edge.cli.output import progress_bar, write_bytes


class OutputFormat(StrEnum):
    """What `detect` can write."""

    json = "json"
    csv = "csv"
    srt = "srt"
    html = "html"


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command("detect", epilog="Example: [bold]stale-edge detect bundle features/v_1.npy --format csv[/bold]")(detect)


def detect(
    bundle: Annotated[Path, typer.Argument(help="Bundle folder.")],
    inputs: Annotated[
        list[Path],
        typer.Argument(metavar="INPUT...", help="Feature files (.npy, .npz, .h5), folders of them, data sets."),
    ],
    classes: Annotated[
        str | None,
        typer.Option(
            metavar="FILE", help="Class names to look for: a file, one a line, or name,name,…; all otherwise."
        ),
    ] = None,
    output_format: Annotated[OutputFormat, typer.Option("--format", help="What to write.")] = OutputFormat.json,
    out: Annotated[Path | None, typer.Option(help="File to write; standard output otherwise.")] = None,
    duration: Annotated[
        float | None, typer.Option(help="Length of the video in seconds, where features and bundle do not tell it.")
    ] = None,
    runtime: Annotated[str, typer.Option(help="onnxruntime, or torchscript, which needs torch.")] = "onnxruntime",
    precision: Annotated[str, typer.Option(help="fp32, fp16 or int8, as far as the bundle has it.")] = "fp32",
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
) -> None:
    """Find which action happens when in the videos of the given features."""
    from stale_edge.runtime.detect import class_list, detect_files

    if duration is not None and not 0 < duration < float("inf"):
        raise typer.BadParameter("must be a finite number of seconds > 0", param_hint="--duration")
    if output_format is OutputFormat.srt and (len(inputs) > 1 or inputs[0].is_dir()):
        raise typer.BadParameter("srt is made for one video; give one feature file", param_hint="--format")
    with progress_bar() as progress:
        run = detect_files(
            bundle,
            inputs,
            classes=None if classes is None else class_list(classes),
            output_format=output_format.value,
            duration_s=duration,
            runtime=runtime,
            precision=precision,
            threads=threads,
            progress=progress,
        )
    if out is None:
        typer.echo(run.text, nl=False)
    else:
        write_bytes(out, run.text.encode())
    for error in run.errors:
        typer.echo(f"error: {error}", err=True)
    if run.errors:
        raise typer.Exit(1)
