"""`stale-edge features`: videos → a data set folder of snippet features, resumable."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from stale_edge.cli.devices import DeviceName, DeviceOption, print_providers
from stale_edge.cli.encoding import (
    EncoderPrecisionOption,
    EncoderRuntimeOption,
    PreprocessingOption,
    SkipSimilarOption,
    check_encoder_choice,
    check_encoding_options,
)
from stale_edge.cli.many import ManyInputsCommand, RayOption, WorkersOption, ray_pool
from stale_edge.cli.output import JsonOption, console, progress_bar, table, write_json
from stale_edge.config import ExtractConfig

if TYPE_CHECKING:
    from stale_edge.config import Preprocessing


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command(
        "features",
        cls=ManyInputsCommand,
        epilog="Example: [bold]stale-edge features videos/ --encoder encoder --out data --fps 16 --stride 8[/bold]",
    )(features)


def features(
    videos: Annotated[list[Path], typer.Argument(metavar="VIDEO...", help="Video files, and folders of them.")],
    encoder: Annotated[Path, typer.Option("--encoder", "-e", help="Encoder folder, or a bundle that holds one.")],
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Data set folder to write features/ and feature_spec.json into.")
    ],
    fps: Annotated[
        float | None,
        typer.Option(
            help=f"Frames per second from which snippets are made; default: the bundle's, or {ExtractConfig.fps:g}."
        ),
    ] = None,
    stride: Annotated[
        int | None,
        typer.Option(
            min=1,
            help=f"Frames per snippet; the middle one is encoded; default: the bundle's, or {ExtractConfig.stride}.",
        ),
    ] = None,
    batch: Annotated[int, typer.Option(min=1, help="Number of pictures encoded at once.")] = ExtractConfig.batch,
    precision: EncoderPrecisionOption = "fp32",
    encoder_runtime: EncoderRuntimeOption = "onnxruntime",
    preprocessing: PreprocessingOption = None,
    skip_similar: SkipSimilarOption = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    device: DeviceOption = DeviceName.cpu,
    ray: RayOption = None,
    workers: WorkersOption = 2,
    json_path: JsonOption = None,
) -> None:
    """Extract CLIP features of videos. Finished videos are skipped; after a kill only the current one is repeated."""
    from stale_edge.jobs.extraction import FeatureJob, default_preprocessing, default_sampling, extract_all

    if fps is not None and not 0 < fps < float("inf"):
        raise typer.BadParameter("must be a finite number > 0", param_hint="--fps")
    check_encoding_options(preprocessing, skip_similar)
    check_encoder_choice(encoder_runtime, precision)
    own_fps, own_stride = default_sampling(encoder)
    job = FeatureJob(
        encoder,
        out,
        fps or own_fps,
        stride or own_stride,
        precision=precision,
        batch=batch,
        threads=threads,
        device=device.value,
        runtime=encoder_runtime,
        preprocessing=default_preprocessing(encoder) if preprocessing is None else cast("Preprocessing", preprocessing),
        skip_similar=skip_similar,
    )
    with progress_bar() as progress:
        report = extract_all(
            videos, job, pool=ray_pool(ray, scratch=out, workers=workers, threads=threads), progress=progress
        )
    write_json(report.to_json(), json_path)
    shown = console(json_path)
    if report.extracted:
        rows = [
            [
                video,
                str(record["n_snippets"]),
                str(record["n_encoded"]),
                f"{record['duration_s']:.1f}",
                f"{record['decode_s']:.2f}",
                f"{record['encoder_s']:.2f}",
                f"{record['duration_s'] / max(record['decode_s'] + record['encoder_s'], 1e-9):.1f}x",
            ]
            for video, record in report.extracted.items()
        ]
        columns = ["video", "snippets", "encoded", "length s", "decode s", "encoder s", "times real time"]
        shown.print(table("", columns, rows))
    shown.print(
        f"{out}: {len(report.extracted)} extracted, {len(report.unchanged)} unchanged, {len(report.errors)} failed",
        markup=False,
    )
    print_providers(device, (record["provider"] for record in report.extracted.values()))
    for video, record in report.extracted.items():
        for note in record["notes"]:
            typer.echo(f"warning: {video}: {note}", err=True)
    for error in report.errors.values():
        typer.echo(f"error: {error}", err=True)
    if report.errors:
        raise typer.Exit(1)
