"""`stale-edge diagnose`: the errors of any detections in ActivityNet's layout."""

from pathlib import Path
from typing import Annotated

import typer

from stale_edge.cli.output import JsonOption, TiouOption, console, table, thresholds, write_bytes, write_json


def register(app: typer.Typer) -> None:
    """Add the command of this file."""
    app.command(
        "diagnose",
        epilog="Example: [bold]stale-edge diagnose --truth annotations.json --predictions detections.json "
        "--out errors[/bold]",
    )(diagnose)


def diagnose(
    truth: Annotated[Path, typer.Option(help="Ground truth in the ActivityNet layout.")],
    predictions: Annotated[Path, typer.Option(help="Detections in the ActivityNet layout, ours or others'.")],
    out: Annotated[Path | None, typer.Option(help="Folder for diagnosis.json and diagnosis.png.")] = None,
    subset: Annotated[str, typer.Option(help="Subset of the ground truth; '' takes all.")] = "validation",
    tiou: TiouOption = "0.5:0.95:0.05",
    bins: Annotated[str, typer.Option(help="Limits of the groups of actions: activitynet or thumos.")] = "activitynet",
    json_path: JsonOption = None,
) -> None:
    """Say which kinds of errors cost mAP, and which actions are missed (the analysis of DETAD, ECCV 2018)."""
    from stale_edge.evaluation.diagnosis import CHARACTERISTICS
    from stale_edge.evaluation.score_files import diagnose_files

    if bins not in CHARACTERISTICS:
        raise typer.BadParameter(f"must be one of {', '.join(CHARACTERISTICS)}", param_hint="--bins")
    found = diagnose_files(truth, predictions, subset=subset or None, tiou_thresholds=thresholds(tiou), bins=bins)
    write_json(found.to_json(), json_path)
    printed = console(json_path)
    shares = found.profile[0] if found.profile else {}
    rows = [[kind, f"{shares[kind]:.1f}", f"{found.gain[kind]:+.2f}" if kind in found.gain else "-"] for kind in shares]
    printed.print(table("Best detections, one for each action", ["kind", "%", "mAP without it"], rows))
    rows = [
        [f"{one.characteristic} {one.name}", str(one.n_actions), f"{one.average_mAP:.1f}", f"{one.missed:.1f}"]
        for one in found.groups
        if one.average_mAP is not None and one.missed is not None
    ]
    rows.append(["all", str(found.n_actions), f"{found.average_mAP:.1f}", f"{found.missed:.1f}"])
    printed.print(table("Actions", ["group", "actions", "normalized average mAP", "missed, %"], rows))
    for note in found.notes:
        printed.print(note, markup=False)
    if out is not None:
        from stale_edge.report.diagnosis_figure import diagnosis_figure

        write_json(found.to_json(), out / "diagnosis.json")
        write_bytes(out / "diagnosis.png", diagnosis_figure(found))
        printed.print(f"{out}: diagnosis.json, diagnosis.png", markup=False)
