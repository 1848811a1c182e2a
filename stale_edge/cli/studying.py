"""`stale-edge study`: the experiments of the papers, one command each."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stale_edge.cli.output import JsonOption, console, progress_bar, split_names, table, write_json

if TYPE_CHECKING:
    from stale_edge.study import Study, StudyOptions

ScoresOption = Annotated[
    Path | None, typer.Option(help="Video-level scores for score enhancement; default: those of the data set.")
]
ClassSplitsOption = Annotated[
    Path | None,
    typer.Option(help="Published class lists: a folder, 75_25/train/split_0.list …, or JSON; default: drawn by seed."),
]


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    group = typer.Typer(
        no_args_is_help=True,
        help="Run the experiments of the papers; prints the published figures next to our own.",
        epilog="Example: [bold]stale-edge study data-efficiency --out study --scale 0.2[/bold]",
    )
    for name, command in (
        ("data-efficiency", data_efficiency),
        ("open-set", open_set),
        ("compute-efficiency", compute_efficiency),
        ("quantization", quantization),
        ("ablations", ablations),
        ("weak-supervision", weak_supervision),
    ):
        group.command(name, epilog=f"Example: [bold]stale-edge study {name} --out study --scale 0.2[/bold]")(
            _with_study_options(command)
        )
    app.add_typer(group, name="study")


def data_efficiency(
    options: "StudyOptions",
    scores: ScoresOption = None,
    percents: Annotated[str, typer.Option(help="Shares of the training videos, in percent.")] = "10,20,40,60,80,100",
    json_path: JsonOption = None,
) -> None:
    """Closed set: train on 10 to 100 % of the videos, with and without score enhancement (thesis, Figure 3)."""
    from stale_edge.study.data_efficiency import DataEfficiency

    try:
        study = DataEfficiency(options, scores=scores, percents=[int(text) for text in split_names(percents)])
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--percents") from error
    _run(study, options, json_path)


def open_set(
    options: "StudyOptions",
    scores: ScoresOption = None,
    class_splits: ClassSplitsOption = None,
    json_path: JsonOption = None,
) -> None:
    """Open set: train on 75 and 50 % of the classes, look for the others (Table 1 of thesis and paper)."""
    from stale_edge.study.open_set import OpenSet

    _run(OpenSet(options, scores=scores, class_splits=class_splits), options, json_path)


def compute_efficiency(
    options: "StudyOptions",
    peak_tmacs: Annotated[
        float | None,
        typer.Option(
            help="Compute utilization from this many tera MACs per second (thesis: 8.2), not the measured rate."
        ),
    ] = None,
    json_path: JsonOption = None,
) -> None:
    """Time, work, memory and utilization over video length; training time and size (thesis, Figure 4 a, b, Table 2)."""
    from stale_edge.study.compute_efficiency import ComputeEfficiency

    _run(ComputeEfficiency(options, peak_tmacs=peak_tmacs), options, json_path)


def quantization(
    options: "StudyOptions",
    json_path: JsonOption = None,
) -> None:
    """Time, size, memory and mAP of fp32, fp16 and int8, with the text tower inside and folded away (Figure 4 c)."""
    from stale_edge.study.quantization import Quantization

    _run(Quantization(options), options, json_path)


def ablations(
    options: "StudyOptions",
    class_splits: ClassSplitsOption = None,
    json_path: JsonOption = None,
) -> None:
    """Ablate masking, text encoder and temporal modelling; baselines (paper, Tables 1, 3 to 6)."""
    from stale_edge.study.ablations import Ablations

    _run(Ablations(options, class_splits=class_splits), options, json_path)


def weak_supervision(
    options: "StudyOptions",
    json_path: JsonOption = None,
) -> None:
    """Train two branches from the classes of whole videos; measure each step, beside full supervision."""
    from stale_edge.study.weak_supervision import WeakSupervision

    _run(WeakSupervision(options), options, json_path)


def study_options(
    out: Annotated[Path, typer.Option(help="Folder of the study; a stopped study is resumed.")],
    data: Annotated[
        Path | None, typer.Option(help="Data set folder; default: data simulated in the folder of the study.")
    ] = None,
    scale: Annotated[
        float,
        typer.Option(
            help="Multiplies videos, repeats and epochs; at 1 a study takes at most half an hour on two cores."
        ),
    ] = 1.0,
    full: Annotated[
        bool, typer.Option("--full", help="Use the full protocol of the papers; this may take very long.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of all random numbers.")] = 0,
    videos: Annotated[
        int | None, typer.Option(min=1, help="Number of videos, instead of the number from --scale.")
    ] = None,
    repeats: Annotated[
        int | None, typer.Option(min=1, help="Number of repeats, instead of the number from --scale.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override one setting, e.g. train.epochs=3.")
    ] = None,
) -> "StudyOptions":
    """Build the options of a study from the options that all its commands share."""
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


def _with_study_options(study: Callable[..., None]) -> Callable[..., None]:
    """Make a command from a function whose first parameter is the result of `study_options`."""
    shared = inspect.signature(study_options).parameters
    own = inspect.signature(study).parameters

    def command(**given: Any) -> None:
        options = study_options(**{name: given.pop(name) for name in shared})
        study(options, **given)

    command.__doc__ = study.__doc__
    command.__signature__ = inspect.Signature([*shared.values(), *list(own.values())[1:]])  # type: ignore[attr-defined]
    return command


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
