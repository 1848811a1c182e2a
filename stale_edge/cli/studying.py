"""`stale-edge study`: the experiments of the papers, each a command of its own."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stale_edge.cli.output import JsonOption, console, progress_bar, split_names, table, write_json

if TYPE_CHECKING:
    from stale_edge.study import Study, StudyOptions

OutOption = Annotated[Path, typer.Option(help="Folder of the study; a stopped one goes on there.")]
DataOption = Annotated[
    Path | None, typer.Option(help="Data set folder; without it data are simulated into the study's folder.")
]
ScaleOption = Annotated[
    float,
    typer.Option(help="Multiplies videos, repeats and epochs; at 1 it takes at most half an hour on two cores."),
]
FullOption = Annotated[bool, typer.Option("--full", help="The protocol of the papers, whatever it takes.")]
SeedOption = Annotated[int, typer.Option(min=0, help="Of everything that is drawn.")]
ScoresOption = Annotated[
    Path | None, typer.Option(help="Video-level scores for score enhancement; without it those of the data set.")
]
VideosOption = Annotated[int | None, typer.Option(min=1, help="Use so many videos, whatever --scale says.")]
RepeatsOption = Annotated[int | None, typer.Option(min=1, help="Repeat so often, whatever --scale says.")]
SettingsOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override one setting, e.g. train.epochs=3.")
]
ClassSplitsOption = Annotated[
    Path | None,
    typer.Option(help="Folder of the published class lists, 75_25/train/split_0.list …; without it drawn by seed."),
]


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    group = typer.Typer(
        no_args_is_help=True,
        help="Run the experiments of the papers; published figures stand beside the own ones.",
        epilog="Example: [bold]stale-edge study data-efficiency --out study --scale 0.2[/bold]",
    )
    for name, command in (
        ("data-efficiency", data_efficiency),
        ("open-set", open_set),
        ("compute-efficiency", compute_efficiency),
        ("quantization", quantization),
        ("ablations", ablations),
    ):
        group.command(name, epilog=f"Example: [bold]stale-edge study {name} --out study --scale 0.2[/bold]")(command)
    app.add_typer(group, name="study")


def data_efficiency(
    out: OutOption,
    data: DataOption = None,
    scale: ScaleOption = 1.0,
    full: FullOption = False,
    seed: SeedOption = 0,
    videos: VideosOption = None,
    repeats: RepeatsOption = None,
    settings: SettingsOption = None,
    scores: ScoresOption = None,
    percents: Annotated[str, typer.Option(help="Parts of the training videos in percent.")] = "10,20,40,60,80,100",
    json_path: JsonOption = None,
) -> None:
    """Closed set: train on 10 to 100 % of the videos, with and without score enhancement (thesis, Figure 3)."""
    from stale_edge.study.data_efficiency import DataEfficiency

    options = _options(out, data, scale, full, seed, videos, repeats, settings)
    try:
        study = DataEfficiency(options, scores=scores, percents=[int(text) for text in split_names(percents)])
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--percents") from error
    _run(study, options, json_path)


def open_set(
    out: OutOption,
    data: DataOption = None,
    scale: ScaleOption = 1.0,
    full: FullOption = False,
    seed: SeedOption = 0,
    videos: VideosOption = None,
    repeats: RepeatsOption = None,
    settings: SettingsOption = None,
    scores: ScoresOption = None,
    class_splits: ClassSplitsOption = None,
    json_path: JsonOption = None,
) -> None:
    """Open set: train on 75 and 50 % of the classes, look for the others (Table 1 of thesis and paper)."""
    from stale_edge.study.open_set import OpenSet

    options = _options(out, data, scale, full, seed, videos, repeats, settings)
    _run(OpenSet(options, scores=scores, class_splits=class_splits), options, json_path)


def compute_efficiency(
    out: OutOption,
    data: DataOption = None,
    scale: ScaleOption = 1.0,
    full: FullOption = False,
    seed: SeedOption = 0,
    videos: VideosOption = None,
    repeats: RepeatsOption = None,
    settings: SettingsOption = None,
    peak_tmacs: Annotated[
        float | None,
        typer.Option(help="Utilization is of this many tera MACs per second (thesis: 8.2), not of the measured rate."),
    ] = None,
    json_path: JsonOption = None,
) -> None:
    """Time, work, memory and utilization over video length; training time and size (thesis, Figure 4 a, b, Table 2)."""
    from stale_edge.study.compute_efficiency import ComputeEfficiency

    options = _options(out, data, scale, full, seed, videos, repeats, settings)
    _run(ComputeEfficiency(options, peak_tmacs=peak_tmacs), options, json_path)


def quantization(
    out: OutOption,
    data: DataOption = None,
    scale: ScaleOption = 1.0,
    full: FullOption = False,
    seed: SeedOption = 0,
    videos: VideosOption = None,
    repeats: RepeatsOption = None,
    settings: SettingsOption = None,
    json_path: JsonOption = None,
) -> None:
    """Time, size, memory and mAP of fp32, fp16 and int8, with the text tower inside and folded away (Figure 4 c)."""
    from stale_edge.study.quantization import Quantization

    options = _options(out, data, scale, full, seed, videos, repeats, settings)
    _run(Quantization(options), options, json_path)


def ablations(
    out: OutOption,
    data: DataOption = None,
    scale: ScaleOption = 1.0,
    full: FullOption = False,
    seed: SeedOption = 0,
    videos: VideosOption = None,
    repeats: RepeatsOption = None,
    settings: SettingsOption = None,
    class_splits: ClassSplitsOption = None,
    json_path: JsonOption = None,
) -> None:
    """What masking, text encoder and temporal modelling are worth; baselines B-I and B-II (paper, Tables 1, 3 to 6)."""
    from stale_edge.study.ablations import Ablations

    options = _options(out, data, scale, full, seed, videos, repeats, settings)
    _run(Ablations(options, class_splits=class_splits), options, json_path)


def _options(
    out: Path,
    data: Path | None,
    scale: float,
    full: bool,
    seed: int,
    videos: int | None = None,
    repeats: int | None = None,
    settings: Sequence[str] | None = None,
) -> "StudyOptions":
    from stale_edge.study import StudyOptions

    return StudyOptions(
        out=out,
        data=data,
        scale=scale,
        full=full,
        seed=seed,
        videos=videos,
        repeats=repeats,
        settings=tuple(settings or ()),
    )


def _run(study: "Study", options: "StudyOptions", json_path: Path | None) -> None:
    """Run a study and print its tables."""
    from stale_edge.study import run_study
    from stale_edge.study.results import TABLE_FILE, text_rows, to_json

    with progress_bar() as progress:
        summary = run_study(study, options.out, progress=progress)
    write_json(to_json(study.name, summary), json_path)
    printed = console(json_path)
    for part in summary.tables:
        printed.print(table("", [column.title for column in part.columns], text_rows(part)))
        printed.print(part.caption, markup=False)
    for note in summary.notes:
        printed.print(f"- {note}", markup=False)
    printed.print(f"{options.out / TABLE_FILE} and the plots beside it", markup=False)
