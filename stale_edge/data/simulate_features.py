"""Simulated CLIP features of a video: its actions, added to the statistics of real frames.

The constants below were fitted to one real video's CLIP ViT-B/32 frames at 19.62 fps (512 channels): mean norm, outlier
channel, shared mean direction, contrast between action and background, spectrum and autocorrelation of the residual.
All values refer to unit vectors; the norm is applied last.

A frame is  norm(t) * unit( shared + scene + action(t) + drift(t) ):

- shared: one vector for all videos, with the outlier channel and a part of the text embeddings' mean;
- scene: one vector a video, or one a shot (`SimulateConfig.shot_s`), half of its variance is shared by the
  shots of a video; part of it depends on the video's classes, so it indicates the class but not the time;
- action(t): fades in and out with each action; its parts are the class direction, the direction that all actions
  share, and the instance's own. Distractors lack one of the first two;
- drift(t): camera, light and other changes: slow in few directions, fast in many.

A class's visual direction has the cosine `SimulateConfig.alignment` with its text direction (embedding minus the mean
over classes); this is all that a comparison without training can use. The rest is the modality gap: one rotation of the
text direction, the same for all classes, so that training on some classes helps with others, and a part of each class
that can be learned only from its videos. The visual and text means differ, too.
"""

import numpy as np
from numpy.typing import NDArray

from stale_edge.config import SimulateConfig
from stale_edge.data.simulate_timeline import Timeline
from stale_edge.segments import FloatArray

Array = NDArray[np.float64]

MEAN_NORM, NORM_STD = 10.28, 0.21
OUTLIER, RUNNER_UP = -0.555, 0.166
"""Means of the two largest channels before drift and scaling; in the real video -5.54 and 1.65, at norm 10.28."""
MEAN_DIRECTION = 0.955
"""Norm of the mean of a video's unit vectors."""
SHARED_NORM, SCENE_NORM = 0.51, 0.60
"""Norms of the shared part besides the outlier channel and of a video's scene; two videos have a cosine near 0.6."""
TEXT_MEAN_COSINE = 0.2
"""Cosine between the shared part and the mean text embedding: CLIP's image and text embeddings hardly overlap."""
ACTION_CONTRAST = 0.21
"""Norm of the vector that an action adds; drift brings the distance of the real centroids to 0.244."""
STRENGTH_STD, WAVER_STD, WAVER_S = 0.2, 0.15, 4.0
"""Standard deviations of strength between actions and within one (mean 1), and correlation time of the latter in s."""
DRIFT_NORM = 0.335
DRIFT_POWER, DRIFT_KNEE = 1.52, 1.0
"""Drift direction k = 1, 2, ... has variance proportional to (k + knee) ** -power."""
DRIFT_DIRECTIONS = 250
SLOW_S, SLOW_DECAY = 18.3, 1.63
"""Correlation time of the slow part of direction k: SLOW_S * k ** -SLOW_DECAY seconds."""
SLOW_KNEE, FAST_S = 32.0, 0.1
"""Part 1 / (1 + k / SLOW_KNEE) of direction k is slow; the rest has the correlation time FAST_S."""
NAMEABLE_SHARE = 0.2
"""Part of the variance of drift and scene in the span of the classes' directions, as backgrounds show objects, too."""
SHOT_SHARE = 0.5
"""Part of a scene's variance that all shots of a video share; an assumption: the real video is a single shot."""
CONTEXT_COSINE = 0.5
"""Cosine between a class's direction and its context's, such as swimming and a pool."""


