"""Backgrounds with texture, clutter and light, seen by a moving camera."""

import math

import numpy as np

from stale_edge.demo.video.actions import COLOURS, RESTING, SHAPES, Actor
from stale_edge.demo.video.drawing import Pixels, Place, draw

MARGIN = 0.25
"""Space for the camera to move: how much larger than the frame a scene is, both sides together."""
TEXTURES = ("clouds", "stripes", "tiles", "hills", "spots")


class Scene:
    """A background that is painted once and shown by a moving camera.

    Args:
        rng: draws texture, colours, clutter, light and the camera's path.
        side: width and height of a frame, in pixels.
    """

    def __init__(self, rng: np.random.Generator, side: int) -> None:
        self.side = side
        self._image = _paint(rng, round(side * (1 + MARGIN)))
        self._phase = rng.uniform(0, 2 * math.pi, 3)
        self._speed = rng.uniform(0.05, 0.4, 3)
        self._flicker = rng.uniform(0.02, 0.08)

    def frame(self, time_s: float) -> Pixels:
        """Give the frame at a time: (side, side, 3) float32 in [0, 1], a new array."""
        room = self._image.shape[0] - self.side
        wave = np.sin(self._phase + self._speed * time_s * 2 * math.pi / 4)
        left, top = (round((0.5 + 0.5 * float(value)) * room) for value in wave[:2])
        light = np.float32(1 + self._flicker * float(wave[2]))
        return np.clip(self._image[top : top + self.side, left : left + self.side] * light, 0, 1)


def _paint(rng: np.random.Generator, side: int) -> Pixels:
    """Paint texture, shadow and clutter."""
    dark, bright = _palette(rng)
    mix = _texture(str(rng.choice(TEXTURES)), rng, side)[..., None]
    image = dark + mix * (bright - dark)
    image += 0.10 * (_noise(rng, side, 24)[..., None] - 0.5) + rng.normal(0, 0.012, image.shape)
    fall = np.linspace(rng.uniform(0.85, 1.1), rng.uniform(0.8, 1.05), side)
    image = np.ascontiguousarray(np.clip(image * fall[:, None, None], 0, 1), dtype=np.float32)
    for _ in range(int(rng.integers(1, 5))):
        _clutter(image, rng)
    return image


def _clutter(image: Pixels, rng: np.random.Generator) -> None:
    """Paint a small object of any colour and shape; half of them are pale."""
    actor = Actor(str(rng.choice(list(COLOURS))), str(rng.choice(SHAPES)), RESTING)
    x, y = rng.uniform(0.03, 0.97, 2)
    place = Place(x, y, float(rng.uniform(0.02, 0.045)), float(rng.uniform(0, 2 * math.pi)), 0, 0, 0)
    before = image.copy()
    draw(image, actor, place, 0.0)
    if rng.random() < 0.5:
        image += 0.55 * (before - image)


def _palette(rng: np.random.Generator) -> tuple[Pixels, Pixels]:
    """Choose two muted colours, greyer than any actor's colour."""

    def muted(low: float, high: float) -> Pixels:
        grey = rng.uniform(low, high)
        return np.asarray(grey + rng.uniform(-0.09, 0.09, 3), dtype=np.float32)

    return muted(0.12, 0.4), muted(0.35, 0.68)


def _texture(kind: str, rng: np.random.Generator, side: int) -> Pixels:
    """Make a pattern (side, side) in [0, 1]."""
    y, x = np.mgrid[0:side, 0:side].astype(np.float32) / side
    angle, waves = rng.uniform(0, math.pi), rng.uniform(3, 9)
    along = x * math.cos(angle) + y * math.sin(angle)
    across = y * math.cos(angle) - x * math.sin(angle)
    match kind:
        case "clouds":
            return (_noise(rng, side, 3) + 0.5 * _noise(rng, side, 7)) / 1.5
        case "stripes":
            return np.asarray(0.5 + 0.5 * np.sin(2 * math.pi * waves * along + 2 * _noise(rng, side, 3)))
        case "tiles":
            return np.asarray(((np.floor(along * waves) + np.floor(across * waves)) % 2).astype(np.float32) * 0.7)
        case "hills":
            ridge = 0.45 + 0.18 * np.sin(2 * math.pi * (x * waves / 4 + rng.random()))
            return np.where(y > ridge, 0.25 + 0.5 * _noise(rng, side, 10), 0.9 - 0.4 * y)
        case _:
            cells = np.hypot(np.mod(along * waves, 1) - 0.5, np.mod(across * waves, 1) - 0.5)
            return np.asarray(np.clip(4 * (0.33 - cells) + 0.5, 0, 1) * 0.8)


def _noise(rng: np.random.Generator, side: int, cells: int) -> Pixels:
    """Make smooth noise (side, side) in [0, 1] with about `cells` bumps along a side."""
    values = rng.random((cells + 2, cells + 2)).astype(np.float32)
    place = np.linspace(0, cells, side, dtype=np.float32)
    low = place.astype(int)
    part = place - low
    part = part * part * (3 - 2 * part)
    rows = values[low] + part[:, None] * (values[low + 1] - values[low])
    return np.asarray(rows[:, low] + part[None, :] * (rows[:, low + 1] - rows[:, low]), dtype=np.float32)
