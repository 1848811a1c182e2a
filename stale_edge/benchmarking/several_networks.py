"""One decision from the comparisons of several networks, and how sure it is."""

import statistics
from collections.abc import Sequence
from dataclasses import replace

from stale_edge.benchmarking.decisions import BASELINE, MAX_MAP_CHANGE, MIN_MATCHED, ComparedRuntime

WORST = 2.0
"""How many times the distance that the mean may have from the baseline a single network may have."""
NETWORKS_RULE = (
    f"the mean over the networks decides; no network may lie more than {WORST:g} times as far away; sure where the "
    "networks, each alone, all agree"
)


def join_networks(by_network: Sequence[Sequence[ComparedRuntime]]) -> list[ComparedRuntime]:
    """Join what several networks found about the same pairs.

    Args:
        by_network: for each network one entry per pair, in the same order.

    Returns:
        One entry per pair: means over the networks, detections of all networks, and `by_network`.
    """
    return [_joined(entries) for entries in zip(*by_network, strict=True)]


def _joined(entries: Sequence[ComparedRuntime]) -> ComparedRuntime:
    first = entries[0]
    details = tuple({"kept": e.kept, "change": e.change, "found_again": e.found_again} for e in entries)
    if first.pair == BASELINE or len(entries) == 1:
        return replace(first, by_network=details)
    broken = next((entry for entry in entries if entry.change is None), None)
    if broken is not None:
        return replace(broken, by_network=details)
    changes = [entry.change or 0.0 for entry in entries]
    shares = [entry.found_again for entry in entries]
    change, share = statistics.mean(changes), statistics.mean(shares)
    worst_change, worst_share = max(changes, key=abs), min(shares)
    kept = (
        abs(change) <= MAX_MAP_CHANGE
        and share >= MIN_MATCHED
        and abs(worst_change) <= WORST * MAX_MAP_CHANGE
        and 1 - worst_share <= WORST * (1 - MIN_MATCHED) + 1e-9
    )
    agreeing = sum(entry.kept == kept for entry in entries)
    sure = "sure" if agreeing == len(entries) else "not sure"
    return replace(
        first,
        kept=kept,
        sure=agreeing == len(entries),
        reason=(
            f"average mAP {change:+.2f} points (worst {worst_change:+.2f}), {share:.1%} of detections found again "
            f"(worst {worst_share:.1%}); {sure}: {agreeing} of {len(entries)} networks alone say so"
        ),
        average_mAP=statistics.mean(entry.average_mAP or 0.0 for entry in entries),
        change=change,
        n_detections=sum(entry.n_detections for entry in entries),
        matched=sum(entry.matched for entry in entries),
        by_network=details,
    )
