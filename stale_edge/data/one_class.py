"""Annotations for a detector that finds actions without naming them."""

from collections.abc import Sequence
from dataclasses import replace

from stale_edge.data.annotations import Annotations
from stale_edge.errors import DataError

ONE_CLASS = "action"
"""The class of every action, for a detector that does not name them."""


def as_one_class(annotations: Annotations, classes: Sequence[str]) -> Annotations:
    """Call every action of some classes `action`; others keep their names.

    Raises:
        DataError: one of the others is called `action`.
    """
    chosen = set(classes)
    if ONE_CLASS in set(annotations.classes) - chosen:
        raise DataError(f"{ONE_CLASS!r} stands for all classes here, and is the name of another one; rename that class")
    videos = {}
    for name, video in annotations.videos.items():
        actions = (a._replace(label=ONE_CLASS) if a.label in chosen else a for a in video.actions)
        videos[name] = replace(video, actions=tuple(actions))
    return Annotations(videos)
