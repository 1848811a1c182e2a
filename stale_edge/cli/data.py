"""`stale-edge data simulate`, `data shard`, `data check`, and `stale-edge score`."""

from pathlib import Path
from typing import Annotated

import typer

from stale_edge.cli.output import JsonOption, TiouOption, console, progress_bar, table, thresholds, write_json


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    group = typer.Typer(
        no_args_is_help=True,
        help="Make and check data sets of features.",
        epilog="Example: [bold]stale-edge data check data[/bold]",
    )
    group.command(
        "simulate",
        epilog="Example: [bold]stale-edge data simulate --out data --videos 200 --classes 20 --seed 0[/bold]",
    )(simulate)
    group.command("shard", epilog="Example: [bold]stale-edge data shard data --out shards --format parquet[/bold]")(
        shard
    )
    group.command("check", epilog="Example: [bold]stale-edge data check data[/bold]")(check)
    app.add_typer(group, name="data")
    app.command(
        "score", epilog="Example: [bold]stale-edge score --truth annotations.json --predictions detections.json[/bold]"
    )(score)


def simulate(
    out: Annotated[Path, typer.Option("--out", help="Folder to write; must be empty or not exist.")],
    annotations: Annotated[
        Path | None, typer.Option(help="Simulate features for these real annotations instead of inventing videos.")
    ] = None,
    videos: Annotated[int | None, typer.Option(min=2, help="Number of videos.")] = None,
    classes: Annotated[int | None, typer.Option(min=2, help="Number of action classes.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of all random numbers; the same seed gives the same bytes.")] = 0,
    text_encoder: Annotated[
        str | None,
        typer.Option(
            metavar="NAME_OR_DIR",
            help="CLIP text encoder that gives the class directions, kept beside the data; default: simulated.",
        ),
    ] = None,
) -> None:
    """Write a data set of simulated features that have the statistics of real CLIP features."""
    from stale_edge.config import SimulateConfig
    from stale_edge.data import simulate as run
    from stale_edge.data.simulate import class_names

    chosen = {"n_videos": videos, "n_classes": classes, "seed": seed}
    config = SimulateConfig(**{name: value for name, value in chosen.items() if value is not None})
    if annotations is None:
        try:
            class_names(config)
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="--classes") from error
    with progress_bar() as progress:
        if text_encoder is None:
            data_set = run(out, config=config, annotations=annotations, progress=progress)
        else:
            from stale_edge.training.simulated_data import simulate_with_encoder

            data_set = simulate_with_encoder(
                out, text_encoder=text_encoder, config=config, annotations=annotations, progress=progress
            )
    console().print(
        f"{out}: {len(data_set.annotations.videos)} simulated videos of {len(data_set.class_names)} classes "
        f"({data_set.feature_spec.channels} channels). These features are simulated, not extracted from video."
    )


def check(
    folder: Annotated[Path, typer.Argument(help="Data set folder: features/, annotations.json, …")],
    json_path: JsonOption = None,
) -> None:
    """Read a whole data set and list every problem with its file and reason; exit 1 if there is one."""
    from stale_edge.data.check import check_data_set

    with progress_bar() as progress:
        found = check_data_set(folder, progress=progress)
    listed = {
        "problems": [problem._asdict() for problem in found.problems],
        "warnings": [warning._asdict() for warning in found.warnings],
    }
    counts = {key: getattr(found, key) for key in ("n_videos", "n_features", "n_classes", "channels", "hours")}
    write_json({"folder": str(folder), **listed, **counts}, json_path)
    out = console(json_path)
    for problem in found.problems:
        out.print(f"{problem.file}: {problem.reason}", markup=False)
    for warning in found.warnings:
        out.print(f"warning: {warning.file}: {warning.reason}", markup=False)
    out.print(f"{folder}: {found.summary()}", markup=False)
    if found.problems:
        raise typer.Exit(1)


def shard(
    folder: Annotated[Path, typer.Argument(help="Data set folder: features/, annotations.json, …")],
    out: Annotated[Path, typer.Option("--out", help="Data set folder to write; must be empty or not exist.")],
    shard_format: Annotated[str, typer.Option("--format", help="tar (WebDataset), or parquet.")] = "tar",
    shard_mb: Annotated[int, typer.Option(min=1, help="Megabytes of features per shard.")] = 256,
    json_path: JsonOption = None,
) -> None:
    """Copy a data set into files of many videos; `train`, `evaluate` and `detect` read it like the original."""
    from stale_edge.data.shard import FORMATS, shard_data_set

    if shard_format not in FORMATS:
        raise typer.BadParameter(f"must be one of {', '.join(FORMATS)}; got {shard_format}", param_hint="--format")
    with progress_bar() as progress:
        report = shard_data_set(
            folder, out, shard_format=shard_format, shard_bytes=shard_mb * 1_000_000, progress=progress
        )
    write_json(report.to_json(), json_path)
    size = f"{report.bytes / 1e6:.1f} MB"
    console(json_path).print(f"{out}: {report.n_videos} videos in {len(report.shards)} shards, {size}", markup=False)


def score(
    truth: Annotated[Path, typer.Option(help="Ground truth in the ActivityNet layout.")],
    predictions: Annotated[Path, typer.Option(help="Detections in the ActivityNet layout.")],
    subset: Annotated[str, typer.Option(help="Subset of the ground truth to score; '' takes all.")] = "validation",
    tiou: TiouOption = "0.5:0.95:0.05",
    json_path: JsonOption = None,
) -> None:
    """Evaluate detections by ActivityNet's rules: mAP in percent, per threshold and per class."""
    from stale_edge.evaluation import score_files

    result = score_files(truth, predictions, subset=subset or None, tiou_thresholds=thresholds(tiou))
    write_json(result.to_json(), json_path)
    rows = [[f"{t:.2f}", f"{m:.2f}"] for t, m in zip(result.tiou_thresholds, result.mAP, strict=True)]
    out = console(json_path)
    out.print(table("", ["tIoU", "mAP"], [*rows, ["average", f"{result.average_mAP:.2f}"]]))
