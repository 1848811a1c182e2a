"""`stale-edge scores`: video-level scores for score enhancement."""

from pathlib import Path
from typing import Annotated

import typer

from stale_edge.cli.output import JsonOption, console, progress_bar, write_json

CLASSIFIER_FILE = "classifier.safetensors"
SCORES_FILE = "scores.json"


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    group = typer.Typer(
        no_args_is_help=True,
        help="Make video-level scores for score enhancement, which evaluate and study take with --scores.",
        epilog="Example: [bold]stale-edge scores train --data data --out scores[/bold]",
    )
    group.command("train", epilog="Example: [bold]stale-edge scores train --data data --out scores[/bold]")(train)
    group.command(
        "predict",
        epilog="Example: [bold]stale-edge scores predict scores/classifier.safetensors --data data "
        "--out scores.json[/bold]",
    )(predict)
    group.command(
        "convert",
        epilog="Example: [bold]stale-edge scores convert untrimmednet.npy --classes detclasslist.txt "
        "--out scores.json[/bold]",
    )(convert)
    app.add_typer(group, name="scores")


def train(
    data: Annotated[Path, typer.Option(help="Data set folder.")],
    out: Annotated[Path, typer.Option(help="Folder to write: classifier.safetensors and scores.json.")],
    videos: Annotated[
        Path | None,
        typer.Option("--videos", metavar="FILE", help="File with the videos to train on, one name per line."),
    ] = None,
    epochs: Annotated[int | None, typer.Option(min=1, help="Number of passes over the training videos.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of weights and order.")] = 0,
    json_path: JsonOption = None,
) -> None:
    """Train a small classifier of whole videos, and score every other video with it."""
    from stale_edge.config import VideoClassifierConfig
    from stale_edge.data import open_data_set, read_video_list, write_scores
    from stale_edge.data.scores import accuracy
    from stale_edge.training.video_classifier import (
        score_videos,
        train_video_classifier,
        training_list,
        write_video_classifier,
    )

    data_set = open_data_set(data)
    chosen = training_list(data_set) if videos is None else read_video_list(videos)
    config = VideoClassifierConfig(seed=seed) if epochs is None else VideoClassifierConfig(seed=seed, epochs=epochs)
    with progress_bar() as progress:
        classifier = train_video_classifier(data_set, config=config, videos=chosen, progress=progress)
        others = [video for video in data_set.annotations.videos if video not in set(chosen)]
        scores = score_videos(classifier, data_set, others, progress=progress)
    write_video_classifier(out / CLASSIFIER_FILE, classifier)
    write_scores(out / SCORES_FILE, scores)
    annotated = data_set.annotations.videos
    right = accuracy(scores, {video: [action.label for action in annotated[video].actions] for video in others})
    result = {
        "classifier": str(out / CLASSIFIER_FILE),
        "scores": str(out / SCORES_FILE),
        "n_classes": len(classifier.class_names),
        "n_training_videos": len(chosen),
        "n_scored_videos": len(scores),
        "accuracy": right,
    }
    write_json(result, json_path)
    how_good = "" if right is None else f"; the class is right for {right:.1f} % of those annotated"
    console(json_path).print(
        f"{out / SCORES_FILE}: {len(scores)} videos that were not trained on{how_good}", markup=False
    )


def predict(
    classifier: Annotated[Path, typer.Argument(help="classifier.safetensors of `scores train`.")],
    data: Annotated[Path, typer.Option(help="Data set folder.")],
    out: Annotated[Path, typer.Option(help="File to write.")],
) -> None:
    """Score every video of a data set with a trained classifier."""
    from stale_edge.data import open_data_set, write_scores
    from stale_edge.training.video_classifier import read_video_classifier, score_videos

    data_set, trained = open_data_set(data), read_video_classifier(classifier)
    with progress_bar() as progress:
        scores = score_videos(trained, data_set, list(data_set.annotations.videos), progress=progress)
    write_scores(out, scores)
    console().print(f"{out}: {len(scores)} videos", markup=False)


def convert(
    array: Annotated[
        Path, typer.Argument(help="UntrimmedNet's scores: .npy, one row per video, one column per class.")
    ],
    classes: Annotated[
        Path, typer.Option(help="Class names in the order of the columns, or each after its column number.")
    ],
    out: Annotated[Path, typer.Option(help="File to write.")],
    names: Annotated[
        str, typer.Option(metavar="FORMAT", help="Pattern of the video name of a row, with the row number from 1.")
    ] = "video_test_{:07d}",
) -> None:
    """Turn UntrimmedNet's array of scores into a scores file."""
    from stale_edge.data import read_score_array, write_scores
    from stale_edge.data.scores import read_columns

    columns = read_columns(classes)
    try:
        scores = read_score_array(array, columns, video_name=names)
    except (ValueError, IndexError, KeyError) as error:
        raise typer.BadParameter(str(error), param_hint="--names") from error
    write_scores(out, scores)
    console().print(f"{out}: {len(scores)} videos, {len(columns)} classes", markup=False)
