"""The two sets of videos of the demo: captioned shots for the tiny CLIP, untrimmed videos for the detector."""

import json
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

import numpy as np

from stale_edge.data.annotations import Action, Annotations, VideoAnnotation
from stale_edge.data.folder import ANNOTATIONS_FILE, SPLITS_FOLDER
from stale_edge.demo.video.actions import SEEN, UNSEEN, Actor, captioned_actors
from stale_edge.demo.video.clip import CaptionedFrames
from stale_edge.demo.video.render import render_all
from stale_edge.demo.video.script import SHOT_S, Script, captioned_script, untrimmed_script
from stale_edge.progress import Progress, silent
from stale_edge.video import ClipPreprocess, read_frames

TRAINING_PREFIX, CLOSED_PREFIX, UNSEEN_PREFIX = "train", "seen", "unseen"
"""Prefixes of the names of untrimmed videos."""
VIDEOS_FOLDER = "videos"
CAPTIONS_FILE = "captions.json"
FRAMES_PER_SHOT = 2


class Kind(IntEnum):
    """Purpose of a video; its script is drawn from (seed, kind, number)."""

    CAPTIONED, TRAINING, CLOSED, OPEN = range(4)


class WorldSize(NamedTuple):
    """Numbers of videos: captioned ones, and untrimmed ones for training, closed-set test and open-set test."""

    captioned: int
    training: int
    closed: int
    open: int

    def scaled(self, scale: float) -> "WorldSize":
        """Multiply each number by a share; at least 2 of each kind."""
        return WorldSize(*(max(2, round(scale * n)) for n in self))


FULL_SIZE = WorldSize(captioned=72, training=160, closed=50, open=40)


def render_captioned(folder: Path, *, n_videos: int, seed: int, progress: Progress = silent) -> None:
    """Write the training videos of the tiny CLIP, and `captions.json` with the actor of each shot."""
    scripts = [captioned_script(captioned_actors(), (seed, Kind.CAPTIONED, number)) for number in range(n_videos)]
    paths = _paths(folder / VIDEOS_FOLDER, [f"shots_{number:03d}" for number in range(n_videos)])
    render_all(scripts, paths, stage="render captioned videos", progress=progress)
    shots = {
        path.stem: [{"segment": [shot.start_s, shot.end_s], **shot.actor._asdict()} for shot in script.shots]
        for path, script in zip(paths, scripts, strict=True)
    }
    (folder / CAPTIONS_FILE).write_text(json.dumps(shots, indent=1) + "\n", encoding="utf-8")


def read_captioned(folder: Path, preprocess: ClipPreprocess, *, progress: Progress = silent) -> CaptionedFrames:
    """Read the frames of the captioned videos from their files, preprocessed as in CLIP."""
    shots = json.loads((folder / CAPTIONS_FILE).read_text(encoding="utf-8"))
    rows, actors = [], []
    for done, (name, captioned) in enumerate(shots.items(), start=1):
        frames = read_frames(folder / VIDEOS_FOLDER / f"{name}.mp4", fps=FRAMES_PER_SHOT / SHOT_S)
        for time_s, picture in frames:
            shot = captioned[min(int(time_s / SHOT_S), len(captioned) - 1)]
            rows.append(preprocess(picture).astype(np.float16))
            actors.append(Actor(shot["colour"], shot["shape"], shot["manner"]))
        progress("read captioned frames", done, len(shots))
    return CaptionedFrames(np.stack(rows), tuple(actors))


def render_untrimmed(folder: Path, *, size: WorldSize, seed: int, progress: Progress = silent) -> Annotations:
    """Write the data set's videos, `annotations.json` and the splits.

    Videos for training and for the closed-set test show only seen actions, those for the open-set test only unseen
    actions. Both tests are the subset `validation`.
    """
    kinds = (
        (Kind.TRAINING, TRAINING_PREFIX, SEEN, size.training),
        (Kind.CLOSED, CLOSED_PREFIX, SEEN, size.closed),
        (Kind.OPEN, UNSEEN_PREFIX, UNSEEN, size.open),
    )
    scripts: dict[str, Script] = {}
    annotations: dict[str, VideoAnnotation] = {}
    for kind, prefix, actions, n_videos in kinds:
        for number in range(n_videos):
            script = untrimmed_script(actions, (seed, kind, number))
            name = f"{prefix}_{number:03d}"
            scripts[name] = script
            annotations[name] = VideoAnnotation(
                script.duration_s,
                "training" if kind == Kind.TRAINING else "validation",
                tuple(Action(a.actor.name, round(a.start_s, 3), round(a.end_s, 3)) for a in script.actions),
            )
    paths = _paths(folder / VIDEOS_FOLDER, list(scripts))
    render_all(list(scripts.values()), paths, stage="render untrimmed videos", progress=progress)
    (folder / SPLITS_FOLDER).mkdir()
    for split, part in (("train", SEEN), ("test", UNSEEN)):
        names = "".join(f"{actor.name}\n" for actor in part)
        (folder / SPLITS_FOLDER / f"{split}.list").write_text(names, encoding="utf-8")
    truth = Annotations(annotations)
    (folder / ANNOTATIONS_FILE).write_text(json.dumps(truth.to_layout(), indent=1) + "\n", encoding="utf-8")
    return truth


def _paths(folder: Path, names: list[str]) -> list[Path]:
    folder.mkdir(parents=True)
    return [folder / f"{name}.mp4" for name in names]
