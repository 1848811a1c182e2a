"""Timeline of a simulated video: its actions, and distractors that resemble actions."""

from dataclasses import dataclass

import numpy as np

from stale_edge.config import SimulateConfig

# ActivityNet's durations rise up to the upload limit; Beta(1.3, 1.2) over the range has that shape.
_DURATION_SHAPE = (1.3, 1.2)
# Of the annotated ActivityNet v1.3 videos 75 % have one action, 13 % two, 5 % three; here more have several.
_ACTION_COUNT_WEIGHTS = (0.6, 0.22, 0.12, 0.06)
_SHORTEST_ACTION_S = 3.0
_SHORTEST_GAP_S = 2.0
_SHORTEST_DISTRACTOR_S = 3.0


@dataclass(frozen=True)
class Span:
    """A stretch [start_s, end_s) of a video that shows the class of row `class_index` of the class embeddings."""

    class_index: int
    start_s: float
    end_s: float


@dataclass(frozen=True)
class Timeline:
    """Everything that happens in one video of `duration_s` seconds.

    actions: the annotated actions.
    scenes: distractors that show the context of a class without the action.
    bustle: (start_s, end_s) of distractors with moving people but no class's action.
    """

    duration_s: float
    actions: tuple[Span, ...]
    scenes: tuple[Span, ...] = ()
    bustle: tuple[tuple[float, float], ...] = ()


def draw_actions(config: SimulateConfig, rng: np.random.Generator, *, classes: tuple[int, ...]) -> Timeline:
    """Invent the duration and actions of one video; times are multiples of 0.01 s, actions do not overlap.

    Args:
        config: the simulated task.
        rng: source of randomness.
        classes: class indices that the actions use in rotation, at least one.
    """
    span = config.max_duration_s - config.min_duration_s
    duration_s = round(config.min_duration_s + span * rng.beta(*_DURATION_SHAPE), 2)
    room = max(1, int(duration_s / (_SHORTEST_ACTION_S + 2 * _SHORTEST_GAP_S)))
    weights = np.array((_ACTION_COUNT_WEIGHTS + (0.0,) * config.max_actions)[: config.max_actions])
    weights = np.maximum(weights, weights[weights > 0].min() / 2)
    n_actions = min(int(rng.choice(config.max_actions, p=weights / weights.sum())) + 1, room)
    fraction = rng.uniform(0.1, 0.7)
    lengths_s = fraction * duration_s * rng.dirichlet(np.full(n_actions, 4.0))
    lengths_s = np.minimum(np.maximum(lengths_s, _SHORTEST_ACTION_S), 0.7 * duration_s / n_actions + 0.01)
    free_s = duration_s - lengths_s.sum() - _SHORTEST_GAP_S * (n_actions - 1)
    gaps_s = max(free_s, 0.0) * rng.dirichlet(np.full(n_actions + 1, 1.2))
    actions: list[Span] = []
    cursor = 0.0
    for i in range(n_actions):
        start_s = cursor + gaps_s[i]
        cursor = start_s + lengths_s[i] + _SHORTEST_GAP_S
        end_s = min(round(float(start_s + lengths_s[i]), 2), duration_s)
        actions.append(Span(classes[i % len(classes)], round(float(start_s), 2), end_s))
    return Timeline(duration_s, tuple(actions))


def add_distractors(
    timeline: Timeline, config: SimulateConfig, rng: np.random.Generator, *, n_classes: int
) -> Timeline:
    """Put distractors into the background of a video; actions stay as they are.

    Half of them show a class's context (the video's own class as often as another), half show people moving.
    """
    gaps = [(start, end) for start, end in _gaps(timeline) if end - start >= _SHORTEST_DISTRACTOR_S]
    scenes: list[Span] = []
    bustle: list[tuple[float, float]] = []
    own = [action.class_index for action in timeline.actions]
    for _ in range(int(rng.poisson(config.distractors)) if gaps else 0):
        start_s, end_s = gaps[int(rng.integers(len(gaps)))]
        length_s = rng.uniform(_SHORTEST_DISTRACTOR_S, max(_SHORTEST_DISTRACTOR_S, 0.6 * (end_s - start_s)))
        start_s = rng.uniform(start_s, end_s - length_s)
        other = int(rng.integers(n_classes))
        if rng.random() < 0.5:
            index = own[int(rng.integers(len(own)))] if own and rng.random() < 0.5 else other
            scenes.append(Span(index, start_s, start_s + length_s))
        else:
            bustle.append((start_s, start_s + length_s))
    return Timeline(timeline.duration_s, timeline.actions, tuple(scenes), tuple(bustle))


def _gaps(timeline: Timeline) -> list[tuple[float, float]]:
    """List the stretches between actions, which may overlap or reach outside the video in a real annotation file."""
    gaps: list[tuple[float, float]] = []
    cursor = 0.0
    for action in sorted(timeline.actions, key=lambda span: span.start_s):
        if action.start_s > cursor:
            gaps.append((cursor, min(action.start_s, timeline.duration_s)))
        cursor = max(cursor, action.end_s)
    if timeline.duration_s > cursor:
        gaps.append((cursor, timeline.duration_s))
    return gaps