class FeatureModel:
    """The directions that all videos of one simulated data set share.

    Args:
        config: the simulated task; `seed` and `channels` fix the directions together with the embeddings.
        class_embeddings: (K, C) text embeddings, K >= 2, not all alike.

    Raises:
        ValueError: the embeddings are not `config.channels` wide, or their rows do not differ.
    """

    def __init__(self, config: SimulateConfig, class_embeddings: FloatArray) -> None:
        if class_embeddings.ndim != 2 or class_embeddings.shape[1] != config.channels:
            raise ValueError(
                f"class embeddings must have shape (K, {config.channels}), as wide as the features "
                f"(simulate.channels); got {class_embeddings.shape}"
            )
        self.config = config
        rng = np.random.default_rng([config.seed, 1])
        text = _unit(class_embeddings.astype(np.float64))
        centred = text - text.mean(axis=0)
        if len(text) < 2 or np.linalg.norm(centred, axis=1).min() < 1e-6:
            raise ValueError(f"simulation needs at least two classes with embeddings that differ; got K = {len(text)}")
        n_classes, channels = text.shape
        known = _unit(centred)
        turned = known @ np.linalg.qr(rng.standard_normal((channels, channels)))[0]
        unknown = _unit(rng.standard_normal((n_classes, channels)))
        gap = config.gap_regularity * turned + np.sqrt(1 - config.gap_regularity**2) * unknown
        self.class_directions = _unit(config.alignment * known + np.sqrt(1 - config.alignment**2) * _unit(gap))
        private = _unit(rng.standard_normal((n_classes, channels)))
        self.context_directions = _unit(
            CONTEXT_COSINE * self.class_directions + np.sqrt(1 - CONTEXT_COSINE**2) * private
        )
        self.actionness = _unit(rng.standard_normal(config.channels))
        self._nameable = np.concatenate([self.class_directions, self.context_directions, self.actionness[None]])
        self._outlier, self._runner_up = (int(i) for i in rng.choice(channels, size=2, replace=False))
        self._shared = self._draw_shared(rng, _unit(text.mean(axis=0)))

    def render(
        self, timeline: Timeline, *, n_snippets: int, snippet_s: float, rng: np.random.Generator
    ) -> NDArray[np.float32]:
        """Simulate the features of one video, one per snippet, each of the frame in the snippet's middle.

        Args:
            timeline: events in the video.
            n_snippets: T, >= 1.
            snippet_s: seconds from one snippet to the next, > 0.
            rng: the video's own source of randomness.

        Returns:
            (T, C) float32.
        """
        times_s = (np.arange(n_snippets, dtype=np.float64) + 0.5) * snippet_s
        base = self._scenes(timeline, times_s, rng)  # (1 or T, C)
        units = base + self._actions(timeline, times_s, rng) + self._drift(n_snippets, snippet_s, rng)  # (T, C)
        norms = _process(n_snippets, snippet_s, np.array([1.0]), np.array([0.6]), 0.1, rng)[:, 0]
        return (_unit(units) * (MEAN_NORM + NORM_STD * norms)[:, None]).astype(np.float32)

    def _draw_shared(self, rng: np.random.Generator, text_mean: Array) -> Array:
        # Real mean activations have heavy tails: kurtosis 5 without the outlier channel, as Student's t with 7 degrees.
        shared = _unit(rng.standard_t(7, size=self.config.channels))
        shared = shared - (shared @ text_mean) * text_mean
        shared = np.sqrt(1 - TEXT_MEAN_COSINE**2) * _unit(shared) + TEXT_MEAN_COSINE * text_mean
        return SHARED_NORM * _unit(shared)

    def _scenes(self, timeline: Timeline, times_s: Array, rng: np.random.Generator) -> Array:
        """Draw the scene of every shot, with the norm of a real video's mean: (T, C), or (1, C) without cuts."""
        video = self._scene(timeline, rng)
        if self.config.shot_s == 0:
            return self._with_shared(video)[None]
        cuts_s = np.sort(rng.uniform(0, timeline.duration_s, rng.poisson(timeline.duration_s / self.config.shot_s)))
        shots = [self._scene(timeline, rng) for _ in range(len(cuts_s) + 1)]
        bases = [
            self._with_shared(_unit(np.sqrt(SHOT_SHARE) * video + np.sqrt(1 - SHOT_SHARE) * shot)) for shot in shots
        ]
        return np.stack(bases)[np.searchsorted(cuts_s, times_s)]

    def _scene(self, timeline: Timeline, rng: np.random.Generator) -> Array:
        """Draw the direction of a scene: (C,)."""
        share = self.config.context_share if timeline.actions else 0.0
        scene = np.sqrt(1 - share**2) * self._nuisance(1, rng)[0]
        if timeline.actions:
            classes = sorted({action.class_index for action in timeline.actions})
            scene = scene + share * _unit(self.context_directions[classes].sum(axis=0))
        return _unit(scene)

    def _with_shared(self, scene: Array) -> Array:
        """Add the part that all videos share to a scene's direction: (C,)."""
        base = self._shared + SCENE_NORM * scene
        pinned = np.zeros(len(base), dtype=bool)
        pinned[[self._outlier, self._runner_up]] = True
        base[self._outlier], base[self._runner_up] = OUTLIER, RUNNER_UP
        rest = np.sqrt(MEAN_DIRECTION**2 - OUTLIER**2 - RUNNER_UP**2)
        base[~pinned] *= rest / np.linalg.norm(base[~pinned])
        return base

    def _actions(self, timeline: Timeline, times_s: Array, rng: np.random.Generator) -> Array:
        """Sum the contributions of actions and distractors to every snippet: (T, C)."""
        config = self.config
        own_share = np.sqrt(max(0.0, 1 - config.class_share**2 - config.actionness_share**2))
        motion = config.actionness_share * self.actionness
        shown = [
            (a.start_s, a.end_s, config.class_share * self.class_directions[a.class_index] + motion)
            for a in timeline.actions
        ]
        shown += [
            (s.start_s, s.end_s, config.class_share * self.context_directions[s.class_index]) for s in timeline.scenes
        ]
        shown += [(start_s, end_s, motion) for start_s, end_s in timeline.bustle]
        total = np.zeros((len(times_s), config.channels))
        person = _unit(rng.standard_normal(config.channels))
        step_s = float(times_s[1] - times_s[0]) if len(times_s) > 1 else 1.0
        for start_s, end_s, direction in shown:
            own = own_share * _unit(person + _unit(rng.standard_normal(config.channels)))
            strength = np.clip(rng.normal(1.0, STRENGTH_STD), 0.5, 1.5)
            waver = _process(len(times_s), step_s, np.array([WAVER_S]), np.array([1.0]), FAST_S, rng)[:, 0]
            course = strength * np.clip(1 + WAVER_STD * waver, 0.2, 1.8) * self._envelope(start_s, end_s, times_s)
            total += ACTION_CONTRAST * course[:, None] * (direction + own)  # (T, 1) * (C,)
        return total

    def _envelope(self, start_s: float, end_s: float, times_s: Array) -> Array:
        """Fade from 0 to 1 and back; 10 % to 90 % of a boundary takes `boundary_s`: (T,)."""
        scale = 2 * np.log(9) / self.config.boundary_s
        rise = np.clip(scale * (times_s - start_s), -60, 60)
        fall = np.clip(scale * (end_s - times_s), -60, 60)
        return np.asarray(1 / ((1 + np.exp(-rise)) * (1 + np.exp(-fall))))

    def _drift(self, n_snippets: int, snippet_s: float, rng: np.random.Generator) -> Array:
        """Draw the drift, all changes in a video besides actions: (T, C)."""
        k = np.arange(1, DRIFT_DIRECTIONS + 1, dtype=np.float64)
        variance = (k + DRIFT_KNEE) ** -DRIFT_POWER
        times_s, slow_part = SLOW_S * k**-SLOW_DECAY, 1 / (1 + k / SLOW_KNEE)
        moves = _process(n_snippets, snippet_s, times_s, slow_part, FAST_S, rng)  # (T, directions)
        moves *= DRIFT_NORM * np.sqrt(variance / variance.sum())
        return moves @ self._nuisance(DRIFT_DIRECTIONS, rng)

    def _nuisance(self, count: int, rng: np.random.Generator) -> Array:
        """Draw unit directions that are no action, partly in the span of the classes: (count, C)."""
        seen = _unit(rng.standard_normal((count, len(self._nameable))) @ self._nameable)
        other = _unit(rng.standard_normal((count, self.config.channels)))
        return _unit(np.sqrt(NAMEABLE_SHARE) * seen + np.sqrt(1 - NAMEABLE_SHARE) * other)


def _process(
    n_snippets: int, step_s: float, times_s: Array, slow_part: Array, fast_s: float, rng: np.random.Generator
) -> Array:
    """Draw stationary Gaussian processes of variance 1, each a slow and a fast Ornstein-Uhlenbeck process: (T, n)."""
    n = len(times_s)
    scale = np.sqrt(np.concatenate([slow_part, 1 - slow_part]))
    decay = np.exp(-step_s / np.concatenate([times_s, np.full(n, fast_s)]))
    shocks = rng.standard_normal((n_snippets, 2 * n))
    shocks[1:] *= np.sqrt(1 - decay**2)
    for t in range(1, n_snippets):
        shocks[t] += decay * shocks[t - 1]
    shocks *= scale
    return shocks[:, :n] + shocks[:, n:]


def _unit(vectors: Array) -> Array:
    return np.asarray(vectors / np.linalg.norm(vectors, axis=-1, keepdims=True))
