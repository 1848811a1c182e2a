"""Parts of the training videos, as the thesis takes them (section 3.3), in files that `train --videos` reads."""

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from stale_edge.bundle.files import write_file_atomically
from stale_edge.data import Annotations


def sample_videos(
    annotations: Annotations,
    videos: Sequence[str],
    fraction: float,
    *,
    seed: int | Sequence[int],
    classes: Collection[str] | None = None,
) -> tuple[str, ...]:
    """Draw a part of the videos, uniformly without replacement, so that every class is represented.

    The first videos of a random order are taken; for each class that they lack, the next video that shows it is
    added. So a small part can be larger than asked for: in the thesis half of the data is 50.2 and 50.5 %.

    Args:
        annotations: annotations of the videos.
        videos: names to draw from.
        fraction: part of them, in (0, 1]; 1 gives all.
        seed: equal seeds give the same part.
        classes: those that must be represented as far as `videos` show them; None: all.

    Returns:
        Names in the order of `videos`.

    Raises:
        ValueError: the fraction is out of range.
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"fraction must be in (0, 1]; got {fraction!r}")
    shown = {
        video: {a.label for a in annotations.videos[video].actions if classes is None or a.label in classes}
        for video in videos
    }
    order = [videos[i] for i in np.random.default_rng(seed).permutation(len(videos))]
    n_drawn = max(1, round(fraction * len(videos)))
    chosen = set(order[:n_drawn])
    covered = {label for video in chosen for label in shown[video]}
    for video in order[n_drawn:]:
        if not shown[video] <= covered:
            chosen.add(video)
            covered |= shown[video]
    return tuple(video for video in videos if video in chosen)


def write_names(path: Path, names: Sequence[str]) -> Path:
    """Write names of videos or classes, one a line, as training reads them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_file_atomically(path, "".join(f"{name}\n" for name in names).encode())
    return path
