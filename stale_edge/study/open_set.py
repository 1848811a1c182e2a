"""How well a detector finds classes that it was not trained on: Table 1 of the thesis, Table 1 of the paper."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from stale_edge.config import Config
from stale_edge.data import DataSet, VideoScore, read_scores
from stale_edge.progress import Progress
from stale_edge.report.curves import Line, Panel
from stale_edge.study.class_splits import ClassSplit, published_split, random_split
from stale_edge.study.other_systems import EFFPROMPT, EFFPROMPT_NOTE, effprompt_config
from stale_edge.study.published import (
    PAPER_OPEN_SET,
    PAPER_TABLE_1,
    THESIS_OPEN_SET,
    THESIS_TABLE_1,
    PaperOpenSet,
    ThesisOpenSet,
)
from stale_edge.study.study import (
    Cell,
    Column,
    FinishedRun,
    Plot,
    Run,
    Spread,
    StudyOptions,
    Summary,
    Table,
    spread,
)
from stale_edge.study.study_data import describe_features, open_world, training_config, warn_of_simulation
from stale_edge.study.subsets import sample_videos, write_names
from stale_edge.study.trials import (
    MAP_COLUMNS,
    NO_SCORES,
    identity,
    map_cells,
    names_identity,
    run_trial,
    scores_identity,
    training_videos,
)

SEEN_PERCENTS = (75, 50)
HALF = 0.5
N_SUBSETS = 5
N_SPLITS, FULL_N_SPLITS = 2, 10
_ENHANCED = {"enhanced": "with", "plain": "without"}


class _Task(NamedTuple):
    """The training data of one run, and the classes that it is evaluated on."""

    classes: Path
    videos: Path
    unseen: tuple[str, ...]


class OpenSet:
    """Train on a part of the classes, evaluate on the others.

    All data: one run a class split. About half of the data: five subsets of the first class split, as in the thesis.

    Args:
        options: options of the study.
        scores: file of video-level scores for score enhancement; None: those of the data set.
        class_splits: folder of the published class lists; None: splits are drawn by the seed.
    """

    name = "open-set"

    def __init__(self, options: StudyOptions, *, scores: Path | None = None, class_splits: Path | None = None) -> None:
        self.options = options
        self._scores_file = scores
        self._class_splits = class_splits
        self._data_set: DataSet | None = None
        self._scores: Mapping[str, VideoScore] = {}
        self._tasks: dict[str, _Task] = {}

    def plan(self, progress: Progress) -> list[Run]:
        """List the runs, and write class lists to `out/class_splits/` and subsets to `out/subsets/`."""
        data_set = self._data_set = open_world(self.options, progress)
        self._scores = data_set.scores if self._scores_file is None else read_scores(self._scores_file)
        decides = {
            **identity(data_set, training_config(data_set, self.options)),
            "scores": scores_identity(self._scores),
        }
        effprompt = effprompt_config(training_config(data_set, self.options), data_set)
        runs: list[Run] = []
        for percent in SEEN_PERCENTS:
            for number in range(self.options.n_repeats(N_SPLITS, FULL_N_SPLITS)):
                split = self._split(data_set, percent, number)
                for name, videos in self._parts(data_set, split, percent, number).items():
                    key = f"seen{percent}-split{number}-{name}"
                    self._tasks[key] = self._write(key, f"seen{percent}-split{number}", split, videos)
                    parameters = {
                        "seen_percent": percent,
                        "split": number,
                        "half": name != "all",
                        "seen": names_identity(split.seen),
                        "unseen": names_identity(split.unseen),
                        "videos": names_identity(videos),
                        **decides,
                    }
                    runs.append(Run(key, parameters))
                if effprompt is not None:
                    runs.append(self._effprompt_run(f"seen{percent}-split{number}", runs, effprompt))
        return runs

    def _effprompt_run(self, split_key: str, runs: Sequence[Run], config: Config) -> Run:
        """Plan EffPrompt on all data of a class split, beside STALE's run."""
        beside = next(run for run in runs if run.key == f"{split_key}-all")
        key = f"{split_key}-{EFFPROMPT}"
        self._tasks[key] = self._tasks[beside.key]
        return Run(
            key, {**beside.parameters, "method": EFFPROMPT, "config": identity(self._opened(), config)["config"]}
        )

    def _parts(self, data_set: DataSet, split: ClassSplit, percent: int, number: int) -> dict[str, tuple[str, ...]]:
        """Choose the training videos of a class split: all, and for the first split about half of them, repeatedly."""
        videos = training_videos(data_set, split.seen)
        n_halves = self.options.n_repeats(N_SUBSETS, N_SUBSETS) if number == 0 else 0
        halves = {
            f"half{part + 1}": sample_videos(
                data_set.annotations, videos, HALF, seed=[self.options.seed, percent, part], classes=split.seen
            )
            for part in range(n_halves)
        }
        return {"all": videos, **halves}

    def execute(self, run: Run, *, scratch: Path, progress: Progress) -> dict[str, Any]:
        """Train on the seen classes, evaluate on the unseen ones."""
        data_set, task = self._opened(), self._tasks[run.key]
        config = training_config(data_set, self.options)
        if run.parameters.get("method") == EFFPROMPT:
            changed = effprompt_config(config, data_set)
            if changed is None:
                raise ValueError("text and features of the data set have different widths")
            config = changed
        config = dataclasses.replace(config, classes=str(task.classes), videos=str(task.videos))
        return run_trial(data_set, config, scores=self._scores, classes=task.unseen, scratch=scratch, progress=progress)

    def summarise(self, finished: Sequence[FinishedRun]) -> Summary:
        """Print both tables, own figures beside the published ones."""
        data_set = self._opened()
        features = describe_features(data_set)
        kinds = [kind for kind in _ENHANCED if all(done.result[kind] is not None for done in finished)]
        groups: dict[tuple[int, bool], list[Mapping[str, Any]]] = {}
        effprompt: dict[int, list[Mapping[str, Any]]] = {}
        for done in finished:
            if done.run.parameters.get("method") == EFFPROMPT:
                effprompt.setdefault(done.run.parameters["seen_percent"], []).append(done.result)
                continue
            groups.setdefault((done.run.parameters["seen_percent"], done.run.parameters["half"]), []).append(
                done.result
            )
        first = SEEN_PERCENTS[0]
        n_splits, n_subsets = len(groups[first, False]), len(groups[first, True])
        origin = "drawn by the seed" if self._class_splits is None else "as published"
        own = f"own: {features}, class splits {origin}"
        thesis = Table(
            "thesis-table-1",
            f"Open set, mAP in percent on unseen classes; {own}, mean ± deviation over splits (all data, here "
            f"{n_splits}) or subsets of the first split (half, here {n_subsets}); published: {THESIS_TABLE_1}, CLIP "
            "features of ActivityNet",
            _THESIS_COLUMNS,
            tuple(
                row
                for percent in SEEN_PERCENTS
                for kind in kinds
                for half in (False, True)
                for row in self._thesis_rows(percent, kind, half, groups[percent, half])
            ),
        )
        paper = Table(
            "paper-table-1",
            f"Open set as the paper compares methods, all data, mAP in percent; {own}; published: {PAPER_TABLE_1}, "
            "mean over ten class splits; the paper does not say whether scores were enhanced",
            _PAPER_COLUMNS,
            tuple(self._paper_rows(groups, kinds, effprompt)),
        )
        notes = [*warn_of_simulation(data_set), *([] if "enhanced" in kinds else [NO_SCORES])]
        if effprompt:
            notes.append(EFFPROMPT_NOTE)
        notes.append(
            "The video-level classifier behind published scores was trained on every class, also on those that are "
            "unseen here: with score enhancement the set is open for the localizer alone."
        )
        return Summary(
            title="Open set (thesis, Table 1; paper, Table 1)",
            features=features,
            tables=(thesis, paper),
            plots=(Plot("open-set", thesis.caption, tuple(_panel(thesis.rows, _ENHANCED[kind]) for kind in kinds)),),
            notes=tuple(notes),
        )

    def _thesis_rows(
        self, percent: int, kind: str, half: bool, results: Sequence[Mapping[str, Any]]
    ) -> tuple[dict[str, Cell], dict[str, Cell]]:
        """Give an own row and the published one."""
        published = next(
            row
            for row in THESIS_OPEN_SET
            if (row.seen_percent, row.enhanced, row.half) == (percent, kind == "enhanced", half)
        )
        shared: dict[str, Cell] = {
            "split": f"{percent}/{100 - percent}",
            "enhancement": _ENHANCED[kind],
            "data": "half" if half else "all",
        }
        own = {"n_videos": spread([result["n_videos"] for result in results]), **map_cells(results, kind)}
        return {**shared, "origin": "own", **own}, {**shared, **_published(published), "n_videos": published.n_videos}

    def _paper_rows(
        self,
        groups: Mapping[tuple[int, bool], Sequence[Mapping[str, Any]]],
        kinds: Sequence[str],
        effprompt: Mapping[int, Sequence[Mapping[str, Any]]],
    ) -> list[dict[str, Cell]]:
        rows: list[dict[str, Cell]] = []
        for percent in SEEN_PERCENTS:
            split = f"{percent}/{100 - percent}"
            rows += [
                {"split": split, "method": row.method, **_published(row)}
                for row in PAPER_OPEN_SET
                if row.seen_percent == percent
            ]
            trained = groups[percent, False]
            rows += [
                {"split": split, "method": f"STALE, {_ENHANCED[kind]} enhancement", **map_cells(trained, kind)}
                | {"origin": "own"}
                for kind in kinds
            ]
            if percent in effprompt:
                rows += [
                    {"split": split, "method": f"EffPrompt, two-stage, {_ENHANCED[kind]} enhancement"}
                    | map_cells(effprompt[percent], kind)
                    | {"origin": "own"}
                    for kind in kinds
                ]
            if all(result["training_free"] is not None for result in trained):
                rows.append(
                    {"split": split, "method": "training-free cosine", **map_cells(trained, "training_free")}
                    | {"origin": "own"}
                )
        return rows

    def _split(self, data_set: DataSet, percent: int, number: int) -> ClassSplit:
        """Take one class split, without classes that the data set does not show."""
        known = data_set.class_names
        if self._class_splits is None:
            return random_split(known, seen_percent=percent, number=number, seed=self.options.seed)
        listed = published_split(self._class_splits, seen_percent=percent, number=number, known=known)
        return ClassSplit(*(tuple(name for name in part if name in set(known)) for part in listed))

    def _write(self, key: str, split_key: str, split: ClassSplit, videos: Sequence[str]) -> _Task:
        out = self.options.out
        classes = write_names(out / "class_splits" / f"{split_key}-seen.list", split.seen)
        write_names(out / "class_splits" / f"{split_key}-unseen.list", split.unseen)
        return _Task(classes, write_names(out / "subsets" / f"{key}.list", videos), split.unseen)

    def _opened(self) -> DataSet:
        assert self._data_set is not None, "plan comes first"
        return self._data_set


