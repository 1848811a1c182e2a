"""Slow, obvious twins of the fast paths: loops over single numbers, written to be read, not to be quick."""

import math

import numpy as np

# --- training: label assignment of section 3.3 and losses eq. 9 to 12, one snippet at a time ------------------------


def training_targets(actions, *, vocabulary, duration_s, n_snippets):
    """Label snippet by snippet; returns labels and the (T, T) masks. `actions` are (label, start_s, end_s)."""
    labels = [len(vocabulary)] * n_snippets
    masks = [[0.0] * n_snippets for _ in range(n_snippets)]
    owner_length = [math.inf] * n_snippets
    for label, start_s, end_s in sorted(actions, key=lambda a: (a[1], a[0])):
        middles = [(t + 0.5) / n_snippets * duration_s for t in range(n_snippets)]
        covered = [t for t in range(n_snippets) if start_s <= middles[t] < end_s]
        if not covered:
            centre = (max(start_s, 0.0) + min(end_s, duration_s)) / 2
            covered = [min(range(n_snippets), key=lambda t: abs(middles[t] - centre))]
        for t in covered:
            if end_s - start_s > owner_length[t]:
                continue
            owner_length[t] = end_s - start_s
            known = label in vocabulary
            labels[t] = vocabulary.index(label) if known else -100
            masks[t] = [float(known and other in covered) for other in range(n_snippets)]
    return labels, masks


def classification_loss(class_logits, labels):
    """Eq. 9 for one video: (K+1, T) logits, T labels."""
    losses = []
    for t, label in enumerate(labels):
        if label == -100:
            continue
        column = [float(value) for value in class_logits[:, t]]
        losses.append(math.log(sum(math.exp(value) for value in column)) - column[label])
    return sum(losses) / len(losses) if losses else 0.0


def mask_loss(masks, targets, labels, *, dice_weight):
    """Eq. 10 for one video: (T, T) masks and targets; action rows and empty rows averaged apart, then added."""
    action_rows, empty_rows = [], []
    n = len(labels)
    for i, label in enumerate(labels):
        m = [float(value) for value in masks[i]]
        g = [float(value) for value in targets[i]]
        if label == -100:
            continue
        if sum(g) == 0:
            empty_rows.append(-sum(math.log(1 - value) for value in m) / n)
            continue
        beta_fg = n / sum(g)
        beta_bg = n / (n - sum(g)) if sum(g) < n else 0.0
        entropy = -beta_fg * sum(b * math.log(a) for a, b in zip(m, g, strict=True))
        entropy -= beta_bg * sum((1 - b) * math.log(1 - a) for a, b in zip(m, g, strict=True))
        product = sum(a * b for a, b in zip(m, g, strict=True))
        dice = 1 - 2 * product / sum(a * a + b * b for a, b in zip(m, g, strict=True))
        action_rows.append(entropy / n + dice_weight * dice)
    return sum(sum(rows) / len(rows) for rows in (action_rows, empty_rows) if rows)


def completeness_loss(foreground, labels, *, n_classes):
    """Eq. 11 for one video: T foreground values."""
    losses = []
    for value, label in zip(foreground, labels, strict=True):
        if label != -100:
            losses.append(-math.log(float(value) if label < n_classes else 1 - float(value)))
    return sum(losses) / len(losses) if losses else 0.0


def consistency_loss(class_logits, masks, class_features, mask_features, *, class_threshold, mask_threshold, k):
    """Eq. 12 for one video: numpy arrays (K+1, T), (T, T), (T, D), (T, D)."""
    n = masks.shape[0]
    exponentials = np.exp(class_logits - class_logits.max(axis=0))
    class_scores = (exponentials / exponentials.sum(axis=0))[:-1].max(axis=0)
    means = []
    for scores, threshold, features in (
        (class_scores, class_threshold, class_features),
        (masks.max(axis=1), mask_threshold, mask_features),
    ):
        best = sorted(range(n), key=lambda t: -scores[t])[:k]
        chosen = [t for t in best if scores[t] > threshold]
        if not chosen:
            return 0.0
        means.append(np.mean([features[t] for t in chosen], axis=0))
    a, b = means
    return float(1 - a @ b / math.sqrt((a @ a) * (b @ b)))


# --- data: resampling, one value at a time ---------------------------------------------------------------------------


def resample(features, length):
    """Linear interpolation between the centres of snippets, constant outside them; lists of rows in and out."""
    n_snippets = len(features)
    rows = []
    for i in range(length):
        position = min(max((i + 0.5) * n_snippets / length - 0.5, 0.0), n_snippets - 1.0)
        left = math.floor(position)
        right = min(left + 1, n_snippets - 1)
        share = position - left
        rows.append([(1 - share) * float(a) + share * float(b) for a, b in zip(features[left], features[right])])
    return rows


