"""Slow, obvious twins of the fast paths: loops over single numbers, readable and not fast."""

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
    """Eq. 10 for one video: (T, T) masks and targets; action rows and empty rows averaged separately, then added."""
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


# --- data: resampling, one value at a time --------------------------------------------------------------------------


def resample(features, length):
    """Linear interpolation between the centres of snippets, constant outside them; lists of rows in and out."""
    n_snippets = len(features)
    rows = []
    for i in range(length):
        position = min(max((i + 0.5) * n_snippets / length - 0.5, 0.0), n_snippets - 1.0)
        left = math.floor(position)
        right = min(left + 1, n_snippets - 1)
        share = position - left
        pairs = zip(features[left], features[right], strict=True)
        rows.append([(1 - share) * float(a) + share * float(b) for a, b in pairs])
    return rows


# --- evaluation: ActivityNet's rules, one prediction at a time ------------------------------------------------------


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
    ranked = list(reversed(rows))  # of equal scores the later row first
    ranked.sort(key=lambda row: -row[0])
    for _, video, segment in ranked:
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
    for flag, precision in zip(reversed(flags), reversed(precisions), strict=True):
        best = max(best, precision)
        if flag:
            area += best / n_actions
    return area


# --- model: one snippet, one channel at a time ----------------------------------------------------------------------


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
    """Snippets that the public code keeps: (T, T) masks in, T booleans out."""
    means = [sum(float(x) for x in row) / len(row) for row in masks]
    mean = sum(means) / len(means)
    return [m >= mean for m in means]


def paper_class_logits(embedding, gate, background, text, temperature):
    """Eq. 7 for one video: cosine of every class with every snippet; the background replaces gated-off snippets."""
    unit = lambda x: np.asarray(x, dtype=float) / math.sqrt(float(np.dot(x, x)))  # noqa: E731
    rows = []
    for class_embedding in text:
        row = []
        for t, snippet in enumerate(embedding):
            shown = snippet if gate[t] else background
            row.append(float(np.dot(unit(class_embedding), unit(shown))) / temperature)
        rows.append(row)
    return rows


# --- exporting: how far each snippet is from its gate ---------------------------------------------------------------


def gate_margin_by_loops(masks, foreground, architecture, threshold):
    """How far above the gate's threshold each snippet is: one snippet at a time, in Python floats."""
    margins = np.zeros(foreground.shape)
    for b in range(foreground.shape[0]):
        means = [math.fsum(float(x) for x in row) / len(row) for row in masks[b]]
        for t in range(foreground.shape[1]):
            if architecture == "paper":
                margins[b, t] = float(foreground[b, t]) - threshold
            else:
                margins[b, t] = means[t] - math.fsum(means) / len(means)
    return margins


# --- decoding: one pair, one snippet, one proposal at a time --------------------------------------------------------


def tiou(segment, other):
    """Intersection over union of two (start, end)."""
    shared = min(segment[1], other[1]) - max(segment[0], other[0])
    if shared <= 0:
        return 0.0
    return shared / ((segment[1] - segment[0]) + (other[1] - other[0]) - shared)


def soft_nms_decay(overlap, method, sigma, tiou_threshold):
    """The factor by which a pick lowers another score, Bodla et al."""
    if method == "gaussian":
        return math.exp(-(overlap**2) / sigma)
    if overlap < tiou_threshold:
        return 1.0
    return 1.0 - overlap if method == "linear" else 0.0


def soft_nms(segments, scores, *, method, sigma, tiou_threshold, min_score, top_k=None):
    """Pick the best, decay all others, again; returns [(row, score), ...]."""
    left = {row: float(score) for row, score in enumerate(scores) if score >= min_score}
    picks = []
    while left and (top_k is None or len(picks) < top_k):
        best = max(left, key=lambda row: (left[row], -row))
        picks.append((best, left.pop(best)))
        for row in list(left):
            left[row] *= soft_nms_decay(tiou(segments[best], segments[row]), method, sigma, tiou_threshold)
            if left[row] < min_score:
                del left[row]
    return picks


def soft_nms_replay(segments, scores, kept, *, method, sigma, tiou_threshold):
    """Follow given picks: for each its true score and the best of the remaining scores; then the remaining rows."""
    left = {row: float(score) for row, score in enumerate(scores)}
    steps = []
    for row in kept:
        best = max(left.values())
        steps.append((left.pop(row), best))
        for other in left:
            left[other] *= soft_nms_decay(tiou(segments[row], segments[other]), method, sigma, tiou_threshold)
    return steps, left


