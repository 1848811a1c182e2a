"""Slow, obvious twin of the runs decoder: one class, one threshold, one snippet at a time."""

import math

import oracle


def candidates(class_logits, attention, config):
    """[(label, score, start, end), ...] in snippets, by class, the longest first."""
    n_classes, T = class_logits.shape[0] - 1, class_logits.shape[1]
    weights = [1.0] * T if attention is None else [float(a) for a in attention]
    video = video_probabilities(class_logits, weights, n_classes, config.top_share)
    counted = [k for k in range(n_classes) if config.class_threshold == 0 or video[k] > config.class_threshold]
    found = []
    for k in counted or [video.index(max(video))]:
        scores = []
        for t in range(T):
            if config.class_scores == "sigmoid":
                scores.append(weights[t] / (1 + math.exp(float(class_logits[-1][t]) - float(class_logits[k][t]))))
                continue
            column = [math.exp(float(x) - float(class_logits[:, t].max())) for x in class_logits[:, t]]
            scores.append(weights[t] * column[k] / sum(column))
        cut = smoothed(scores, round(config.smoothing * T))
        if config.threshold_scale == "video":
            low, high = min(cut), max(cut)
            cut = [(value - low) / (high - low) if high - low > 1e-9 else 0.0 for value in cut]
        runs = set()
        for threshold in config.thresholds:
            runs |= set(runs_above(cut, threshold))
        runs = [run for run in runs if run[1] - run[0] >= config.min_snippets]
        for start, end in sorted(runs, key=lambda run: (run[0] - run[1], run[0])):
            score = run_score(scores, cut, start, end, video[k], config)
            score *= ((end - start) / T) ** config.length_power
            if score >= config.min_score:
                found.append((k, score, start, end))
    return found


def video_probabilities(class_logits, weights, n_classes, top_share):
    T = len(weights)
    n_top = max(1, int(top_share * T))
    means = []
    for k in range(n_classes):
        best = sorted((weights[t] * float(class_logits[k][t]) for t in range(T)), reverse=True)[:n_top]
        means.append(sum(best) / n_top)
    powers = [math.exp(mean - max(means)) for mean in means]
    return [power / sum(powers) for power in powers]


def smoothed(values, width):
    if width < 2:
        return list(values)
    n = len(values)
    windows = [range(max(0, t - width // 2), min(n, t + (width + 1) // 2)) for t in range(n)]
    return [sum(values[i] for i in window) / len(window) for window in windows]


def runs_above(cut, threshold):
    runs, start = [], None
    for t in range(len(cut) + 1):
        above = t < len(cut) and cut[t] > threshold
        if above and start is None:
            start = t
        if not above and start is not None:
            runs.append((start, t))
            start = None
    return runs


def run_score(scores, cut, start, end, video, config):
    if config.run_score == "maximum":
        return max(scores[start:end])
    margin = max(1, round(config.surroundings * (end - start)))
    around = [cut[t] for t in range(start - margin, end + margin) if 0 <= t < len(cut) and not start <= t < end]
    contrast = sum(cut[start:end]) / (end - start) - (sum(around) / len(around) if around else 0.0)
    if config.run_score == "contrast":
        return min(max(contrast + config.video_weight * video, 0.0), 1.0)
    return sum(scores[start:end]) / (end - start) * min(max(contrast, 0.0), 1.0)


def decoded(class_logits, attention, config):
    """[(label, score, start, end), ...] after soft-NMS, best first."""
    return oracle.suppressed(candidates(class_logits, attention, config), [], config)
