"""Draw an error analysis: kinds of detections, gains, sensitivity, missed actions."""

import io
from typing import Any

from stale_edge.report.canvas import new_figure

_COLORS = ("#2b8a3e", "#a9d18e", "#7b3294", "#f1a340", "#c2a5cf", "#9aa0a6")


def diagnosis_figure(diagnosis: Any) -> bytes:
    """Draw four panels.

    Args:
        diagnosis: a `stale_edge.evaluation.diagnosis.Diagnosis`.

    Returns:
        A PNG.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    figure = new_figure(12.0, 8.0)
    (profile, gain), (sensitivity, missed) = figure.subplots(2, 2)
    steps = [f"{step}G" for step in range(1, len(diagnosis.profile) + 1)]
    kinds = list(diagnosis.profile[0]) if diagnosis.profile else []
    bottom = [0.0] * len(steps)
    for kind, color in zip(kinds, _COLORS, strict=True):
        shares = [step[kind] for step in diagnosis.profile]
        profile.bar(steps, shares, bottom=bottom, color=color, width=0.85, label=kind)
        bottom = [low + share for low, share in zip(bottom, shares, strict=True)]
    profile.set(title="Kinds of detections, best first", ylabel="% of detections", ylim=(0, 100))
    profile.set_xlabel("detections for each of the G actions of a class")
    profile.legend(loc="upper left", bbox_to_anchor=(1.01, 1), frameon=False, reverse=True)

    names = list(diagnosis.gain)
    bars = gain.bar(names, [diagnosis.gain[name] for name in names], color=_COLORS[1:], width=0.75)
    gain.bar_label(bars, fmt="%.1f", padding=2)
    gain.set(title="Gain without the errors of a kind", ylabel="points of average mAP$_N$")
    gain.set_ylim(0, max(1.0, 1.15 * max(diagnosis.gain.values())))
    gain.tick_params(axis="x", rotation=20)

    groups = [group for group in diagnosis.groups if group.n_actions]
    labels = [f"{group.characteristic} {group.name}\n{group.n_actions}" for group in groups]
    shown = list(dict.fromkeys(group.characteristic for group in groups))
    colors = [f"C{shown.index(group.characteristic)}" for group in groups]
    found, lost = [group.average_mAP for group in groups], [group.missed for group in groups]
    for axes, values, line, title, unit in (
        (sensitivity, found, diagnosis.average_mAP, "Sensitivity", "average mAP$_N$, %"),
        (missed, lost, diagnosis.missed, "Missed actions", "% of actions"),
    ):
        drawn = axes.bar(range(len(groups)), values, color=colors, width=0.75)
        axes.bar_label(drawn, fmt="%.0f", padding=2)
        axes.axhline(line, color="#333333", linestyle="--", linewidth=1, label=f"all actions: {line:.1f}")
        axes.set_xticks(range(len(groups)), labels, rotation=90, fontsize=8)
        axes.set(title=title, ylabel=unit, ylim=(0, max(5.0, 1.2 * max([line, *values]))))
        axes.legend(frameon=False, loc="upper right")
    for axes in (profile, gain, sensitivity, missed):
        axes.spines[["top", "right"]].set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