def mask_segments(mask, threshold, *, regions="runs", min_snippets=1):
    """Segments [start, end) above the threshold, snippet by snippet."""
    above = [t for t in range(len(mask)) if np.float32(mask[t]) > np.float32(threshold)]
    if not above:
        return []
    if regions == "hull":
        found = [(above[0], above[-1] + 1)]
    else:
        starts = [t for t in above if t - 1 not in above]
        ends = [t + 1 for t in above if t + 1 not in above]
        found = list(zip(starts, ends, strict=True))
    return [(start, end) for start, end in found if end - start >= min_snippets]


def paper_proposals(class_logits, masks, config):
    """Section 3.3 of the paper up to soft-NMS: {class: {segment: best score}}, segments in the order of discovery."""
    n_classes, T = class_logits.shape[0] - 1, class_logits.shape[1]
    pairs = []
    for t in range(T):
        weights = [math.exp(float(value) - float(class_logits[:, t].max())) for value in class_logits[:, t]]
        for k in range(n_classes):
            probability = weights[k] / sum(weights)
            if probability > config.class_threshold:
                pairs.append((-probability, t, k))
    candidates = {k: {} for k in range(n_classes)}
    for negative, t, k in sorted(pairs)[: config.top_snippets]:
        segments = set()
        for threshold in config.mask_thresholds:
            segments |= set(
                mask_segments(masks[t], threshold, regions=config.regions, min_snippets=config.min_snippets)
            )
        for start, end in sorted(segments, key=lambda s: (s[1], -s[0])):
            score = -negative * max(float(value) for value in masks[t][start:end])
            candidates[k][(start, end)] = max(score, candidates[k].get((start, end), 0.0))
    return candidates


def decode_paper(class_logits, masks, config):
    """Section 3.3 of the paper; returns [(label, score, start, end), ...] in snippets, best first."""
    detections = []
    for k, found in paper_proposals(class_logits, masks, config).items():
        detections += suppressed([(k, score, *segment) for segment, score in found.items()], [], config)
    return sorted(detections, key=lambda d: -d[1])[: config.max_detections]


def suppressed(candidates, settled, config):
    """Soft-NMS label by label next to settled segments, which are not decayed; rows are (label, score, start, end)."""
    result = []
    for label in sorted({row[0] for row in candidates}):
        left = [list(row) for row in candidates if row[0] == label and row[1] >= config.min_score]
        waiting = [list(row) for row in settled if row[0] == label]
        while left:
            picked = max([*waiting, *left], key=lambda row: row[1])  # of equal ones the first
            if any(picked is row for row in waiting):
                waiting = [row for row in waiting if row is not picked]
            else:
                left = [row for row in left if row is not picked]
                result.append(tuple(picked))
            for row in left:
                overlap = tiou(picked[2:], row[2:])
                row[1] *= soft_nms_decay(overlap, config.soft_nms, config.sigma, config.tiou_threshold)
            left = [row for row in left if row[1] >= config.min_score]
    return sorted(result, key=lambda row: -row[1])[: config.max_detections]


def joined_at_seam(earlier, later, *, zone, seam, final_until, same_action):
    """Join the rows of two windows; rows are (label, score, start, end)."""

    def inside(row):
        return [min(max(time, zone[0]), zone[1]) for time in row[2:]]

    def middle(row):
        return (row[2] + row[3]) / 2

    left, partner = list(range(len(earlier))), {}
    for i in sorted(range(len(later)), key=lambda i: -later[i][1]):
        if later[i][3] <= final_until:
            continue
        same = [j for j in left if earlier[j][0] == later[i][0]]
        same = [j for j in same if tiou(inside(earlier[j]), inside(later[i])) >= same_action]
        if same:
            partner[i] = max(same, key=lambda j: earlier[j][1])
            left.remove(partner[i])
    result = []
    for i, row in enumerate(later):
        if i in partner:
            label, score, start, _ = earlier[partner[i]]
            if start < seam <= row[3]:
                result.append((label, max(score, row[1]), start, row[3]))
            else:
                result.append(earlier[partner[i]] if start < seam else row)
        elif row[3] > final_until and middle(row) >= seam:
            result.append(row)
    return result + [earlier[j] for j in left if middle(earlier[j]) < seam]


