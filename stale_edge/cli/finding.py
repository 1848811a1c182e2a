"""`stale-edge find`: a video and names of actions → where they happen, without training."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stale_edge.cli.devices import DeviceName, DeviceOption, print_providers
from stale_edge.cli.output import JsonOption, progress_bar, write_bytes, write_json

if TYPE_CHECKING:
    from stale_edge.jobs.searching import FindRun


class FindFormat(StrEnum):
    """Output formats of `find`."""

    html = "html"
    json = "json"
    csv = "csv"
    srt = "srt"
    vtt = "vtt"


def register(app: typer.Typer) -> None:
    """Add the command of this file."""
    app.command("find", epilog='Example: [bold]stale-edge find holiday.mp4 "pole vault" "high jump"[/bold]')(find)


def find(
    video: Annotated[Path, typer.Argument(help="A video, or a folder of videos.")],
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="What to look for, in plain words.")],
    encoder: Annotated[
        str | None,
        typer.Option(
            metavar="NAME_OR_DIR",
            help="CLIP by hub name or folder, or a bundle of export --arch training-free; default: "
            "openai/clip-vit-base-patch32. A CLIP is exported once into $STALE_EDGE_CACHE (~/.cache/stale-edge).",
        ),
    ] = None,
    output_format: Annotated[FindFormat, typer.Option("--format", help="What to write.")] = FindFormat.html,
    out: Annotated[
        Path | None, typer.Option(help="File to write; '-' is standard output; default: VIDEO-found.FORMAT here.")
    ] = None,
    min_score: Annotated[
        float | None, typer.Option(min=0, max=1, help="A name whose best score is lower is not found; default: 0.2.")
    ] = None,
    background: Annotated[
        Path | None, typer.Option(help="Prompts that name no action, one per line; default: a list.")
    ] = None,
    rate: Annotated[float | None, typer.Option(min=0.01, help="Pictures looked at per second; default: 1.")] = None,
    adapt: Annotated[int, typer.Option(min=0, help="Steps of adaptation to each video; 0: none.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    device: DeviceOption = DeviceName.cpu,
    json_path: JsonOption = None,
) -> None:
    """Find named actions in a video, without training and without annotations."""
    from stale_edge.jobs.searching import DEFAULT_ENCODER, FOUND_SCORE, FindSettings
    from stale_edge.jobs.searching import find as search
    from stale_edge.runtime.detect_settings import OutputSettings

    target = Path(f"{video.resolve().stem}-found.{output_format.value}") if out is None else out
    settings = FindSettings(
        DEFAULT_ENCODER if encoder is None else encoder,
        background=background,
        rate=rate,
        min_score=FOUND_SCORE if min_score is None else min_score,
        adapt_steps=adapt,
        threads=threads,
        device=device.value,
    )
    to_stdout = str(target) == "-"
    as_vtt = output_format is FindFormat.vtt
    if as_vtt and video.is_dir():
        raise typer.BadParameter("vtt is made for one video; give one file", param_hint="--format")
    output = OutputSettings("json" if as_vtt else output_format.value, page=None if to_stdout else target)
    with progress_bar() as progress:
        found = search([video], names, settings=settings, output=output, progress=progress)
    text = found.to_vtt() if as_vtt else found.run.text
    if to_stdout:
        typer.echo(text, nl=False)
    else:
        write_bytes(target, text.encode())
    write_json(found.to_json() | {"providers": list(found.run.providers)}, json_path)
    print_providers(device, found.run.providers)
    _report(found, target)
    for error in found.run.errors:
        typer.echo(f"error: {error}", err=True)
    if found.run.errors:
        raise typer.Exit(1)


def _report(found: "FindRun", target: Path) -> None:
    """Print what each video has to standard error, and last one line of counts and seconds."""
    for video, one in found.found.items():
        for name in dict.fromkeys(d.label for d in one.detections):
            own = [d for d in one.detections if d.label == name]
            best = own[0]
            typer.echo(
                f"{video}: {name}: {len(own)}, best {best.start_s:.0f} to {best.end_s:.0f} s (score {best.score:.2f})",
                err=True,
            )
        if found.not_found[video]:
            typer.echo(f"{video}: not found: {', '.join(found.not_found[video])}", err=True)
        for note in one.notes:
            typer.echo(f"warning: {video}: {note}", err=True)
    total = found.run.total
    stages = {"prepare": found.prepare_s, **{stage: total.seconds(stage) for stage in total.STAGES}}
    if found.adapt_s:
        stages["adapt"] = found.adapt_s
    spent = ", ".join(f"{stage} {seconds:.1f}" for stage, seconds in stages.items())
    videos = "1 video" if len(found.found) == 1 else f"{len(found.found)} videos"
    n_found = sum(len(one.detections) for one in found.found.values())
    typer.echo(f"{videos} of {total.video_s:.0f} s, {n_found} detections: {target} (seconds: {spent})", err=True)
