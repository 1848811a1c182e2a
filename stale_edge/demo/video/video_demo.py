"""Run every stage from rendered videos to detections of actions that were not in the training, by public functions."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from stale_edge.config import Config, TextConfig
from stale_edge.data import DataSet, open_data_set
from stale_edge.data.folder import SPLITS_FOLDER
from stale_edge.demo.feature_world import (
    VIDEO_DEMO_ARCHITECTURES,
    check_demo_architecture,
    detector_name,
    light_config,
    linear_config,
)
from stale_edge.demo.stages import lower_rungs, make_room, rung_of, timed
from stale_edge.demo.video.actions import SEEN, UNSEEN
from stale_edge.demo.video.clip import DIM, PREPROCESSING, train_clip
from stale_edge.demo.video.script import FPS
from stale_edge.demo.video.video_outcome import VideoOutcome, evaluate_set, evaluate_together
from stale_edge.demo.video.video_report import write_video_report
from stale_edge.demo.video.video_world import (
    CLOSED_PREFIX,
    FULL_SIZE,
    UNSEEN_PREFIX,
    VIDEOS_FOLDER,
    read_captioned,
    render_captioned,
    render_untrimmed,
)
from stale_edge.errors import DataError
from stale_edge.exporting import export_checkpoint
from stale_edge.exporting.encoder import export_encoder
from stale_edge.jobs.extraction import FeatureJob, extract_all
from stale_edge.machine import allowed_cpus
from stale_edge.model.class_embeddings import class_bank
from stale_edge.model.text import TextEncoder
from stale_edge.progress import Progress, silent
from stale_edge.runtime.detect import detect_files
from stale_edge.runtime.detect_settings import OutputSettings
from stale_edge.runtime.timings import StageTimings
from stale_edge.training import evaluate_checkpoint, train
from stale_edge.training.small_config import SMALL_TRAINING, small_model
from stale_edge.video import ClipPreprocess

STRIDE = 4
"""Frames per snippet: two snippets per second."""
CLIP_EPOCHS = 6
EPOCHS = 16
N_SNIPPETS = 100
"""T, to which every video is resampled."""
DROPOUT = 0.3
BATCH = 16
"""Number of pictures encoded at once."""
RESULT_FILE = "demo.json"
REPORT_FILE = "report.html"
N_SHOWN = 4
"""Number of videos for which a page and subtitles are written."""


def run_video_demo(
    out: Path,
    *,
    architecture: str = "stale",
    seed: int = 0,
    scale: float = 1.0,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Render videos, train a tiny CLIP, train a detector on some actions, and find other actions in new videos.

    Everything stays in `out`: `captioned/` and `clip/` (the tiny CLIP and its training data), `encoder/`, `data/` (a
    data set folder with `videos/`), `run/`, `bundle/` (the encoder inside), `detections/`, `demo.json`, `report.html`.

    Args:
        out: folder; must be empty, not exist, or hold an earlier demo, which is replaced.
        architecture: one of `feature_world.VIDEO_DEMO_ARCHITECTURES`.
        seed: seed of the videos and of both trainings, >= 0.
        scale: share of the videos, in (0, 1].
        progress: called during the stages.

    Returns:
        JSON values, schema `stale-edge-demo-video/1`.

    Raises:
        ValueError: the demo does not train this architecture.
        DataError: `out` holds files that are not a demo.
        ParityError: an exported file failed the parity check; earlier results stay in `out`.
    """
    check_demo_architecture(architecture, VIDEO_DEMO_ARCHITECTURES)
    out = Path(out)
    make_room(out)
    seconds: dict[str, float] = {}
    names = [actor.name for actor in (*SEEN, *UNSEEN)]
    size = FULL_SIZE.scaled(scale)
    captioned, clip, encoder, data, run, bundle = (
        out / name for name in ("captioned", "clip", "encoder", "data", "run", "bundle")
    )
    with timed(seconds, "render videos"):
        render_captioned(captioned, n_videos=size.captioned, seed=seed, progress=progress)
        render_untrimmed(data, size=size, seed=seed, progress=progress)
    with timed(seconds, "train the tiny CLIP"):
        frames = read_captioned(captioned, ClipPreprocess.from_transformers(PREPROCESSING), progress=progress)
        trained_clip = train_clip(frames, clip, epochs=CLIP_EPOCHS, seed=seed, progress=progress)
        del frames
    with timed(seconds, "export the encoder"):
        bank = class_bank(TextEncoder.load(clip), names)
        pictures = data / VIDEOS_FOLDER / "train_000.mp4"
        exported_encoder = export_encoder(clip, encoder, bank=bank, video=pictures, progress=progress)
    with timed(seconds, "extract features"):
        job = FeatureJob(encoder, data, float(FPS), STRIDE, batch=BATCH, threads=len(allowed_cpus()))
        extracted = extract_all([data / VIDEOS_FOLDER], job, progress=progress)
        if extracted.errors:
            raise DataError("; ".join(extracted.errors.values()))
        data_set = open_data_set(data)
    stale = training_config(data, clip, seed=seed)
    with timed(seconds, "train the detector"):
        config = stale if architecture == "stale" else light_config(stale, len(data_set.videos("training")))
        trained = train(config, data, run, progress=progress)
    with timed(seconds, "evaluate"):
        closed, unseen = (
            evaluate_set(
                evaluate_checkpoint(trained.best, data, split=data / SPLITS_FOLDER / split, progress=progress),
                data_set,
                classes=data_set.split(split),
                seed=seed,
            )
            for split in ("train.list", "test.list")
        )
    with timed(seconds, "train and evaluate the linear probe"):
        lower = lower_rungs(linear_config(stale), data_set, out / "linear", progress=progress)
    with timed(seconds, "export and check"):
        exported = export_checkpoint(trained.best, bundle, classes=names, data=data, encoder=encoder, progress=progress)
    with timed(seconds, "detect"):
        shown = _shown(data_set, UNSEEN_PREFIX) + _shown(data_set, CLOSED_PREFIX)
        detected, timings = _detect(out / "detections", bundle, data_set, shown, progress)
    outcome = VideoOutcome(
        out=out,
        seed=seed,
        data_set=data_set,
        clip=trained_clip,
        encoder=exported_encoder,
        trained=trained,
        closed=closed,
        unseen=unseen,
        ladder=(*lower, rung_of(detector_name(architecture), closed.report, unseen.report)),
        exported=exported,
        detected=detected,
        together=evaluate_together(detected, data_set),
        timings=timings,
        shown=shown,
        seconds=seconds,
    )
    with timed(seconds, "report"):
        write_video_report(outcome, out / REPORT_FILE)
    result = outcome.to_json()
    (out / RESULT_FILE).write_text(json.dumps(result, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    return result


def _shown(data_set: DataSet, prefix: str) -> tuple[str, ...]:
    """Choose the videos with the most different actions, then the most actions; ties by name, not by detections."""
    annotations = data_set.annotations.videos

    def interest(video: str) -> tuple[int, int, str]:
        actions = annotations[video].actions
        return -len({action.label for action in actions}), -len(actions), video

    videos = [video for video in data_set.videos("validation") if video.startswith(prefix)]
    return tuple(sorted(videos, key=interest)[: N_SHOWN // 2])


def _detect(
    out: Path, bundle: Path, data_set: DataSet, shown: tuple[str, ...], progress: Progress
) -> tuple[dict[str, Any], StageTimings]:
    """Detect in the mp4 files of all test videos and write one JSON; for a few, also write a page and subtitles.

    Returns:
        The detections in ActivityNet's layout, and the seconds of each stage.
    """
    videos = data_set.root / VIDEOS_FOLDER
    everything = [videos / f"{video}.mp4" for video in data_set.videos("validation")]
    out.mkdir()
    run = detect_files(bundle, everything, progress=progress)
    if run.errors:
        raise DataError("; ".join(run.errors))
    (out / "detections.json").write_text(run.text, encoding="utf-8")
    for video in shown:
        for form in ("html", "srt"):
            text = detect_files(bundle, [videos / f"{video}.mp4"], output=OutputSettings(form)).text
            (out / f"{video}.{form}").write_text(text, encoding="utf-8")
    return json.loads(run.text), run.total


def training_config(data: Path, clip: Path, *, seed: int) -> Config:
    """Choose STALE's settings of model and training: small enough for a minute on two cores.

    Args:
        data: data set folder; training uses its `splits/train.list`.
        clip: folder of the tiny CLIP, whose text tower embeds the class names.
        seed: seed of weights and order.
    """
    return Config(
        # Class names alone, as in the captions: contexts would be learned on the training classes only.
        model=dataclasses.replace(small_model(DIM, DIM, TextConfig(source=str(clip), n_contexts=0)), dropout=DROPOUT),
        train=dataclasses.replace(
            SMALL_TRAINING,
            epochs=EPOCHS,
            n_snippets=N_SNIPPETS,
            validate_every=EPOCHS,  # once, at the end: test videos choose nothing
            seed=seed,
            device="cpu",
        ),
        classes=str(data / SPLITS_FOLDER / "train.list"),
    )
