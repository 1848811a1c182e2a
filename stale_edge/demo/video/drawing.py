"""Draw shapes and their motion on an image, with smooth edges from signed distances on the pixel grid.

CLIP encodes single frames, so one frame must show the motion: bouncing leaves ghosts of the hop, spinning has whirl
lines, sliding has streaks, pulsing has rings, and splitting divides the shape into quarters.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stale_edge.demo.video.actions import COLOURS, Actor

OUTLINE = 0.14
"""Width of the dark rim, in radii."""
GHOSTS = 4
LIGHT = np.array([-0.5, -0.8], dtype=np.float32)
"""Direction of the light."""

Pixels = NDArray[Any]
"""float32; a picture (side, side, 3) of RGB in [0, 1], or one value per pixel."""


@dataclass(frozen=True)
class Place:
    """Position and motion of an actor; lengths as fractions of the frame's side.

    x, y: centre of its motion. radius: radius of the shape. angle: angle of the shape at rest, in radians. reach: how
    far it moves. speed: turns, hops or beats per second. phase: phase of its cycle at the start, in [0, 1).
    """

    x: float
    y: float
    radius: float
    angle: float
    reach: float
    speed: float
    phase: float


def draw(image: Pixels, actor: Actor, place: Place, time_s: float) -> None:
    """Draw an actor into an image.

    Args:
        image: (side, side, 3) float32 RGB in [0, 1]; changed in place.
        actor: colour, shape and manner.
        place: position and motion.
        time_s: seconds since its start.
    """
    side = image.shape[0]
    canvas = _Canvas(image, actor.shape, np.array(COLOURS[actor.colour], dtype=np.float32))
    cycle = place.phase + place.speed * time_s  # in cycles
    x, y, radius = place.x * side, place.y * side, place.radius * side
    reach = place.reach * side
    match actor.manner:
        case "bouncing":
            for ghost in reversed(range(GHOSTS + 1)):
                back = cycle - 0.13 * ghost
                across = x + 0.7 * reach * math.sin(math.pi * back)
                height = 1.3 * reach * abs(math.sin(2 * math.pi * back))
                opacity = 1.0 if ghost == 0 else 0.62 - 0.12 * ghost
                canvas.shape(across, y + 0.6 * reach - height, radius, place.angle, opacity, solid=ghost == 0)
        case "spinning":
            angle = 2 * math.pi * cycle
            canvas.whirl(x, y, 1.5 * radius, angle)
            canvas.shape(x, y, radius, place.angle + angle)
        case "sliding":
            swing = 2 * math.pi * cycle
            across, heading = x + reach * math.sin(swing), math.copysign(1.0, math.cos(swing))
            canvas.streaks(across, y, radius, heading)
            canvas.shape(across, y, radius, place.angle)
        case "pulsing":
            beat = 0.5 + 0.5 * math.sin(2 * math.pi * cycle)
            canvas.rings(x, y, radius, place.angle, cycle % 1.0)
            canvas.shape(x, y, radius * (0.8 + 0.3 * beat), place.angle)
        case "splitting":
            apart = 0.2 + 0.25 * (0.5 + 0.5 * math.sin(2 * math.pi * cycle))
            canvas.quarters(x, y, radius, place.angle, apart)
        case _:
            canvas.shape(x, y, radius, place.angle)


class _Canvas:
    """Draws one shape and colour on an image."""

    def __init__(self, image: Pixels, shape: str, colour: Pixels) -> None:
        self.image, self.kind, self.colour = image, shape, colour

    def shape(
        self, x: float, y: float, radius: float, angle: float, opacity: float = 1.0, *, solid: bool = True
    ) -> None:
        """Draw the shape; a ghost (not solid) has no rim and no shading."""
        window, u, v = self._local(x, y, radius, angle, margin=1.3)
        distance = signed_distance(self.kind, u, v)
        coverage = _coverage(distance, radius) * opacity
        if not solid:
            self._blend(window, self.colour, coverage)
            return
        light = 1.0 - 0.16 * (u * LIGHT[0] + v * LIGHT[1] + 0.4)
        rim = _coverage(-distance - OUTLINE, radius)[..., None]
        fill = np.clip(self.colour * light[..., None] * (1 - 0.72 * rim), 0, 1)
        self._blend(window, fill, coverage)

    def quarters(self, x: float, y: float, radius: float, angle: float, apart: float) -> None:
        """Draw the shape in four parts, each moved `apart` radii away from the middle along both axes."""
        window, u, v = self._local(x, y, radius, angle, margin=1.4 + apart)
        u_home, v_home = u - np.sign(u) * apart, v - np.sign(v) * apart
        outside_part = apart - np.minimum(np.abs(u), np.abs(v))
        distance = np.maximum(signed_distance(self.kind, u_home, v_home), outside_part)
        rim = _coverage(-distance - 0.5 * OUTLINE, radius)[..., None]
        self._blend(window, self.colour * (1 - 0.72 * rim), _coverage(distance, radius))

    def whirl(self, x: float, y: float, radius: float, angle: float) -> None:
        """Draw three arcs around the middle that fade out against the direction of the turn."""
        window, u, v = self._local(x, y, radius, 0.0, margin=1.25)
        ring = np.abs(np.hypot(u, v) - 1.0) - 0.09
        around = np.mod(angle - np.arctan2(v, u), 2 * math.pi / 3) / (2 * math.pi / 3)  # 0 at the head of an arc
        fade = np.clip(1.35 * (0.75 - around), 0, 1)
        self._blend(window, 0.55 * self.colour + 0.45, _coverage(ring, radius) * fade)

    def streaks(self, x: float, y: float, radius: float, heading: float) -> None:
        """Draw streaks behind the shape."""
        window, u, v = self._local(x, y, radius, 0.0, margin=3.4)
        behind = -heading * u
        fade = np.clip((3.2 - behind) / 2.6, 0, 1) * (behind > 0.2)
        lines = np.abs(np.mod(v * 1.9 + 0.5, 1.0) - 0.5) / 1.9 - 0.13
        coverage = _coverage(lines, radius) * (np.abs(v) < 0.85) * fade
        self._blend(window, 0.6 * self.colour + 0.4, 0.85 * coverage)

    def rings(self, x: float, y: float, radius: float, angle: float, phase: float) -> None:
        """Draw outlines of the shape that grow and fade."""
        window, u, v = self._local(x, y, radius, angle, margin=2.5)
        for number in range(2):
            scale = 1.25 + 0.5 * (number + phase)
            distance = np.abs(signed_distance(self.kind, u / scale, v / scale)) * scale - 0.07
            self._blend(window, 0.7 * self.colour + 0.3, _coverage(distance, radius) * min(1.0, 2.3 - scale + 0.35))

    def _local(self, x: float, y: float, radius: float, angle: float, *, margin: float) -> tuple[Any, Pixels, Pixels]:
        """Give a window of the image around the shape, and the coordinates in it, in radii."""
        side, reach = self.image.shape[0], margin * radius + 1
        low_x, high_x = max(0, int(x - reach)), min(side, int(x + reach) + 1)
        low_y, high_y = max(0, int(y - reach)), min(side, int(y + reach) + 1)
        across = (np.arange(low_x, max(low_x, high_x), dtype=np.float32) + 0.5 - x) / radius
        down = (np.arange(low_y, max(low_y, high_y), dtype=np.float32) + 0.5 - y) / radius
        cos, sin = np.float32(math.cos(angle)), np.float32(math.sin(angle))
        u = cos * across[None, :] + sin * down[:, None]
        v = cos * down[:, None] - sin * across[None, :]
        return (slice(low_y, low_y + len(down)), slice(low_x, low_x + len(across))), u, v

    def _blend(self, window: Any, fill: Pixels, coverage: Pixels) -> None:
        under = self.image[window]
        self.image[window] = under + coverage[..., None] * (fill - under)


def signed_distance(shape: str, u: Pixels, v: Pixels) -> Pixels:
    """Compute the signed distance to a shape of radius 1 around the origin, < 0 inside.

    Args:
        shape: one of `SHAPES`.
        u, v: coordinates to the right and down, arrays of the same shape.

    Raises:
        ValueError: there is no such shape.
    """
    match shape:
        case "circle":
            return np.asarray(np.hypot(u, v) - 1)
        case "square":
            return np.asarray(np.maximum(np.abs(u), np.abs(v)) - np.float32(0.84))
        case "triangle":
            low = v + np.float32(0.12)
            slope = np.float32(math.sqrt(3) / 2) * np.abs(u) - np.float32(0.5) * low
            return np.asarray(np.maximum(low - np.float32(0.68), slope - np.float32(0.62)))
        case "star":
            return _star(u, v)
        case "cross":
            arm = np.float32(0.36)
            upright = np.maximum(np.abs(u) - arm, np.abs(v) - 1)
            return np.asarray(np.minimum(upright, np.maximum(np.abs(v) - arm, np.abs(u) - 1)))
    raise ValueError(f"no shape {shape!r}")


def _star(u: Pixels, v: Pixels, inner: float = 0.46) -> Pixels:
    """Fold the plane onto half a point of a five-pointed star, whose edge there is one straight line."""
    step = 2 * math.pi / 5
    angle = np.abs(np.mod(np.arctan2(u, -v) + step / 2, step) - step / 2)
    radius = np.hypot(u, v)
    x, y = radius * np.cos(angle), radius * np.sin(angle)
    tip, notch = 1.12, (inner * 1.12 * math.cos(step / 2), inner * 1.12 * math.sin(step / 2))
    edge = math.hypot(notch[0] - tip, notch[1])
    normal = (notch[1] / edge, (tip - notch[0]) / edge)
    return np.asarray((x - tip) * normal[0] + y * normal[1], dtype=u.dtype)


def _coverage(distance: Pixels, radius: float) -> Pixels:
    """Compute the share of each pixel that a shape covers, from the distance in radii."""
    return np.asarray(np.clip(0.5 - distance * radius, 0, 1))
