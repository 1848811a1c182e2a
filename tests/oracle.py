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
