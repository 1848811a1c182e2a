"""How much data the closed set needs: Figure 3 of the thesis."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stale_edge.config import Config
from stale_edge.data import DataSet, VideoScore, read_scores
from stale_edge.progress import Progress
from stale_edge.report.curves import Line, Panel
from stale_edge.study.other_systems import ACTIONFORMER, ACTIONFORMER_NOTE, actionformer_config
from stale_edge.study.published import (
    THESIS_CLOSED_SET,
    THESIS_CLOSED_SET_FINDINGS,
    THESIS_FIGURE_3,
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
    TIOUS,
    identity,
    map_cells,
    names_identity,
    run_trial,
    scores_identity,
    training_videos,
)

PERCENTS = (10, 20, 40, 60, 80, 100)
N_SUBSETS = 5
_KINDS = {"plain": "without", "enhanced": "with"}
_KIND_OF = {named: kind for kind, named in _KINDS.items()}


class DataEfficiency:
    """Train on parts of the videos, with every class in each part; evaluate on all validation videos.

    Args:
        options: options of the study.
        scores: file of video-level scores for score enhancement; None: those of the data set.
        percents: parts of the training videos, each in 1 to 100.
    """

    name = "data-efficiency"

    def __init__(
        self, options: StudyOptions, *, scores: Path | None = None, percents: Sequence[int] = PERCENTS
    ) -> None:
        if not percents or len(set(percents)) < len(percents) or not all(1 <= percent <= 100 for percent in percents):
            raise ValueError(f"percents must be different whole numbers from 1 to 100; got {list(percents)}")
        self.options = options
        self.percents = tuple(percents)
        self._scores_file = scores
        self._data_set: DataSet | None = None
        self._scores: Mapping[str, VideoScore] = {}
        self._parts: dict[str, tuple[str, ...]] = {}

    def plan(self, progress: Progress) -> list[Run]:
        """List the runs, and write each part of the videos to `out/subsets/`.

        Every part of 100 % has the same videos, so it is trained once.
        """
        data_set = self._data_set = open_world(self.options, progress)
        self._scores = data_set.scores if self._scores_file is None else read_scores(self._scores_file)
        videos = training_videos(data_set)
        decides = {**identity(data_set, self._config(data_set)), "scores": scores_identity(self._scores)}
        runs = []
        for percent in self.percents:
            for number in range(1 if percent == 100 else self.options.n_repeats(N_SUBSETS, N_SUBSETS)):
                part = sample_videos(
                    data_set.annotations, videos, percent / 100, seed=[self.options.seed, percent, number]
                )
                key = f"p{percent:03}-{number + 1}"
                write_names(self._list(key), part)
                self._parts[key] = part
                runs.append(Run(key, {"percent": percent, "videos": names_identity(part), **decides}))
                if number == 0:
                    config = identity(data_set, self._config(data_set, ACTIONFORMER))["config"]
                    runs.append(
                        Run(f"{key}-{ACTIONFORMER}", {**runs[-1].parameters, "method": ACTIONFORMER, "config": config})
                    )
                    self._parts[runs[-1].key] = part
        return runs

    def execute(self, run: Run, *, scratch: Path, progress: Progress) -> dict[str, Any]:
        """Train on the part of a run."""
        data_set = self._opened()
        config = self._config(data_set, str(run.parameters.get("method", "")))
        config = dataclasses.replace(config, videos=str(self._list(run.key.removesuffix(f"-{ACTIONFORMER}"))))
        return run_trial(data_set, config, scores=self._scores, classes=None, scratch=scratch, progress=progress)

    def summarise(self, finished: Sequence[FinishedRun]) -> Summary:
        """Print own and published figures by the part of the data."""
        features = describe_features(self._opened())
        results: dict[int, list[Mapping[str, Any]]] = {}
        others: dict[int, Mapping[str, Any]] = {}
        for done in finished:
            if done.run.parameters.get("method") == ACTIONFORMER:
                others[done.run.parameters["percent"]] = done.result
                continue
            results.setdefault(done.run.parameters["percent"], []).append(done.result)
        kinds = [kind for kind in _KINDS if all(done.result[kind] is not None for done in finished)]
        rows = [self._row(percent, kind, results[percent]) for kind in kinds for percent in sorted(results)]
        published = {(p.method, p.percent, p.enhanced): p for p in THESIS_CLOSED_SET}
        for row in rows:
            for method, column in (("STALE", "published"), ("ActionFormer", "action_former")):
                point = published.get((method, int(str(row["percent"])), row["enhancement"] == "with"))
                row[column] = None if point is None else point.average_mAP
            other = others[int(str(row["percent"]))][_KIND_OF[str(row["enhancement"])]]
            row["own_action_former"] = None if other is None else other["average_mAP"]
        caption = (
            f"Closed set, mAP in percent by the part of the training videos; own: {features}, mean ± deviation over "
            f"parts (here {len(results[min(results)])}); published: {THESIS_FIGURE_3}, CLIP features of ActivityNet"
        )
        return Summary(
            title="Data efficiency, closed set (thesis, Figure 3)",
            features=features,
            tables=(Table("data-efficiency", caption, _COLUMNS, tuple(rows)),),
            plots=(Plot("data-efficiency", caption, tuple(self._panels(rows))),),
            notes=self._notes(kinds),
        )

    def _row(self, percent: int, kind: str, results: Sequence[Mapping[str, Any]]) -> dict[str, Cell]:
        return {
            "enhancement": _KINDS[kind],
            "percent": percent,
            "n_videos": spread([result["n_videos"] for result in results]),
            **map_cells(results, kind),
        }

    def _panels(self, rows: Sequence[Mapping[str, Cell]]) -> list[Panel]:
        """Draw Figure 3: mAP by tIoU with and without score enhancement, and the averages."""

        def line(kind: str, column: str, label: str) -> Line:
            own = [row for row in rows if row["enhancement"] == kind]
            cells = [cell for row in own if isinstance(cell := row[column], Spread)]
            return Line(
                label,
                tuple(float(str(row["percent"])) for row in own),
                tuple(cell.mean for cell in cells),
                tuple(cell.std or 0.0 for cell in cells),
            )

        kinds = sorted({str(row["enhancement"]) for row in rows})
        panels = [
            Panel(
                f"{kind} score enhancement",
                "training videos, %",
                "mAP, %",
                tuple(line(kind, f"mAP_{tiou}", f"tIoU {tiou}") for tiou in TIOUS),
            )
            for kind in kinds
        ]
        published = [
            Line(
                f"{point.method}, {'with' if point.enhanced else 'without'} ({point.source})",
                (float(point.percent),),
                (point.average_mAP,),
                published=True,
            )
            for point in THESIS_CLOSED_SET
        ]
        own = [line(kind, "average_mAP", f"own, {kind}") for kind in kinds]
        for kind in kinds:
            points = [
                (float(str(row["percent"])), float(str(row["own_action_former"])))
                for row in rows
                if row["enhancement"] == kind
            ]
            x, y = zip(*points, strict=True)
            own.append(Line(f"own ActionFormer, {kind}", x, y))
        return [*panels, Panel("average", "training videos, %", "average mAP, %", (*own, *published))]

    def _notes(self, kinds: Sequence[str]) -> tuple[str, ...]:
        notes = [
            *warn_of_simulation(self._opened()),
            "The thesis draws its curves and ActionFormer's without printing their points; of each only the end at "
            "100 % stands as a number (Table 2). Of the curves it says: " + "; ".join(THESIS_CLOSED_SET_FINDINGS) + ".",
            "Every part is a file in subsets/, which `stale-edge train --videos FILE` takes.",
            "At 100 % there is one part, so no spread; ActionFormer is trained on the first part of each size.",
            ACTIONFORMER_NOTE,
        ]
        if "enhanced" not in kinds:
            notes.append(NO_SCORES)
        return tuple(notes)

    def _config(self, data_set: DataSet, method: str = "") -> Config:
        config = training_config(data_set, self.options)
        return actionformer_config(config, data_set, full=self.options.full) if method == ACTIONFORMER else config

    def _list(self, key: str) -> Path:
        return self.options.out / "subsets" / f"{key}.list"

    def _opened(self) -> DataSet:
        assert self._data_set is not None, "plan comes first"
        return self._data_set


_COLUMNS = (
    Column("percent", "videos, %"),
    Column("enhancement", "score enhancement"),
    Column("n_videos", "videos", 0),
    *MAP_COLUMNS,
    Column("own_action_former", "ActionFormer, own average"),
    Column("published", "STALE, published average"),
    Column("action_former", "ActionFormer, published average"),
)
