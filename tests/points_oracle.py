"""Slow, obvious twin of the points decoder: one point, one pair at a time, lists in the order of the public program."""

import math


def sigmoid(x):
    return 1 / (1 + math.exp(-float(x)))


def candidates(class_logits, offsets, valid, level_lengths, config):
    """[(label, score, start, end), ...] before suppression, by level and falling score."""
    found, first = [], 0
    for level, length in enumerate(level_lengths):
        stride = 2**level
        pairs = []
        for i in range(length):
            if not valid[first + i]:
                continue
            for k, logit in enumerate(class_logits[first + i]):
                if sigmoid(logit) > config.pre_nms_threshold:
                    pairs.append((sigmoid(logit), i, k))
        pairs.sort(key=lambda pair: -pair[0])  # stable
        for score, i, k in pairs[: config.pre_nms_top_k]:
            to_start, to_end = (float(x) for x in offsets[first + i])
            start, end = i * stride - to_start * stride, i * stride + to_end * stride
            if end - start > config.duration_threshold:
                found.append((k, score, start, end))
        first += length
    return found


def overlap(a, b, margin):
    shared = max(0.0, min(a[3], b[3]) - max(a[2], b[2]))
    return shared / ((a[3] - a[2] + margin) + (b[3] - b[2] + margin) - shared)


def soft(rows, config):
    """The public C++ soft-NMS: a row that falls below `min_score` is replaced by the last one."""
    left, picked = [list(row) for row in rows], []
    while left:
        best = max(range(len(left)), key=lambda i: left[i][1])  # the first of equal ones
        pick = left[best]
        left[best] = left[0]
        del left[0]
        picked.append(tuple(pick))
        i = 0
        while i < len(left):
            left[i][1] *= math.exp(-(overlap(pick, left[i], 1e-6) ** 2) / config.sigma)
            if left[i][1] < config.min_score:
                left[i] = left[-1]
                del left[-1]
            else:
                i += 1
    return picked


def hard(rows, config):
    left = sorted((row for row in rows if row[1] > config.min_score), key=lambda row: -row[1])
    picked = []
    while left:
        picked.append(left[0])
        left = [row for row in left[1:] if overlap(left[0], row, 1e-6) < config.tiou_threshold]
    return picked


def suppressed(rows, config):
    """[(label, score, start, end), ...] after suppression, best first."""
    if config.soft_nms == "none":
        return sorted(rows, key=lambda row: (-row[1], row[0]))
    rule = {"gaussian": soft, "hard": hard}[config.soft_nms]
    if config.multiclass:
        groups = [[row for row in rows if row[0] == k] for k in sorted({row[0] for row in rows})]
    else:
        groups = [rows]
    kept = [row for group in groups for row in rule(group, config)[: config.max_detections]]
    if not config.multiclass and config.voting_threshold > 0:
        kept = [voted(row, rows, config.voting_threshold) for row in kept]
    return sorted(kept, key=lambda row: -row[1])[: config.max_detections]


def voted(row, rows, threshold):
    weights = [(other[1] * overlap(row, other, 0.0), other) for other in rows if overlap(row, other, 0.0) >= threshold]
    total = sum(weight for weight, _ in weights)
    start, end = (sum(weight * other[side] for weight, other in weights) / total for side in (2, 3))
    return (row[0], row[1], start, end)
