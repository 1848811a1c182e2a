"""Turn scripts into mp4 files, several at a time."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import cast

import av
import numpy as np
from numpy.typing import NDArray

from stale_edge.demo.video.drawing import draw
from stale_edge.demo.video.scenes import Scene
from stale_edge.demo.video.script import FPS, Script
from stale_edge.machine import allowed_cpus
from stale_edge.progress import Progress, silent

SIDE = 128
"""Width and height of a frame, in pixels."""
CODEC = "libx264"
QUALITY = {"crf": "18", "preset": "veryfast", "threads": "1"}
VIDEOS_WORTH_A_PROCESS = 4
"""Number of videos that take as long to render as a process takes to start."""


def frames(script: Script, *, side: int = SIDE) -> Iterator[NDArray[np.uint8]]:
    """Draw a video frame by frame: (side, side, 3) uint8 RGB, `FPS` frames per second."""
    scene, shown = None, -1
    for number in range(round(script.duration_s * FPS)):
        time_s = number / FPS
        cut = sum(start <= time_s for start in script.cuts) - 1
        if scene is None or cut != shown:
            scene, shown = Scene(np.random.default_rng([*script.seed, cut]), side), cut
        image = scene.frame(time_s)
        for appearance in script.appearances:
            if appearance.start_s <= time_s < appearance.end_s:
                draw(image, appearance.actor, appearance.place, time_s - appearance.start_s)
        yield (image * 255 + 0.5).astype(np.uint8)


def render(script: Script, path: Path, *, side: int = SIDE) -> None:
    """Write a video as an H.264 mp4 file; the same script gives the same frames."""
    with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
        stream = cast(av.VideoStream, container.add_stream(CODEC, rate=FPS, options=QUALITY))
        stream.width = stream.height = side
        stream.pix_fmt = "yuv420p"
        stream.gop_size = 4 * FPS
        for image in frames(script, side=side):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))


def render_all(scripts: Sequence[Script], paths: Sequence[Path], *, stage: str, progress: Progress = silent) -> None:
    """Write many videos, with one process for each core that this process may use.

    Args:
        scripts: one script per file.
        paths: output files; their folders must exist.
        stage: name for `progress`.
        progress: called with (stage, done, total).
    """
    progress(stage, 0, len(scripts))
    workers = min(len(allowed_cpus()), len(scripts) // VIDEOS_WORTH_A_PROCESS)
    if workers <= 1:
        for done, (script, path) in enumerate(zip(scripts, paths, strict=True), start=1):
            render(script, path)
            progress(stage, done, len(scripts))
        return
    # Spawned: a fork of a process whose libraries run threads may hang.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        jobs = [pool.submit(render, script, path) for script, path in zip(scripts, paths, strict=True)]
        for done, job in enumerate(as_completed(jobs), start=1):
            job.result()
            progress(stage, done, len(scripts))
