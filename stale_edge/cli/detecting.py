"""`stale-edge detect`: bundle + features → detections, without torch."""

from enum import StrEnum
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
from stale_edge.cli.output import console, progress_bar, table, write_bytes, write_json
from stale_edge.cli.windows import OverlapOption, WindowOption, check_window_options

if TYPE_CHECKING:
    from stale_edge.config import Preprocessing
    from stale_edge.runtime.detect_output import DetectionRun


class OutputFormat(StrEnum):
    """Output formats of `detect`."""

    json = "json"
    csv = "csv"
    srt = "srt"
    html = "html"


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command(
        "detect",
        cls=ManyInputsCommand,
        epilog='Example: [bold]stale-edge detect bundle holiday.mp4 --classes "pole vault,high jump"[/bold]',
    )(detect)


def detect(
    bundle: Annotated[Path, typer.Argument(help="Bundle folder.")],
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="INPUT...", help="Videos, feature files (.npy, .npz, .h5), folders of either, data sets."
        ),
    ],
    classes: Annotated[
        str | None,
        typer.Option(
            "--classes",
            "-c",
            metavar="FILE",
            help="Class names to look for: a file, one per line, or name,name,…; default: the bundle's own. "
            "Its text encoder embeds new ones.",
        ),
    ] = None,
    output_format: Annotated[OutputFormat, typer.Option("--format", "-f", help="What to write.")] = OutputFormat.json,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="File to write; default: standard output.")] = None,
    min_score: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="Leave out detections that score less; default: none, srt 30 % of a video's best score."
        ),
    ] = None,
    top_k: Annotated[
        int | None,
        typer.Option(min=1, help="Best detections per video that are written; default: all, srt 50, html 100."),
    ] = None,
    duration: Annotated[
        float | None, typer.Option(help="Length of the video in seconds, if features and bundle do not give it.")
    ] = None,
    runtime: Annotated[
        str,
        typer.Option(help="onnxruntime, openvino, torchscript, torch-export; auto: what bench --recommend chose."),
    ] = "onnxruntime",
    precision: Annotated[
        str, typer.Option(help="fp32, fp16, bf16, int8, int8-static, int8-bf16, if bundle and runtime have it.")
    ] = "fp32",
    threads: Annotated[int, typer.Option("--threads", "-t", min=1, help="CPU threads.")] = 1,
    device: DeviceOption = DeviceName.cpu,
    window: WindowOption = None,
    overlap: OverlapOption = None,
    encoder: Annotated[
        Path | None, typer.Option(help="Visual encoder folder for videos; default: the bundle's own.")
    ] = None,
    encoder_precision: EncoderPrecisionOption = "fp32",
    encoder_runtime: EncoderRuntimeOption = "onnxruntime",
    preprocessing: PreprocessingOption = None,
    skip_similar: SkipSimilarOption = None,
    truth: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Annotations (ActivityNet's layout) that html shows next to the detections."),
    ] = None,
    class_scores: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Scores {video: {class: score}} of a classifier of whole videos: they name the detections of a bundle "
            "that has one class.",
        ),
    ] = None,
    timings: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the seconds of each video and stage as JSON.")
    ] = None,
    results: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Folder for one result file per video; a later start detects only in the missing videos.",
        ),
    ] = None,
    ray: RayOption = None,
    workers: WorkersOption = 2,
) -> None:
    """Find which action happens when, in videos or in features of videos."""
    from stale_edge.data import read_class_scores
    from stale_edge.data.annotations import MOST_SECONDS
    from stale_edge.runtime.detect import detect_files
    from stale_edge.runtime.detect_settings import DetectSettings, OutputSettings, class_list

    if duration is not None and not 0 < duration <= MOST_SECONDS:
        raise typer.BadParameter(f"must be a number of seconds > 0, at most {MOST_SECONDS:g}", param_hint="--duration")
    if output_format is OutputFormat.srt and (len(inputs) > 1 or inputs[0].is_dir()):
        raise typer.BadParameter("srt is made for one video; give one file", param_hint="--format")
    if runtime == "auto" and precision != "fp32":
        raise typer.BadParameter("is chosen by --runtime auto; leave it out", param_hint="--precision")
    if ray is not None and results is None:
        raise typer.BadParameter("needs --results DIR, where what was done stays", param_hint="--ray")
    check_window_options(window, overlap)
    check_encoding_options(preprocessing, skip_similar)
    check_encoder_choice(encoder_runtime, encoder_precision)
    settings = DetectSettings(
        bundle,
        classes=None if classes is None else class_list(classes),
        duration_s=duration,
        runtime=runtime,
        precision=precision,
        threads=threads,
        window=window,
        overlap=overlap,
        encoder=encoder,
        encoder_precision=encoder_precision,
        device=device.value,
        encoder_runtime=encoder_runtime,
        preprocessing=cast("Preprocessing | None", preprocessing),
        skip_similar=skip_similar,
        class_scores=None if class_scores is None else read_class_scores(class_scores),
    )
    output = OutputSettings(output_format.value, page=out, truth=truth, min_score=min_score, top_k=top_k)
    with progress_bar() as progress:
        if results is None:
            run = detect_files(settings, inputs, output=output, progress=progress)
        else:
            from stale_edge.jobs.detection import detect_many

            pool = ray_pool(ray, scratch=results, workers=workers, threads=threads)
            run = detect_many(settings, inputs, results, output=output, pool=pool, progress=progress)
    _report(bundle, run, timings)
    print_providers(device, run.providers)
    if out is None:
        typer.echo(run.text, nl=False)
    else:
        write_bytes(out, run.text.encode())
    left = f", {run.n_left_out} left out (written: {output.selection})" if run.n_left_out else ""
    videos = "1 video" if len(run.timings) == 1 else f"{len(run.timings)} videos"
    typer.echo(f"{videos}, {run.n_written} detections{left}: {out or 'standard output'}", err=True)
    for error in run.errors:
        typer.echo(f"error: {error}", err=True)
    if run.errors:
        raise typer.Exit(1)


def _report(bundle: Path, run: "DetectionRun", timings: Path | None) -> None:
    """Print new classes, warnings and the seconds of each stage to standard error."""
    if run.encoded:
        typer.echo(f"{bundle}: new classes, read by its text encoder: {', '.join(run.encoded)}", err=True)
    for video, notes in run.notes.items():
        for note in notes:
            typer.echo(f"warning: {video}: {note}", err=True)
    total = run.total
    if run.has_videos:
        spent = {**{stage: total.seconds(stage) for stage in total.STAGES}, "total": total.total_s}
        rows = []
        for stage, seconds in spent.items():
            times = total.times_real_time(seconds)
            rows.append([stage, f"{seconds:.3f}", "-" if times is None else f"{times:.1f}x"])
        frames = f", {total.frames_encoded} of {total.frames_sampled} pictures encoded"
        console(Path("-")).print(
            table(f"{total.video_s:.1f} s of video{frames}", ["stage", "s", "times real time"], rows)
        )
    if timings is not None:
        videos = {video: one.to_json() for video, one in run.timings.items()}
        write_json({"videos": videos, "total": total.to_json(), "providers": list(run.providers)}, timings)