def merged_windows(windows, config, *, same_action):
    """Detections of a video from the rows of its windows; keeps all final rows.

    `windows` are (rows, start, end, seam, start of the next one or None), rows (label, score, start, end).
    """
    pending, settled, result = [], [], []
    earlier_end, earlier_seam, final_until = 0.0, 0.0, -math.inf
    for rows, start, end, seam, next_start in windows:
        joined = joined_at_seam(
            pending,
            rows,
            zone=(start, earlier_end),
            seam=earlier_seam,
            final_until=final_until,
            same_action=same_action,
        )
        if config.policy == "paper":
            seen = suppressed(joined, settled, config)
        else:
            seen = sorted(joined, key=lambda row: -row[1])
        final_until = math.inf if next_start is None else next_start
        final = [row for row in seen if row[3] <= final_until]
        pending = [row for row in joined if row[3] > final_until]
        settled += final
        result += final
        earlier_end, earlier_seam = end, seam
    return result


def release_proposals(class_logits, masks):
    """Proposals of the public inference script as (start, end, class score, mask score, class), times in [0, 1]."""
    n_classes, T = class_logits.shape[0] - 1, class_logits.shape[1]
    weights = np.exp(class_logits - class_logits.max(axis=0))
    total = np.zeros(T, dtype=np.float32)
    for row in weights:
        total += row
    probabilities = weights[:n_classes] / total
    video_class = int(np.argmax(class_logits[:n_classes].astype(np.float64).mean(axis=1)))
    best = probabilities.max(axis=0)
    class_regions = []
    for threshold in range(10):
        above = [t for t in range(T) if float(best[t]) > threshold / 10]
        if above and above[-1] - above[0] > 1:
            class_regions.append((above[0], above[-1], float(best[above[0] : above[-1]].max())))
    found = set()
    for t in sorted(range(T), key=lambda t: -best[t])[:10]:
        mask = masks[t]
        for threshold in (0, 0.2, 0.4, 0.6, 0.8):
            runs = mask_segments(mask, threshold)
            if not runs:
                continue
            start, end = max(runs, key=lambda run: run[1] - run[0])
            last = end - 1
            if (last - start) / T <= 0.02:
                continue
            inner = mask[start + 1 : last - 1] if start + 1 < last - 1 else mask[start : last + 1]
            shift = probabilities[video_class, start:last].max()
            hull = (runs[0][0] / T, (runs[-1][1] - 1) / T)
            found.add((*hull, float(str(shift * inner.max())), float(str(shift * best[t])), video_class))
            for first, final, score in class_regions:
                found.add((first / T, final / T, float(str(mask[first:final].max())), score, video_class))
    return sorted(found)


def release_overlap(start, end, other_start, other_end):
    """The overlap of the public soft-NMS."""
    if other_start > end or start > other_end:
        return 0.0
    shared = min(end, other_end) - min(start, other_start)
    return shared / (max(end, other_end) - min(start, other_start) - shared + (other_end - other_start))


def release_order(start, last, label):
    """The sort key of proposals with equal scores, lower first; arguments are snippets and a class."""
    prime = 46337
    x = (28657 * start + last) % prime
    x = (17711 * x + label + 12345) % prime
    return x**3 % prime


def decode_release(class_logits, masks):
    """Detections of the public inference script as (class, score, start, end), times in [0, 1]."""
    T = class_logits.shape[1]
    proposals = release_proposals(class_logits, masks)  # by start and end, which decides at last
    proposals.sort(key=lambda p: release_order(round(p[0] * T), round(p[1] * T), p[4]))
    left = [[p[2] * p[3], *p] for p in proposals]
    left.sort(key=lambda c: -c[0])  # stable
    if len(left) < 2:
        return [(c[5], c[0], c[1], c[2]) for c in left]
    picked = []
    while len(left) > 1 and len(picked) < 100 and max(c[0] for c in left) > 0:
        best = max(left, key=lambda c: c[0])
        left = [c for c in left if c is not best]
        for other in left:
            overlap = release_overlap(best[1], best[2], other[1], other[2])
            if overlap > 0:
                other[0] *= math.exp(-10 * overlap**2) / 0.6
        picked.append((best[5], best[0], best[1], best[2]))
    return sorted(picked, key=lambda d: -d[1])
