"""Which classes are seen in training and which are not: the published lists, or random ones."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from stale_edge.data import read_split
from stale_edge.data.annotations import read_json, refusing
from stale_edge.errors import DataError, cut


class ClassSplit(NamedTuple):
    """Two disjoint parts of the classes."""

    seen: tuple[str, ...]
    unseen: tuple[str, ...]


def published_split(root: Path, *, seen_percent: int, number: int, known: Sequence[str]) -> ClassSplit:
    """Read one of the published class splits.

    They lie in `<75_25 or train_75_test_25>/.../{train,test}/split_<number>.list`, as in the repositories of
    Efficient-Prompt and STALE.

    A JSON file with all of them can stand in the folders' place: `{"splits": {"<data set>/<seen percent>": {"all":
    [class names], "test": [one list of unseen classes a split]}}}`; there the seen classes are all others.

    Args:
        root: folder with the folders of both proportions, or such a file.
        seen_percent: 75 or 50.
        number: 0 to 9 as published.
        known: classes of the data set; lists of another data set beside them are passed over.

    Raises:
        DataError: there is no such list for these classes, or its two parts share a class.
    """
    if root.is_file():
        return _listed_split(root, seen_percent=seen_percent, number=number, known=known)
    names = (f"{seen_percent}_{100 - seen_percent}", f"train_{seen_percent}_test_{100 - seen_percent}")
    paths = [path for name in names for path in sorted((root / name).rglob(f"train/split_{number}.list"))]
    for path in paths:
        split = ClassSplit(read_split(path), read_split(path.parent.parent / "test" / path.name))
        shared = sorted(set(split.seen) & set(split.unseen))
        if shared:
            raise DataError(f"{path}: classes that are also in the test list: {', '.join(shared)}")
        if set(known) <= {*split.seen, *split.unseen}:
            return split
    found = f"{len(paths)} lists of other classes" if paths else "no such file"
    raise DataError(
        f"{root}: no class split {number} of {names[0]} for the {len(known)} classes of the data set: {found}; "
        f"expected {names[0]}/train/split_{number}.list and {names[0]}/test/split_{number}.list"
    )


def _listed_split(path: Path, *, seen_percent: int, number: int, known: Sequence[str]) -> ClassSplit:
    """Take a split of the data set whose classes are known from a JSON file of all published splits."""
    document = read_json(path, refusing(path))
    splits = document.get("splits") if isinstance(document, dict) else None
    if not isinstance(splits, dict):
        raise DataError(f'{path}: must hold an object "splits" with the published class splits')
    for name, lists in splits.items():
        try:
            classes, tests = tuple(map(str, lists["all"])), [tuple(map(str, test)) for test in lists["test"]]
        except (KeyError, TypeError) as error:
            raise DataError(f'{path}: "{cut(name)}" must hold "all" and "test", lists of class names') from error
        if name.endswith(f"/{seen_percent}") and set(known) <= set(classes):
            if not 0 <= number < len(tests) or not set(tests[number]) <= set(classes):
                raise DataError(
                    f'{path}: "{cut(name)}" must list {number + 1} splits of its own classes; it lists {len(tests)}'
                )
            return ClassSplit(tuple(c for c in classes if c not in tests[number]), tests[number])
    raise DataError(f"{path}: no class splits with {seen_percent} % seen for the {len(known)} classes of the data set")


def random_split(classes: Sequence[str], *, seen_percent: int, number: int, seed: int) -> ClassSplit:
    """Draw a class split; the same seed and number always give the same one.

    Raises:
        ValueError: there are fewer than two classes.
    """
    if len(classes) < 2:
        raise ValueError(f"a class split needs at least two classes; got {len(classes)}")
    n_seen = min(max(1, round(seen_percent / 100 * len(classes))), len(classes) - 1)
    order = np.random.default_rng([seed, seen_percent, number]).permutation(len(classes))
    seen = {classes[i] for i in order[:n_seen]}
    return ClassSplit(
        tuple(name for name in classes if name in seen), tuple(name for name in classes if name not in seen)
    )
