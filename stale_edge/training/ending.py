"""What a run says at its end: notes about its result, and warnings if it ended too early."""

import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from stale_edge.training.validation import Validation

CLIMBED_POINTS = 1.0
"""The mean mAP of the last part of a run is this much above that of the part before: it is still climbing."""
PART = 5
"""A part is one of this many equal parts of the run."""


def ending_notes(records: Sequence[Mapping[str, Any]], validation: Validation, *, banked: bool) -> tuple[str, ...]:
    """Say how far the result of a run can be relied on.

    Args:
        records: one per epoch, as in `metrics.jsonl`.
        validation: how `best` was chosen.
        banked: whether the class embeddings were read from `class_bank.npz`, without a text encoder.
    """
    notes, train = [], validation.config.train
    n_skipped = sum(record.get("skipped_steps", 0) for record in records)
    if n_skipped:
        notes.append(
            f"{n_skipped} steps were skipped, since their gradients overflowed in fp16; some at the start are "
            "usual, many mean: use train.precision=bf16 or fp32"
        )
    if validation.plan.validation_subset is None:
        notes.append("nothing was validated on, so `best` is `last`")
    elif not train.validate_every:
        notes.append("train.validate_every is 0, so `best` is `last`")
    elif not validation.possible:
        notes.append("masking 'ground-truth' cannot be validated: a deployed detector has no ground truth")
    elif train.epochs > train.validate_every:  # more than one epoch to choose from
        notes.append(
            f"the epoch of `best` was chosen on subset {validation.plan.validation_subset!r}: mAP there is no result; "
            "evaluate `last`, or other videos"
        )
    if banked:
        notes.append("no text encoder: class embeddings are those of class_bank.npz, and no context was learned")
    return tuple(notes)


def ending_warnings(records: Sequence[Mapping[str, Any]], *, run: Path, data: Path, lengthens: bool) -> tuple[str, ...]:
    """Say if a run ended below its baseline, or while it was still getting better.

    Args:
        records: one per epoch, as in `metrics.jsonl`.
        run, data: folders of the run and of the data set, for the command.
        lengthens: whether the run can be continued with more epochs; with a cosine it must start anew.
    """
    found = _below_baseline(records) or _climbing(records)
    if not found:
        return ()
    out = run if lengthens else run.with_name(f"{run.name}-longer")
    parts = ["stale-edge", "train", str(run), "--data", str(data), "--out", str(out)]
    parts += ["--set", f"train.epochs={2 * len(records)}", *(["--resume"] if lengthens else [])]
    return (f"{found}; train longer: {shlex.join(parts)}",)


def _below_baseline(records: Sequence[Mapping[str, Any]]) -> str:
    """Compare the last validation with the baseline; empty: it is not below, or nothing was validated."""
    last = next((record for record in reversed(records) if record.get("average_mAP") is not None), None)
    baseline = None if last is None else last.get("baseline_average_mAP")
    if last is None or baseline is None or last["average_mAP"] >= baseline:
        return ""
    return (
        f"the run ended with an average mAP of {last['average_mAP']:.2f} %, below the baseline without training "
        f"({baseline:.2f} %)"
    )


def _climbing(records: Sequence[Mapping[str, Any]]) -> str:
    """Say whether mAP still got better in the last part of a run; empty: it did not, or was validated once at most.

    A loss that still falls says nothing: it also does while a detector overfits.
    """
    values = [record["average_mAP"] for record in records if record.get("average_mAP") is not None]
    if len(values) > 1:
        before, after = _parts(values)
        if after - before > CLIMBED_POINTS:
            return f"average mAP was still climbing when the run ended (from {before:.2f} to {after:.2f} %)"
    return ""


def _parts(values: Sequence[float]) -> tuple[float, float]:
    """Give the means of the last part of a series and of the part before it."""
    size = math.ceil(len(values) / PART)
    if 2 * size > len(values):
        size = len(values) // 2
    return mean(values[-2 * size : -size]), mean(values[-size:])
