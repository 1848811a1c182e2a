"""All possible results of the public inference script for one video: its order of equal scores is random."""

import math

import oracle


def release_outcomes(class_logits, masks):
    """List all of them, each [(class, score, start, end), ...] with times in [0, 1], best first."""
    rows = [[p[2] * p[3], p[2] * p[3], p[0], p[1]] for p in oracle.release_proposals(class_logits, masks)]
    label = oracle.release_proposals(class_logits, masks)[0][4]
    found = []
    _pick(rows, [], found)
    return [[(label, *pick) for pick in sorted(picks, key=lambda pick: -pick[0])] for picks in found]


def _pick(left, picked, found):
    """Continue with the remaining rows [score, first score, start, end]; equal rows are one choice."""
    best = max(left, key=lambda row: row[:2])  # the script sorts by the first score, so that decides between equal ones
    if len(left) < 2 or len(picked) == 100 or best[0] <= 0:
        found.append(picked)
        return
    tied = {(row[2], row[3]): row for row in left if row[:2] == best[:2]}
    for choice in tied.values():
        others = []
        for row in left:
            if row is choice:
                continue
            overlap = oracle.release_overlap(choice[2], choice[3], row[2], row[3])
            decay = math.exp(-10 * overlap**2) / 0.6 if overlap > 0 else 1.0
            others.append([row[0] * decay, *row[1:]])
        _pick(others, [*picked, (choice[0], choice[2], choice[3])], found)


def matching(outcomes, detections):
    """Count the results that equal these detections within 1e-6."""
    return [
        number
        for number, outcome in enumerate(outcomes)
        if len(outcome) == len(detections)
        and all(
            ours[0] == theirs[0] and all(abs(a - b) <= 1e-6 for a, b in zip(ours[1:], theirs[1:], strict=True))
            for ours, theirs in zip(outcome, detections, strict=True)
        )
    ]
