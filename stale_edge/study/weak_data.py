"""Simulated videos with the two failures that the branches of weak supervision correct in each other.

CBP features peak at the middle of an action: whoever learns from video labels alone finds little more than the peak.
The rest of an action differs from the background, but weakly. VLP features show the class before the action starts and
after it ends, and in stretches of context without any action; a second direction, which lies in no class name, is there
during actions alone. All of this is our choice; no figure on such data holds for real video.
"""

import json
from pathlib import Path

import numpy as np

from stale_edge.bundle.class_bank import ClassBank
from stale_edge.bundle.files import folder_beside, replace_folder
from stale_edge.config import FeatureSpec
from stale_edge.data import DataSet, open_data_set
from stale_edge.data.folder import (
    ANNOTATIONS_FILE,
    CLASS_BANK_FILE,
    feature_spec_file,
    features_folder,
    write_feature_spec,
)
from stale_edge.segments import FloatArray
from stale_edge.training.alternating import VLP_ENCODER

CHANNELS = 64
LENGTH = 100
"""Snippets of a video, one a second."""
N_CLASSES = 8
PEAK_WIDTH, BODY = 0.15, 0.35
"""CBP: standard deviation of the peak as a share of the action, and the strength of the rest; the peak has 1."""
MARGIN, CONTEXT_CHANCE = 0.5, 0.7
"""VLP: how far a class shows beyond an action, as a share of it, and the chance of a stretch of context in a video."""
ACTION_STRENGTH = 0.6
"""VLP: strength of the direction that actions alone have; that of a class is 1."""
NOISE = 0.25
"""Standard deviation of a channel's noise, times the square root of the channels, over the strength of a class."""


def simulate_two_encoders(out: Path, *, n_videos: int, seed: int) -> DataSet:
    """Write a data set with the features of two encoders, unless it is there already.

    Args:
        out: the folder.
        n_videos: a third of them is for validation.
        seed: of all random numbers.
    """
    if not out.exists():
        out.parent.mkdir(parents=True, exist_ok=True)
        with folder_beside(out) as made:
            _write(made, n_videos, np.random.default_rng(seed))
            replace_folder(made, out)
    return open_data_set(out)


def _write(root: Path, n_videos: int, rng: np.random.Generator) -> None:
    names = tuple(f"action {letter}" for letter in "abcdefghijklmnopqrstuvwxyz"[:N_CLASSES])
    seen, text = _directions(rng, N_CLASSES), _directions(rng, N_CLASSES)
    action = _directions(rng, 1)[0]
    for encoder in ("", VLP_ENCODER):
        (root / features_folder(encoder)).mkdir()
        spec = FeatureSpec(encoder=f"simulated, {encoder or 'cbp'}", channels=CHANNELS)
        extra = {"simulation": {"annotations": "invented", "n_videos": n_videos}}
        write_feature_spec(root / feature_spec_file(encoder), spec, extra=extra)
    database = {}
    for number in range(n_videos):
        actions = _actions(rng)
        cbp, vlp = (NOISE * rng.standard_normal((LENGTH, CHANNELS)) for _ in range(2))
        place = np.arange(LENGTH) + 0.5
        for row, start, stop in actions:
            length = stop - start
            inside = (place > start) & (place < stop)
            peak = np.exp(-0.5 * ((place - (start + stop) / 2) / (PEAK_WIDTH * length)) ** 2)
            cbp += 2 * np.maximum(peak, BODY * inside)[:, None] * seen[row]
            wide = (place > start - MARGIN * length) & (place < stop + MARGIN * length)
            vlp += 2 * (wide[:, None] * text[row] + ACTION_STRENGTH * inside[:, None] * action)
        if rng.random() < CONTEXT_CHANCE:
            begin = int(rng.integers(0, LENGTH - 10))
            vlp[begin : begin + 10] += 2 * text[actions[0][0]]
        for encoder, features in (("", cbp), (VLP_ENCODER, vlp)):
            np.save(root / features_folder(encoder) / f"video_{number:04}.npy", features.astype(np.float32))
        database[f"video_{number:04}"] = {
            "duration": float(LENGTH),
            "subset": "validation" if number % 3 == 2 else "training",
            "annotations": [{"segment": [float(a), float(b)], "label": names[row]} for row, a, b in actions],
        }
    ClassBank(names, text.astype(np.float32), "simulated:directions").save(root / CLASS_BANK_FILE)
    document = {"version": "simulated", "taxonomy": [], "database": database}
    (root / ANNOTATIONS_FILE).write_text(json.dumps(document), encoding="utf-8")


def _actions(rng: np.random.Generator) -> list[tuple[int, int, int]]:
    """Draw two to four actions of one or two classes, apart from each other: (class, start, stop) in seconds."""
    classes = rng.choice(N_CLASSES, size=int(rng.integers(1, 3)), replace=False)
    n_actions = int(rng.integers(2, 5))
    slot = LENGTH // n_actions
    actions = []
    for part in range(n_actions):
        length = int(rng.integers(8, slot // 2 + 1)) if slot // 2 > 8 else 8
        start = part * slot + int(rng.integers(2, slot - length - 1))
        actions.append((int(classes[part % len(classes)]), start, start + length))
    return actions


def _directions(rng: np.random.Generator, n: int) -> FloatArray:
    vectors = rng.standard_normal((n, CHANNELS))
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)
