"""The vocabulary of the rendered videos: actors, named actions, and captions."""

import itertools
from typing import NamedTuple

COLOURS = {
    "red": (0.90, 0.16, 0.15),
    "yellow": (0.98, 0.83, 0.14),
    "green": (0.13, 0.68, 0.27),
    "blue": (0.13, 0.38, 0.93),
    "purple": (0.67, 0.20, 0.80),
    "white": (0.96, 0.96, 0.95),
}
"""RGB in [0, 1]."""
SHAPES = ("circle", "square", "triangle", "star", "cross")
MANNERS = ("bouncing", "spinning", "sliding", "pulsing", "splitting")
RESTING = ""
"""Manner of an actor that does not move."""


class Actor(NamedTuple):
    """One actor: a colour, a shape, and a manner of moving or `RESTING`."""

    colour: str
    shape: str
    manner: str

    @property
    def name(self) -> str:
        """The class name, such as "red circle bouncing"; colour and shape alone if it rests."""
        return " ".join(filter(None, self))


def _actor(name: str) -> Actor:
    return Actor(*name.split())


# Many pairs of names differ in one word only, so that colour, shape and manner are all needed.
SEEN = tuple(
    map(
        _actor,
        (
            "red circle bouncing",
            "red circle spinning",
            "red square bouncing",
            "blue circle bouncing",
            "blue triangle splitting",
            "blue cross spinning",
            "yellow square sliding",
            "yellow star sliding",
            "yellow star pulsing",
            "green star pulsing",
            "green triangle splitting",
            "green triangle sliding",
            "purple circle splitting",
            "purple cross spinning",
            "purple cross pulsing",
            "white circle splitting",
            "white square pulsing",
            "white triangle bouncing",
        ),
    )
)
"""The actions that the detector is trained on."""
UNSEEN = tuple(
    map(
        _actor,
        (
            "red star splitting",
            "red star bouncing",
            "blue star bouncing",
            "green cross sliding",
            "green square sliding",
            "white square spinning",
        ),
    )
)
"""The actions of the open-set test: neither the detector nor the tiny CLIP is trained on them. SEEN contains each of
their words, but none of the combinations."""


def captioned_actors() -> tuple[Actor, ...]:
    """List the actors that the tiny CLIP is trained on: all, resting ones too, except the unseen actions."""
    combinations = itertools.product(COLOURS, SHAPES, (*MANNERS, RESTING))
    return tuple(actor for parts in combinations if (actor := Actor(*parts)) not in UNSEEN)


def captions(actor: Actor) -> tuple[str, ...]:
    """Write several captions for an actor, the class name first."""
    thing = f"{actor.colour} {actor.shape}"
    if actor.manner == RESTING:
        return (thing, f"a {thing}", f"a {thing} at rest")
    return (actor.name, f"a {actor.name}", f"a {thing} is {actor.manner}", f"a {actor.manner} {thing}")