def _panel(rows: Sequence[Mapping[str, Cell]], enhancement: str) -> Panel:
    """Draw the averages of Table 1 over the part of the classes that is seen."""
    lines = []
    for origin in ("own", "published"):
        for data in ("all", "half"):
            chosen = [r for r in rows if (r["enhancement"], r["origin"], r["data"]) == (enhancement, origin, data)]
            chosen.sort(key=lambda row: str(row["split"]))
            cells = [cell if isinstance(cell := row["average_mAP"], Spread) else None for row in chosen]
            lines.append(
                Line(
                    f"{origin}, {data} data",
                    tuple(float(str(row["split"]).partition("/")[0]) for row in chosen),
                    tuple(
                        float(str(row["average_mAP"])) if cell is None else cell.mean
                        for row, cell in zip(chosen, cells, strict=True)
                    ),
                    None if None in cells else tuple(cell.std or 0.0 for cell in cells if cell is not None),
                    published=origin == "published",
                )
            )
    return Panel(f"{enhancement} score enhancement", "classes that are seen, %", "average mAP, %", tuple(lines))


def _published(row: ThesisOpenSet | PaperOpenSet) -> dict[str, Cell]:
    return {
        "origin": "published",
        "mAP_0.5": row.mAP_50,
        "mAP_0.75": row.mAP_75,
        "mAP_0.95": row.mAP_95,
        "average_mAP": row.average_mAP,
    }


_THESIS_COLUMNS = (
    Column("split", "seen/unseen"),
    Column("enhancement", "score enhancement"),
    Column("data", "data"),
    Column("origin", ""),
    Column("n_videos", "videos", 0),
    *MAP_COLUMNS,
)
_PAPER_COLUMNS = (Column("split", "seen/unseen"), Column("method", "method"), Column("origin", ""), *MAP_COLUMNS)
