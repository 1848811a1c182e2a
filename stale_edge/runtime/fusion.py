"""Score fusion: a detector finds actions without naming them, and a classifier of whole videos names them."""

from collections.abc import Collection, Mapping, Sequence

from stale_edge.decoding import fused_with_video_scores
from stale_edge.errors import DataError
from stale_edge.segments import Detection, find_video


class Fusion:
    """The scores of all videos, checked once.

    Args:
        scores: {video: {class: score >= 0}}.
        names: classes that the detector names; fusion replaces labels, so there may be only one.
        known: classes that may be scored; None: any, but every video must have the same ones.

    Raises:
        DataError: the detector names several classes, or the scores name a class that is not known.
    """

    def __init__(
        self, scores: Mapping[str, Mapping[str, float]], *, names: Sequence[str], known: Collection[str] | None = None
    ) -> None:
        if len(names) != 1:
            raise DataError(
                f"score fusion replaces the labels of a detector, which must have one class; this one names "
                f"{len(names)}: train with model.n_classes=1, or leave the scores out"
            )
        allowed = set(next(iter(scores.values()), {}) if known is None else known)
        for video, entry in scores.items():
            unknown = sorted(set(entry) - allowed)
            if unknown or (known is None and len(entry) < len(allowed)):
                what = (
                    f"scores of unknown classes: {', '.join(unknown[:5])}" if unknown else "scores of too few classes"
                )
                expected = "the classes of the first video" if known is None else "classes of the annotations"
                raise DataError(f"video {video!r} has {what}; expected {expected}: mend the file of scores")
        self._scores = scores

    def __call__(self, video: str, detections: Sequence[Detection]) -> list[Detection]:
        """Name the detections of a video, as `fused_with_video_scores` does.

        Raises:
            DataError: there are no scores of this video.
        """
        name = find_video(video, self._scores)
        if name is None:
            raise DataError(f"there are no class scores of video {video!r}; add it to the file of scores")
        scores = self._scores[name]
        return fused_with_video_scores(detections, list(scores.values()), class_names=list(scores))
