"""Label assignment, section 3.3 of the STALE paper: what every snippet of a video should predict.

Snippet t of T stands for the span [t / T, (t + 1) / T) of the video, as in decoding.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

IGNORED = -100
"""Label of snippets that no loss counts; the value that `torch.nn.functional.cross_entropy` skips by default."""


class LabelledSpan(Protocol):
    """The fields of an action that label assignment needs; `data.annotations.Action` has it."""

    @property
    def label(self) -> str: ...
    @property
    def start_s(self) -> float: ...
    @property
    def end_s(self) -> float: ...


class VideoTargets(NamedTuple):
    """The targets of one video, compact.

    labels: (T,) int64, the class of each snippet in 0..K-1, K for background, `IGNORED` for actions of other classes.
    mask_start, mask_stop: (T,) int64, the snippets [start, stop) of the action a snippet belongs to; 0, 0 if to none.
    """

    labels: Tensor
    mask_start: Tensor
    mask_stop: Tensor


class BatchTargets(NamedTuple):
    """The targets of a batch, as the losses read them.

    labels: (B, T) int64 as in `VideoTargets`.
    masks: (B, T, T) float32 of 0 and 1, row i the video-length mask of the action of snippet i, all 0 for background.
    """

    labels: Tensor
    masks: Tensor

    def foreground(self, n_classes: int) -> Tensor:
        """Give the class-agnostic foreground (B, T) float32; 0 also where snippets are ignored."""
        return ((self.labels >= 0) & (self.labels < n_classes)).to(torch.float32)

    def to(self, device: torch.device) -> "BatchTargets":
        """Move both tensors to a device."""
        return BatchTargets(self.labels.to(device), self.masks.to(device))


def snippet_span(start_s: float, end_s: float, *, duration_s: float, n_snippets: int) -> tuple[int, int]:
    """Turn a segment in seconds into the snippets [start, stop) whose middle lies in it.

    A segment that holds no snippet's middle gets the one snippet nearest to its own middle, so stop > start always.

    Args:
        start_s, end_s: the segment; the part outside the video is cut off.
        duration_s: length of the video, > 0.
        n_snippets: T, >= 1.

    Raises:
        ValueError: the segment is reversed, not finite, or lies wholly outside the video.
    """
    if not (math.isfinite(start_s) and math.isfinite(end_s) and start_s <= end_s):
        raise ValueError(f"a segment must be finite and end where it starts or later; got [{start_s}, {end_s}) s")
    if is_outside(start_s, end_s, duration_s=duration_s):
        raise ValueError(f"segment [{start_s}, {end_s}) s lies outside the video, which lasts {duration_s} s")
    snippets_per_second = n_snippets / duration_s
    start = max(math.ceil(start_s * snippets_per_second - 0.5), 0)
    stop = min(math.ceil(end_s * snippets_per_second - 0.5), n_snippets)
    if stop > start:
        return start, stop
    middle = (max(start_s, 0.0) + min(end_s, duration_s)) / 2
    nearest = min(int(middle * snippets_per_second), n_snippets - 1)
    return nearest, nearest + 1


def is_outside(start_s: float, end_s: float, *, duration_s: float) -> bool:
    """Say whether a segment lies wholly outside the video; THUMOS14 as published has some dozen such actions."""
    return end_s < 0 or start_s >= duration_s


def assign_targets(
    actions: Sequence[LabelledSpan], *, vocabulary: Sequence[str], duration_s: float, n_snippets: int
) -> VideoTargets:
    """Label every snippet of a video with a class, or as background, and with the mask of its action (section 3.3).

    Where actions overlap, a snippet belongs to the shorter one, so that none is hidden; an action's mask always spans
    the whole action. Actions of classes outside the vocabulary (the unseen classes of an open-set split) are not
    background: every loss ignores their snippets, so that unseen actions are not trained as background.
    Actions that lie outside the video (`is_outside`) have no snippet and are left out.

    Args:
        actions: of one video, in seconds.
        vocabulary: K class names; a snippet's label is its class' place here.
        duration_s: length of the video, > 0.
        n_snippets: T, >= 1.

    Raises:
        ValueError: a segment is reversed or not finite.
    """
    rows = {name: row for row, name in enumerate(vocabulary)}
    labels = torch.full((n_snippets,), len(vocabulary), dtype=torch.int64)
    mask_start = torch.zeros(n_snippets, dtype=torch.int64)
    mask_stop = torch.zeros(n_snippets, dtype=torch.int64)
    longest_first = sorted(actions, key=lambda action: (action.start_s - action.end_s, action.start_s, action.label))
    for action in longest_first:
        if is_outside(action.start_s, action.end_s, duration_s=duration_s):
            continue
        start, stop = snippet_span(action.start_s, action.end_s, duration_s=duration_s, n_snippets=n_snippets)
        row = rows.get(action.label)
        labels[start:stop] = IGNORED if row is None else row
        mask_start[start:stop] = 0 if row is None else start
        mask_stop[start:stop] = 0 if row is None else stop
    return VideoTargets(labels, mask_start, mask_stop)


def stack_targets(targets: Sequence[VideoTargets]) -> BatchTargets:
    """Put the targets of B videos of equal T into one batch and write out the (T, T) masks."""
    labels = torch.stack([target.labels for target in targets])
    start = torch.stack([target.mask_start for target in targets])[:, :, None]  # (B, T, 1)
    stop = torch.stack([target.mask_stop for target in targets])[:, :, None]
    locations = torch.arange(labels.shape[1])[None, None, :]  # (1, 1, T)
    return BatchTargets(labels, ((locations >= start) & (locations < stop)).to(torch.float32))
