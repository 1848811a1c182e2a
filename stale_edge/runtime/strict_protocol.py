"""Run the strict zero-shot protocol with any detector that takes names."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from stale_edge.bundle import ClassBank
from stale_edge.data import DataSet
from stale_edge.errors import ClassBankError, DataError, StaleEdgeError
from stale_edge.evaluation.zero_shot import ABSENT, NONSENSE, Asked, StrictReport, strict_report
from stale_edge.progress import Progress, silent
from stale_edge.report.formats import to_layout
from stale_edge.runtime.base import BaseLocalizer
from stale_edge.runtime.evaluate import EvaluationSettings, evaluated_videos
from stale_edge.segments import Detection

Encode = Callable[[Sequence[str]], ClassBank]


def evaluate_strictly(
    localizer: BaseLocalizer,
    data_set: DataSet,
    *,
    seen: Sequence[str],
    encode: Encode,
    settings: EvaluationSettings | None = None,
    progress: Progress = silent,
) -> StrictReport:
    """Ask for all names at once: seen and unseen classes, absent actions; then with nonsense too.

    Args:
        localizer: its class bank must be open.
        data_set: annotations and features.
        seen: classes that were trained on; all other annotated classes count as unseen.
        encode: embeds names in the space of the localizer's bank; a name that it cannot embed is left out, and the
            report says so.
        settings: subset, thresholds, windows; scores are not allowed.
        progress: called with (stage, done, total).

    Raises:
        ValueError: there are external scores.
        ClassBankError: the vocabulary is closed.
        DataError: as in `evaluate_localizer`.
    """
    settings = EvaluationSettings() if settings is None else settings
    if settings.scores is not None:
        raise ValueError("the strict protocol takes no external scores; leave them out")
    if localizer.class_bank.space == "rows":
        raise ClassBankError(
            "the strict protocol asks for names that were not trained on, and this vocabulary is closed (space rows); "
            "use --protocol standard"
        )
    annotated = data_set.annotations
    videos = evaluated_videos(data_set, settings.subset, None)
    shown = {action.label for video in videos for action in annotated.videos[video].actions}
    every = set(annotated.classes) | set(seen)
    asked = Asked(
        seen=tuple(sorted(set(seen))),
        unseen=tuple(sorted(shown - set(seen))),
        absent=tuple(name for name in ABSENT if name not in every),
        nonsense=tuple(name for name in NONSENSE if name not in every),
    )
    bank, missing = _embedded([name for names in asked for name in names], localizer.class_bank, encode)
    notes = (
        [f"{len(missing)} names could not be embedded and were not asked for: {', '.join(missing)}"] if missing else []
    )
    asked = Asked(
        asked.seen,
        asked.unseen,
        *(tuple(n for n in names if n not in missing) for names in (asked.absent, asked.nonsense)),
    )
    mixed_bank = bank.select([name for name in bank.names if name not in asked.nonsense])
    mixed: dict[str, list[Detection]] = {}
    with_nonsense: dict[str, list[Detection]] = {}
    seconds = 0.0
    for done, video in enumerate(videos, start=1):
        if video in data_set.features:
            duration_s = annotated.videos[video].duration_s
            features = data_set.load(video)
            options: dict[str, Any] = {"duration_s": duration_s, **settings.windows}
            mixed[video] = localizer.detect(features, class_bank=mixed_bank, **options)
            with_nonsense[video] = localizer.detect(features, class_bank=bank, **options)
            seconds += duration_s
        progress("evaluate", done, len(videos))
    if not mixed:
        raise DataError(f"{data_set.root}: none of the {len(videos)} videos of subset {settings.subset!r} has features")
    if len(mixed) < len(videos):
        notes.append(f"{len(videos) - len(mixed)} videos without features, counted as missed")
    report = strict_report(
        annotated.to_layout(),
        to_layout(mixed),
        to_layout(with_nonsense),
        asked=asked,
        hours=seconds / 3600,
        subset=settings.subset,
        tiou_thresholds=settings.tiou_thresholds,
    )
    return replace(report, notes=tuple(notes))


def _embedded(names: Sequence[str], own: ClassBank, encode: Encode) -> tuple[ClassBank, list[str]]:
    """Embed names that the bank lacks, one by one, as one that cannot be read must not stop the others."""
    bank, missing = own.select([name for name in names if name in own.names]), []
    for name in names:
        if name in bank.names:
            continue
        try:
            bank = bank.merge(encode([name]))
        except (StaleEdgeError, ValueError):
            missing.append(name)
    return bank, missing
