"""Scripts: the actors of a video and their times."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from stale_edge.demo.video.actions import COLOURS, RESTING, SHAPES, Actor
from stale_edge.demo.video.drawing import Place

FPS = 8
"""Frames per second of every rendered video."""
SHOT_S = 0.5
"""Seconds of one captioned shot in the tiny CLIP's videos."""
SHOTS_PER_VIDEO = 120
MEAN_SCENE_S = 12.0
"""Mean seconds of a scene; cuts do not depend on the actions."""
BYSTANDERS = 0.3
"""Probability that an actor rests in a corner while another one acts."""


@dataclass(frozen=True)
class Appearance:
    """An actor on screen from `start_s` to `end_s`, at its place; captions do not mention a bystander."""

    actor: Actor
    place: Place
    start_s: float
    end_s: float
    bystander: bool = False


@dataclass(frozen=True)
class Script:
    """One video.

    duration_s: length of the video. cuts: start of each scene, the first at 0. appearances: actors on screen, in the
    order of drawing. seed: seed of the scenes, any sequence of integers >= 0.
    """

    duration_s: float
    cuts: tuple[float, ...]
    appearances: tuple[Appearance, ...]
    seed: tuple[int, ...]

    @property
    def actions(self) -> tuple[Appearance, ...]:
        """The appearances with an action, by time."""
        acting = (appearance for appearance in self.appearances if appearance.actor.manner != RESTING)
        return tuple(sorted(acting, key=lambda appearance: appearance.start_s))

    @property
    def shots(self) -> tuple[Appearance, ...]:
        """The appearances that captions describe."""
        return tuple(appearance for appearance in self.appearances if not appearance.bystander)


def untrimmed_script(actions: Sequence[Actor], seed: tuple[int, ...]) -> Script:
    """Write an untrimmed video of 36 to 60 seconds: two to four of the actions, with pauses and distractors between.

    In most pauses an actor rests: often the one that acted or will act, so that its look alone does not show an action.

    Args:
        actions: allowed actions; one video shows at most two different ones.
        seed: seed of all random numbers.
    """
    rng = np.random.default_rng(seed)
    cast = [actions[int(i)] for i in rng.choice(len(actions), size=min(2, len(actions)), replace=False)]
    appearances: list[Appearance] = []
    now = 0.0
    for _ in range(int(rng.integers(2, 5))):
        actor = cast[int(rng.integers(len(cast)))]
        place = _place(rng)
        start = now + rng.uniform(2.0, 8.0)
        end = start + rng.uniform(4.0, 11.0)
        appearances += _pause(rng, actor, place, now, start)
        appearances += _bystander(rng, start, end)
        appearances.append(Appearance(actor, place, start, end))
        now = end
    duration_s = math.ceil(now + rng.uniform(2.0, 6.0))
    appearances += _pause(rng, appearances[-1].actor, appearances[-1].place, now, duration_s)
    return Script(duration_s, _cuts(rng, duration_s), tuple(appearances), seed)


def captioned_script(actors: Sequence[Actor], seed: tuple[int, ...], *, n_shots: int = SHOTS_PER_VIDEO) -> Script:
    """Write a video of short captioned shots, each with its own scene and one actor.

    Args:
        actors: one is drawn at random for each shot; some rest.
        seed: seed of all random numbers.
        n_shots: number of shots of `SHOT_S` seconds.
    """
    rng = np.random.default_rng(seed)
    appearances: list[Appearance] = []
    for shot in range(n_shots):
        start, end = shot * SHOT_S, (shot + 1) * SHOT_S
        appearances += _bystander(rng, start, end)
        appearances.append(Appearance(actors[int(rng.integers(len(actors)))], _place(rng), start, end))
    cuts = tuple(shot * SHOT_S for shot in range(n_shots))
    return Script(n_shots * SHOT_S, cuts, tuple(appearances), seed)


def _pause(rng: np.random.Generator, actor: Actor, place: Place, start_s: float, end_s: float) -> list[Appearance]:
    """Fill a pause with nothing, with the actor before or after it at rest, or with another actor at rest."""
    choice = rng.random()
    if choice < 0.25:
        return []
    if choice < 0.7:
        return [Appearance(actor._replace(manner=RESTING), place, start_s, end_s)]
    return [Appearance(_resting(rng), _place(rng), start_s, end_s)]


def _bystander(rng: np.random.Generator, start_s: float, end_s: float) -> list[Appearance]:
    if rng.random() >= BYSTANDERS:
        return []
    x, y = rng.choice([0.11, 0.89], size=2) + rng.uniform(-0.03, 0.03, 2)
    place = Place(float(x), float(y), float(rng.uniform(0.06, 0.085)), float(rng.uniform(-0.4, 0.4)), 0, 0, 0)
    return [Appearance(_resting(rng), place, start_s, end_s, bystander=True)]


def _resting(rng: np.random.Generator) -> Actor:
    return Actor(str(rng.choice(list(COLOURS))), str(rng.choice(SHAPES)), RESTING)


def _place(rng: np.random.Generator) -> Place:
    return Place(
        x=float(rng.uniform(0.36, 0.64)),
        y=float(rng.uniform(0.4, 0.6)),
        radius=float(rng.uniform(0.13, 0.19)),
        angle=float(rng.uniform(-0.4, 0.4)),
        reach=float(rng.uniform(0.17, 0.25)),
        speed=float(rng.uniform(0.4, 0.9)),
        phase=float(rng.random()),
    )


def _cuts(rng: np.random.Generator, duration_s: float) -> tuple[float, ...]:
    cuts = [0.0]
    while (following := cuts[-1] + 3.0 + rng.exponential(MEAN_SCENE_S - 3.0)) < duration_s:
        cuts.append(float(following))
    return tuple(cuts)
