"""`stale-edge demo`: the whole path in one command."""

from pathlib import Path
from typing import Annotated

import typer

from stale_edge.cli.output import JsonOption, console, progress_bar, table, write_json


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command("demo", epilog="Example: [bold]stale-edge demo --out demo[/bold], then open demo/report.html")(demo)


def demo(
    out: Annotated[
        Path, typer.Option(help="Folder for everything that is made; an earlier demo there is replaced.")
    ] = Path("demo"),
    seed: Annotated[int, typer.Option(min=0, help="Of the simulated task and the training.")] = 0,
    scale: Annotated[float, typer.Option(min=0.05, max=1.0, help="Part of the videos, for a quick look.")] = 1.0,
    json_path: JsonOption = None,
) -> None:
    """Simulate, train, evaluate on seen and unseen classes, export, check, detect, bench, and write report.html."""
    from stale_edge.demo import run_demo

    with progress_bar() as progress:
        result = run_demo(out, seed=seed, scale=scale, progress=progress)
    write_json(result, json_path)
    to_people = console(json_path)
    rows = [
        [name, f"{part['average_mAP']:.1f}", f"{part['baseline_average_mAP']:.1f}"]
        for name, part in (("seen classes", result["closed_set"]), ("unseen classes", result["open_set"]))
    ]
    to_people.print(table("average mAP, %, on simulated features", ["", "STALE", "training-free"], rows))
    rows = [
        [name, f"{part['average_mAP']:.1f}", f"{part['model_bytes'] / 1e6:.2f}", str(part["flipped_snippets"]),
         f"{part['matched_detections']:.1%}"]
        for name, part in result["precisions"].items()
    ]  # fmt: skip
    to_people.print(table("after export", ["", "average mAP", "MB", "flipped snippets", "matched detections"], rows))
    to_people.print(f"Open {out / 'report.html'}", markup=False)
