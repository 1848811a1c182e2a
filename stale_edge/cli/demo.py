"""`stale-edge demo`: the whole path in one command, on simulated features or on rendered videos."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stale_edge.cli.output import JsonOption, console, progress_bar, table, write_json

if TYPE_CHECKING:
    from rich.console import Console


class DemoArchitecture(StrEnum):
    """Detectors of the demo, as in `stale_edge.demo.feature_world.DEMO_ARCHITECTURES`."""

    light = "light"
    stale = "stale"
    actionformer = "actionformer"
    two_stage = "two-stage"
    weak = "weak"


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command(
        "demo",
        epilog="Example: [bold]stale-edge demo --out demo[/bold], or [bold]stale-edge demo --video --out demo[/bold]; "
        "then open demo/report.html",
    )(demo)


def demo(
    out: Annotated[Path, typer.Option(help="Folder for all results; an earlier demo there is replaced.")] = Path(
        "demo"
    ),
    video: Annotated[
        bool,
        typer.Option(
            "--video",
            help="Render videos, train a tiny CLIP on captions, and detect in mp4 files; takes minutes longer.",
        ),
    ] = False,
    arch: Annotated[
        DemoArchitecture | None,
        typer.Option(help="Detector to train; default: light, with --video STALE."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the simulated task or videos, and of the training.")] = 0,
    scale: Annotated[float, typer.Option(min=0.05, max=1.0, help="Share of the videos; less is faster.")] = 1.0,
    json_path: JsonOption = None,
) -> None:
    """Make data, train, evaluate on seen and unseen classes, export, check, detect, measure, and write report.html."""
    if video and arch not in (None, DemoArchitecture.light, DemoArchitecture.stale):
        raise typer.BadParameter("--video trains light or stale; give one of them, or neither", param_hint="--arch")
    if video:
        _with_videos(out, arch or DemoArchitecture.stale, seed=seed, scale=scale, json_path=json_path)
    else:
        _with_features(out, arch or DemoArchitecture.light, seed=seed, scale=scale, json_path=json_path)
    console(json_path).print(f"Open {out / 'report.html'}", markup=False)


def _with_features(out: Path, arch: DemoArchitecture, *, seed: int, scale: float, json_path: Path | None) -> None:
    from stale_edge.demo.feature_demo import run_demo

    with progress_bar() as progress:
        result = run_demo(out, architecture=arch.value, seed=seed, scale=scale, progress=progress)
    write_json(result, json_path)
    to_people = console(json_path)
    _print_ladder(to_people, result["ladder"], "average mAP, %, on simulated features")
    rows = [
        [name, f"{part['average_mAP']:.1f}", f"{part['model_bytes'] / 1e6:.2f}", str(part["flipped_snippets"]),
         f"{part['matched_detections']:.1%}"]
        for name, part in result["precisions"].items()
    ]  # fmt: skip
    to_people.print(table("after export", ["", "average mAP", "MB", "flipped snippets", "matched detections"], rows))


def _with_videos(out: Path, arch: DemoArchitecture, *, seed: int, scale: float, json_path: Path | None) -> None:
    from stale_edge.demo.video.video_demo import run_video_demo

    with progress_bar() as progress:
        result = run_video_demo(out, architecture=arch.value, seed=seed, scale=scale, progress=progress)
    write_json(result, json_path)
    to_people = console(json_path)
    rows = [
        [name, f"{part['mAP_50']:.1f}", f"{part['average_mAP']:.1f}", f"{part['baseline_mAP_50']:.1f}",
         f"{part['random_ranking_mAP_50']:.1f}"]
        for name, part in (("seen actions", result["closed_set"]), ("unseen actions", result["open_set"]))
    ]  # fmt: skip
    _print_ladder(to_people, result["ladder"], "average mAP, %, on rendered videos")
    columns = ["", "mAP@0.5", "average mAP", "training-free mAP@0.5", "random ranking mAP@0.5"]
    to_people.print(table("%, on rendered videos", columns, rows))
    to_people.print(table("from mp4 to detections", ["", "seconds", "times real time"], _speed_rows(result["detect"])))
    rows = [[stage, f"{seconds:.1f}"] for stage, seconds in result["seconds"].items()]
    rows.append(["in all", f"{sum(result['seconds'].values()):.1f}"])
    to_people.print(table("the demo", ["", "seconds"], rows))


def _print_ladder(to_people: "Console", ladder: list[dict[str, Any]], title: str) -> None:
    """Print the mAP of each detector, and a red warning if the last one does not beat the linear probe."""
    from stale_edge.evaluation.ladder import Rung, shortfall

    rungs = [Rung(rung["detector"], rung["seen_average_mAP"], rung["unseen_average_mAP"]) for rung in ladder]
    rows = [[rung.detector, f"{rung.seen:.1f}", "-" if rung.unseen is None else f"{rung.unseen:.1f}"] for rung in rungs]
    to_people.print(table(title, ["", "seen classes", "unseen classes"], rows))
    if (warning := shortfall(rungs)) is not None:
        to_people.print(warning, style="bold red", markup=False)


def _speed_rows(detect: dict[str, Any]) -> list[list[str]]:
    times = detect["times_real_time"]
    return [
        [stage, f"{seconds:.2f}", "-" if times[stage] is None else f"{times[stage]:.0f}x"]
        for stage, seconds in detect["seconds"].items()
    ]
