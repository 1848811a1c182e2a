"""`stale-edge train` and `stale-edge evaluate`."""

import dataclasses
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stale_edge.cli.devices import DeviceName, DeviceOption, print_providers
from stale_edge.cli.output import JsonOption, TiouOption, console, progress_bar, table, thresholds, write_json
from stale_edge.cli.windows import OverlapOption, WindowOption, check_window_options

if TYPE_CHECKING:
    from stale_edge.runtime.evaluate import EvaluationReport


class Protocol(StrEnum):
    """Protocols of `evaluate`."""

    standard = "standard"
    strict = "strict"


class Tracker(StrEnum):
    """Experiment trackers of `train`."""

    tensorboard = "tensorboard"


class Supervision(StrEnum):
    """What training may read of the annotations."""

    segments = "segments"
    video_labels = "video-labels"


DEFAULT_IS_STALE = (
    "This is STALE, the default without --arch; in our measurements --arch light finds more (docs/light.md)."
)


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command("train", epilog="Example: [bold]stale-edge train --data data --out run --set train.epochs=15[/bold]")(
        train
    )
    app.command(
        "evaluate", epilog="Example: [bold]stale-edge evaluate run/best --data data --split unseen.list[/bold]"
    )(evaluate)


def train(
    data: Annotated[Path, typer.Option("--data", "-d", help="Data set folder.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder of the run: checkpoints, metrics.jsonl, loss plot.")],
    config: Annotated[
        Path | None,
        typer.Argument(help="TOML file with settings that replace defaults, or the folder of a run that has one."),
    ] = None,
    config_option: Annotated[
        Path | None, typer.Option("--config", metavar="CONFIG.toml|RUN", help="The same, as an option.")
    ] = None,
    arch: Annotated[
        str | None,
        typer.Option(help="stale (the paper's network), light, actionformer, two-stage, weak, linear or another."),
    ] = None,
    supervision: Annotated[
        Supervision | None,
        typer.Option(help="video-labels: read only which classes each training video shows (architecture weak)."),
    ] = None,
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override one setting, e.g. train.epochs=3.")
    ] = None,
    tracker: Annotated[
        Tracker | None, typer.Option(help="Also send the numbers of every epoch here: event files in OUT/tracker.")
    ] = None,
    videos: Annotated[
        Path | None,
        typer.Option("--videos", metavar="FILE", help="File with the videos to train on, one name per line."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out.")] = False,
    json_path: JsonOption = None,
) -> None:
    """Train a detector. The default is STALE, which also trains under torchrun; --arch light is what we recommend."""
    from stale_edge.config import load_config
    from stale_edge.model.architectures import ARCHITECTURES
    from stale_edge.training import train as run
    from stale_edge.training.alternating import supervised

    if config is not None and config_option is not None:
        raise typer.BadParameter("the file is given as an argument too; give one", param_hint="--config")
    config = config or config_option
    if supervision == Supervision.video_labels and arch is None and config is None:
        arch = "weak"
    unnamed = arch is None and config is None and not any("architecture" in text for text in overrides or ())
    named = [] if arch is None else [f'model.architecture="{"paper" if arch == "stale" else arch}"']
    tracked = [] if tracker is None else [f'train.tracker="{tracker.value}"']
    resolved = load_config(config, [*named, *(overrides or ()), *tracked], architectures=ARCHITECTURES)
    resolved = supervised(resolved, None if supervision is None else supervision.value)
    if videos is not None:
        resolved = dataclasses.replace(resolved, videos=str(videos))
    with progress_bar() as progress:
        result = run(
            resolved, data, out, resume=resume, announce=lambda line: typer.echo(line, err=True), progress=progress
        )
    if not result.leads:
        return
    write_json(result.to_json(), json_path)
    printed = console(json_path)
    printed.print(result.summary(), markup=False)
    if unnamed:
        printed.print(DEFAULT_IS_STALE, markup=False)
    for warning in result.warnings:
        printed.print(f"warning: {warning}", style="bold red", markup=False)


def evaluate(
    model: Annotated[Path, typer.Argument(help="Checkpoint or bundle.")],
    data: Annotated[Path, typer.Option("--data", "-d", help="Data set folder.")],
    split: Annotated[Path | None, typer.Option(help="File with the class names to evaluate on, one per line.")] = None,
    scores: Annotated[Path | None, typer.Option(help="Video-level scores for score enhancement.")] = None,
    class_scores: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Scores {video: {class: score}} of a classifier of whole videos: they name the detections of a model "
            "that has one class.",
        ),
    ] = None,
    subset: Annotated[str, typer.Option(help="Subset of the annotations.")] = "validation",
    tiou: TiouOption = "0.5:0.95:0.05",
    window: WindowOption = None,
    overlap: OverlapOption = None,
    device: DeviceOption = DeviceName.cpu,
    predictions: Annotated[Path | None, typer.Option(help="Also write the detections to this file.")] = None,
    linear: Annotated[
        Path | None,
        typer.Option(help="Checkpoint of a linear probe to compare with; a red line warns if the probe is as good."),
    ] = None,
    protocol: Annotated[
        Protocol,
        typer.Option(help="strict: seen, unseen, absent and nonsense names at once, no external scores."),
    ] = Protocol.standard,
    seen: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="strict: classes trained on, one per line; default: the checkpoint's."),
    ] = None,
    also: Annotated[
        list[Path] | None,
        typer.Option(metavar="MODEL", help="strict: further models, of other splits; gives mean and deviation."),
    ] = None,
    plot: Annotated[Path | None, typer.Option(metavar="FILE", help="strict: draw the reliability of scores.")] = None,
    json_path: JsonOption = None,
) -> None:
    """Measure mAP by ActivityNet's rules, next to the training-free baseline."""
    from stale_edge.data import read_class_scores, read_scores
    from stale_edge.runtime.evaluate import EvaluationSettings

    chosen = thresholds(tiou)
    check_window_options(window, overlap)
    if protocol is Protocol.strict:
        from stale_edge.cli.strict import measure_strictly, print_strictly

        unwanted = {
            "--scores": scores,
            "--class-scores": class_scores,
            "--split": split,
            "--predictions": predictions,
            "--linear": linear,
        }
        for name, value in unwanted.items():
            if value is not None:
                raise typer.BadParameter("does not go with --protocol strict; leave it out", param_hint=name)
        strict = EvaluationSettings(subset, chosen, window=window, overlap=overlap, device=device.value)
        with progress_bar() as progress:
            reports = [
                measure_strictly(one, data, seen=seen, settings=strict, progress=progress)
                for one in (model, *(also or ()))
            ]
        print_strictly(reports, plot=plot, json_path=json_path)
        return
    for name, given in {"--seen": seen, "--also": also, "--plot": plot}.items():
        if given:
            raise typer.BadParameter("needs --protocol strict", param_hint=name)
    probe = None
    with progress_bar() as progress:
        settings = EvaluationSettings(
            subset,
            chosen,
            scores=None if scores is None else read_scores(scores),
            class_scores=None if class_scores is None else read_class_scores(class_scores),
            window=window,
            overlap=overlap,
            device=device.value,
        )
        report = _evaluator(model)(model, data, split=split, settings=settings, progress=progress)
        if linear is not None:
            probe = _evaluator(linear)(linear, data, split=split, settings=settings, progress=progress).result
    write_json(report.to_json() | ({} if probe is None else {"linear": probe.to_json()}), json_path)
    if predictions is not None:
        write_json(report.predictions, predictions)
    baseline = report.baseline
    ladder = [("mAP", report.result), ("training-free", baseline), *([] if probe is None else [("linear", probe)])]
    rows = [
        [f"{threshold:.2f}", *(f"{result.mAP[i]:.2f}" if result else "-" for _, result in ladder)]
        for i, threshold in enumerate(report.result.tiou_thresholds)
    ]
    rows.append(["average", *(f"{result.average_mAP:.2f}" if result else "-" for _, result in ladder)])
    print_providers(device, [report.provider])
    out = console(json_path)
    out.print(table("", ["tIoU", *(name for name, _ in ladder)], rows))
    if probe is not None and report.result.average_mAP <= probe.average_mAP:
        out.print("This detector does not beat the linear probe: use the probe here.", style="bold red")
    out.print(f"training-free: {report.baseline_note}", markup=False)
    if report.one_class:
        out.print("The model names no classes: every annotated action counts as the same one.")
    left_out = {"videos without features": report.missing_features, "unknown classes": report.unknown_classes}
    for what, names in left_out.items():
        if names:
            out.print(f"{len(names)} {what}, counted as missed: {', '.join(names[:5])}", markup=False)


def _evaluator(model: Path) -> "Callable[..., EvaluationReport]":
    """Choose the function that evaluates a bundle (without torch) or a checkpoint."""
    if (model / "manifest.json").is_file():
        from stale_edge.runtime.evaluate import evaluate_bundle

        return evaluate_bundle
    from stale_edge.training import evaluate_checkpoint

    return evaluate_checkpoint