# --- evaluation: ActivityNet's rules, one prediction at a time -------------------------------------------------------


def mean_average_precision(ground_truth, predictions, subset, tiou_thresholds):
    """Average precision as a fraction, {class: [one a threshold]}; layouts as in ActivityNet's files."""
    actions, rows = {}, {}
    for video, entry in ground_truth["database"].items():
        if entry["subset"] == subset:
            for row in entry["annotations"]:
                actions.setdefault(row["label"], {}).setdefault(video, []).append(row["segment"])
    for video, detections in predictions["results"].items():
        for row in detections:
            rows.setdefault(row["label"], []).append((row["score"], video, row["segment"]))
    return {
        label: [average_precision(actions[label], rows.get(label, []), threshold) for threshold in tiou_thresholds]
        for label in actions
    }


def average_precision(actions, rows, threshold):
    """AP of one class at one threshold: `actions` {video: segments}, `rows` (score, video, segment)."""
    taken = {video: [False] * len(segments) for video, segments in actions.items()}
    flags = []
    for _, video, segment in sorted(rows[::-1], key=lambda row: -row[0]):  # of equal scores the later row first
        best, chosen = threshold, None
        for number, action in enumerate(actions.get(video, [])):
            overlap = segment_tiou(segment, action)
            if overlap >= best and not taken[video][number]:  # of equal tIoU the later action
                best, chosen = overlap, number
        if chosen is not None:
            taken[video][chosen] = True
        flags.append(chosen is not None)
    return _area(flags, sum(map(len, actions.values())))


def segment_tiou(segment, other):
    """Overlap over union; two segments of zero length are the same instant, 1, or not, 0."""
    intersection = max(0.0, min(segment[1], other[1]) - max(segment[0], other[0]))
    union = (other[1] - other[0]) + (segment[1] - segment[0]) - intersection
    return intersection / union if union > 0 else float(segment[0] == other[0])


def _area(flags, n_actions):
    """Area under the precision envelope: each right prediction adds 1 / n_actions of recall."""
    precisions, n_right = [], 0
    for rank, flag in enumerate(flags, start=1):
        n_right += flag
        precisions.append(n_right / rank)
    area, best = 0.0, 0.0
    for flag, precision in zip(reversed(flags), reversed(precisions)):
        best = max(best, precision)
        if flag:
            area += best / n_actions
    return area


# --- model: one snippet, one channel at a time ------------------------------------------------------------------------


def dynamic_mask(base, weights, i, *, position_scale):
    """Row i of eq. 8: (T, w) base features, the flat weights that snippet i made; returns T numbers."""
    n_snippets, width = base.shape
    numbers = iter([float(x) for x in weights])
    take = lambda *shape: np.array([next(numbers) for _ in range(int(np.prod(shape)))]).reshape(shape)  # noqa: E731
    w1, slope, b1, w2, b2, w3, b3 = (
        take(width, width),
        take(width),
        take(width),
        take(width, width),
        take(width),
        take(width),
        take(1),
    )
    row = []
    for t in range(n_snippets):
        distance = position_scale * (t - i) / n_snippets
        first = [
            max(0.0, sum(w1[h][c] * float(base[t][c]) for c in range(width)) + slope[h] * distance + b1[h])
            for h in range(width)
        ]
        second = [max(0.0, sum(w2[h][c] * first[c] for c in range(width)) + b2[h]) for h in range(width)]
        logit = sum(w3[h] * second[h] for h in range(width)) + b3[0]
        row.append(1 / (1 + math.exp(-logit)))
    return row


def release_gate(masks):
    """Which snippets the public code keeps: (T, T) masks; T booleans."""
    means = [sum(float(x) for x in row) / len(row) for row in masks]
    mean = sum(means) / len(means)
    return [m >= mean for m in means]


def paper_class_logits(embedding, gate, background, text, temperature):
    """Eq. 7 for one video: cosine of every class with every snippet, gated-off ones standing for background."""
    unit = lambda x: np.asarray(x, dtype=float) / math.sqrt(float(np.dot(x, x)))  # noqa: E731
    rows = []
    for class_embedding in text:
        row = []
        for t, snippet in enumerate(embedding):
            shown = snippet if gate[t] else background
            row.append(float(np.dot(unit(class_embedding), unit(shown))) / temperature)
        rows.append(row)
    return rows
