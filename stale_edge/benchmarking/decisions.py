"""Comparison of detections on validation videos between ways to run a bundle; torch-free."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stale_edge.data import DataSet, open_data_set
from stale_edge.errors import BundleError, DataError, MissingExtraError
from stale_edge.evaluation import mean_average_precision
from stale_edge.evaluation.agreement import SAME_SEGMENT, count_matched
from stale_edge.progress import Progress
from stale_edge.report.formats import to_layout
from stale_edge.runtime import PrecisionWarning, load_bundle
from stale_edge.runtime.contract import check_feature_spec
from stale_edge.segments import CONFIDENT, Detection

BASELINE = ("onnxruntime", "fp32")
"""Default runtime and precision of a bundle, the baseline: the detections of all others are compared with its."""
MAX_MAP_CHANGE = 0.3
"""Largest change of average mAP, up or down, in points."""
MIN_MATCHED = 0.98
"""Smallest share of the baseline's detections that must be found again, in [0, 1]."""
SUBSET = "validation"
RULE = (
    f"average mAP within {MAX_MAP_CHANGE:g} points of {' '.join(BASELINE)}, and at least {MIN_MATCHED:.0%} of its "
    f"detections found again: same label, tIoU >= {SAME_SEGMENT:g}; detections below {CONFIDENT:g} of their video's "
    "best score, the tail that soft-NMS leaves, are not matched"
)


@dataclass(frozen=True)
class ComparedRuntime:
    """One way to run a bundle, and the difference of its detections from the baseline's.

    average_mAP, change: percent and points; None: it could not be run.
    n_detections, matched: number of the baseline's detections to match, and of those found again.
    reason: why it was kept or refused.
    sure: whether several networks, each alone, agree; None: one network was compared.
    by_network: `kept`, `change` and `found_again` of each network.
    """

    runtime: str
    precision: str
    kept: bool
    reason: str
    average_mAP: float | None = None  # noqa: N815 - the name in published result files
    change: float | None = None
    n_detections: int = 0
    matched: int = 0
    sure: bool | None = None
    by_network: tuple[dict[str, Any], ...] = ()

    @property
    def pair(self) -> tuple[str, str]:
        """Runtime and precision."""
        return self.runtime, self.precision

    @property
    def found_again(self) -> float:
        """Share of the baseline's detections that were found again, in [0, 1]; 1 where there are none."""
        return self.matched / self.n_detections if self.n_detections else 1.0

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return dict(vars(self))


Found = tuple[dict[str, list[Detection]], float]
"""Detections by video, and their average mAP in percent."""


def compare_runtimes(
    bundle: Path, data: Path, pairs: Sequence[tuple[str, str]], *, threads: int, progress: Progress
) -> list[ComparedRuntime]:
    """Run the validation videos of a data set with every (runtime, precision), and keep those that pass `RULE`.

    Args:
        bundle: must have an ONNX detector in fp32, the baseline.
        data: data set folder with annotated validation videos; its features must fit the bundle.
        pairs: (runtime, precision) to compare; the baseline itself is always kept.
        threads: CPU threads.
        progress: called with (stage, done, total, note).

    Returns:
        One entry per pair, in their order; a pair that cannot be run is refused with the reason.

    Raises:
        BundleError: the bundle has no detector in fp32 for ONNX Runtime.
        DataError, FeatureContractError: the data set cannot be used with it.
    """
    data_set = open_data_set(data)
    try:
        videos = [video for video in data_set.videos(SUBSET) if video in data_set.features]
    except ValueError as error:
        raise DataError(f"{data}: {error}") from error
    if not any(data_set.annotations.videos[video].actions for video in videos):
        raise DataError(
            f"{data}: no {SUBSET} video has both features and annotated actions, so there is no mAP to keep"
        )
    baseline = _run(bundle, BASELINE, data_set, videos, threads=threads, progress=progress)
    if not any(baseline[0].values()):
        raise DataError(
            f"{data}: {' '.join(BASELINE)} finds nothing in its {SUBSET} videos, so nothing can be compared"
        )
    compared = []
    for pair in pairs:
        if pair == BASELINE:
            compared.append(_compare(pair, baseline, baseline))
            continue
        try:
            found = _run(bundle, pair, data_set, videos, threads=threads, progress=progress)
        except (BundleError, MissingExtraError) as error:
            compared.append(ComparedRuntime(*pair, kept=False, reason=f"cannot be run: {error}"))
            continue
        compared.append(_compare(pair, found, baseline))
    return compared


def _run(
    bundle: Path,
    pair: tuple[str, str],
    data_set: DataSet,
    videos: Sequence[str],
    *,
    threads: int,
    progress: Progress,
) -> Found:
    runtime, precision = pair
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PrecisionWarning)  # its speed will be measured
        localizer = load_bundle(bundle, runtime=runtime, precision=precision, threads=threads)
    check_feature_spec(localizer.feature_contract, data_set.feature_spec)
    found = {}
    for done, video in enumerate(videos):
        progress("compare decisions", done, len(videos), f"{runtime} {precision}")
        duration_s = data_set.annotations.videos[video].duration_s
        found[video] = localizer.detect(data_set.load(video), duration_s=duration_s)
    progress("compare decisions", len(videos), len(videos), f"{runtime} {precision}")
    result = mean_average_precision(data_set.annotations.to_layout(), to_layout(found), subset=SUBSET)
    return found, result.average_mAP


def _compare(pair: tuple[str, str], found: Found, baseline: Found) -> ComparedRuntime:
    matches = [count_matched(wanted, found[0][video], confident=CONFIDENT) for video, wanted in baseline[0].items()]
    total, matched = sum(match.total for match in matches), sum(match.matched for match in matches)
    change = found[1] - baseline[1]
    share = matched / total if total else 1.0
    problems = []
    if not abs(change) <= MAX_MAP_CHANGE:
        problems.append(f"average mAP changes by {change:+.2f} points, allowed {MAX_MAP_CHANGE:g}")
    if not share >= MIN_MATCHED:
        problems.append(f"{share:.1%} of {total} detections found again, at least {MIN_MATCHED:.0%} must be")
    kept = f"average mAP {change:+.2f} points, {share:.1%} of {total} detections found again"
    if pair == BASELINE:
        kept = "what all others are compared with"
    return ComparedRuntime(
        *pair,
        kept=not problems,
        reason="; ".join(problems) or kept,
        average_mAP=found[1],
        change=change,
        n_detections=total,
        matched=matched,
    )
