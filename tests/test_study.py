"""What all studies share: resuming, refusing, tables, plots, parts of the videos."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from stale_edge.data import Action, Annotations, VideoAnnotation
from stale_edge.errors import ConfigError, DataError
from stale_edge.report.curves import Line, Panel, draw_panels
from stale_edge.study import (
    Column,
    FinishedRun,
    Plot,
    Run,
    Spread,
    StudyOptions,
    Summary,
    Table,
    run_study,
    spread,
)
from stale_edge.study.results import to_markdown
from stale_edge.study.subsets import sample_videos, write_names


class Squares:
    """A study that squares numbers, and stops at a given number."""

    name = "squares"

    def __init__(self, numbers: Sequence[int] = (1, 2, 3), *, power: int = 2, fails_at: int | None = None) -> None:
        self.numbers, self.power, self.fails_at = numbers, power, fails_at
        self.made: list[str] = []

    def plan(self, progress: object) -> list[Run]:  # noqa: ARG002
        return [Run(f"n-{n}", {"number": n, "power": self.power, "sizes": (1, 2)}) for n in self.numbers]

    def execute(self, run: Run, *, scratch: Path, progress: object) -> Mapping[str, Any]:  # noqa: ARG002
        (scratch / "leftover").write_text("half")
        if run.parameters["number"] == self.fails_at:
            raise KeyboardInterrupt
        self.made.append(run.key)
        return {"value": float(run.parameters["number"] ** self.power)}

    def summarise(self, finished: Sequence[FinishedRun]) -> Summary:
        rows = tuple({"n": f.run.parameters["number"], "own": f.result["value"]} for f in finished)
        line = Line("own", tuple(float(r["n"]) for r in rows), tuple(float(r["own"]) for r in rows))
        return Summary(
            title="Squares",
            features="no features",
            tables=(Table("squares", "of numbers", (Column("n", "n"), Column("own", "n²", 2)), rows),),
            plots=(Plot("squares", "drawn", (Panel("squares", "n", "n²", (line,)),)),),
            notes=("exact",),
        )


def test_a_study_resumes_where_it_was_stopped(tmp_path: Path) -> None:
    stopped = Squares(fails_at=2)
    with pytest.raises(KeyboardInterrupt):
        run_study(stopped, tmp_path)
    assert stopped.made == ["n-1"]
    assert (tmp_path / "work" / "n-2" / "leftover").exists()  # a long run may go on from there
    first = (tmp_path / "runs" / "n-1.json").read_bytes()
    calls: list[tuple[Any, ...]] = []
    again = Squares()
    run_study(again, tmp_path, progress=lambda *call: calls.append(call))
    assert again.made == ["n-2", "n-3"]
    assert [call[:3] for call in calls] == [("study", 1, 3), ("study", 2, 3), ("study", 3, 3)]
    assert (tmp_path / "runs" / "n-1.json").read_bytes() == first
    assert not (tmp_path / "work").exists()
    run = json.loads((tmp_path / "runs" / "n-2.json").read_text())
    assert (run["schema"], run["study"], run["result"]) == ("stale-edge-study/1", "squares", {"value": 4.0})
    assert run["parameters"] == {"number": 2, "power": 2, "sizes": [1, 2]}
    complete = Squares()
    run_study(complete, tmp_path)
    assert complete.made == []


def test_a_run_file_that_was_cut_off_is_made_again(tmp_path: Path) -> None:
    run_study(Squares(), tmp_path)
    whole = (tmp_path / "runs" / "n-3.json").read_bytes()
    for cut in (b"", whole[:40], b"[1]"):
        (tmp_path / "runs" / "n-3.json").write_bytes(cut)
        again = Squares()
        run_study(again, tmp_path)
        assert again.made == ["n-3"]


def test_other_settings_are_refused_before_anything_is_made(tmp_path: Path) -> None:
    run_study(Squares(), tmp_path)
    other = Squares((7, 2), power=3)
    with pytest.raises(DataError, match=r"n-2\.json: made with other settings \(power was 2, is 3\)"):
        run_study(other, tmp_path)
    assert other.made == []
    foreign = Squares()
    foreign.name = "cubes"
    with pytest.raises(DataError, match="not a run of the study cubes"):
        run_study(foreign, tmp_path)
    (tmp_path / "file").write_text("years of work")
    with pytest.raises(DataError, match="needs a folder"):
        run_study(Squares(), tmp_path / "file")


@pytest.mark.parametrize("keys", [("a", "a"), ("../a",), ("",), ("a b",)])
def test_keys_are_distinct_file_names(tmp_path: Path, keys: tuple[str, ...]) -> None:
    study = Squares()
    study.plan = lambda _: [Run(key, {}) for key in keys]  # type: ignore[method-assign]
    with pytest.raises(ValueError, match="key"):
        run_study(study, tmp_path)


def test_a_result_that_is_not_finite_is_not_written(tmp_path: Path) -> None:
    study = Squares()
    study.execute = lambda _run, **_: {"value": float("nan")}  # type: ignore[method-assign]
    with pytest.raises(ValueError, match="Out of range"):
        run_study(study, tmp_path)
    assert not list((tmp_path / "runs").iterdir())


def test_tables_and_plots_are_written(tmp_path: Path) -> None:
    run_study(Squares(), tmp_path)
    assert (tmp_path / "squares.png").read_bytes().startswith(b"\x89PNG")
    assert b"<svg" in (tmp_path / "squares.svg").read_bytes()
    text = (tmp_path / "table.md").read_text()
    assert "| n | n² |\n|---|---:|\n| 1 | 1.00 |\n| 2 | 4.00 |" in text
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["schema"] == "stale-edge-study-summary/1"
    assert summary["tables"][0]["rows"][1] == {"n": 2, "own": 4.0}
    assert summary["machine"]["packages"]["numpy"]


def test_cells_say_what_is_missing_and_how_values_spread() -> None:
    columns = (Column("a", "a", 2), Column("b", "b"))
    rows: tuple[dict[str, Any], ...] = ({"a": Spread(1.234, 0.05, 5)}, {"a": spread([2.0]), "b": "x|y"})
    text = to_markdown(Summary("t", "none", (Table("t", "c", columns, rows),)))
    assert "| 1.23 ± 0.05 | - |" in text
    assert "| 2.00 | x\\|y |" in text
    assert spread([1.0, 2.0, 3.0]) == Spread(2.0, 1.0, 3)
    with pytest.raises(ValueError, match="at least one"):
        spread([])


def test_drawing_is_reproducible_and_checks_its_lines() -> None:
    panel = Panel("t", "x", "y", (Line("a", (1, 2), (3, 4), (0.1, 0.2)), Line("b", (1,), (2,), published=True)))
    for kind in ("png", "svg"):
        assert draw_panels([panel], caption="c", kind=kind) == draw_panels([panel], caption="c", kind=kind)
    with pytest.raises(ValueError, match="as many numbers as places"):
        draw_panels([Panel("t", "x", "y", (Line("a", (1, 2), (3,)),))], caption="c")
    with pytest.raises(ValueError, match="at least one panel"):
        draw_panels([], caption="c")


def test_options_scale_counts_but_never_the_full_protocol() -> None:
    small = StudyOptions(Path("out"), scale=0.1)
    assert (small.count(100, 5), small.count(3, 5), small.count(3, 5, at_least=2)) == (10, 1, 2)
    assert StudyOptions(Path("out"), scale=0.1, full=True).count(100, 5) == 5
    for wrong in ({"scale": 0.0}, {"scale": float("inf")}, {"seed": -1}):
        with pytest.raises(ConfigError, match="of a study must be"):
            StudyOptions(Path("out"), **wrong)


def _annotations(n_videos: int, n_classes: int) -> Annotations:
    """Classes of very different size: class k has about one in 2 ** (k + 1) videos."""
    videos = {}
    for i in range(n_videos):
        k = next((k for k in range(n_classes - 1) if (i >> k) & 1), n_classes - 1)
        videos[f"v{i:03}"] = VideoAnnotation(10.0, "training", (Action(f"class {k}", 1.0, 2.0),))
    return Annotations(videos)


@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.5, 0.8, 1.0])
def test_every_part_shows_every_class(fraction: float) -> None:
    annotations = _annotations(128, 7)
    videos = tuple(annotations.videos)
    for seed in range(20):
        part = sample_videos(annotations, videos, fraction, seed=seed)
        assert {annotations.videos[video].actions[0].label for video in part} == set(annotations.classes)
        assert len(set(part)) == len(part)
        assert list(part) == [video for video in videos if video in part]
        assert round(fraction * 128) <= len(part) <= round(fraction * 128) + 7
        assert part == sample_videos(annotations, videos, fraction, seed=seed)


def test_parts_are_drawn_uniformly() -> None:
    annotations = _annotations(64, 2)
    videos = tuple(annotations.videos)
    counts = dict.fromkeys(videos, 0)
    n_draws = 2000
    for seed in range(n_draws):
        for video in sample_videos(annotations, videos, 0.25, seed=seed):
            counts[video] += 1
    # A binomial share of 1/4 over 2000 draws has a standard deviation of 0.0097; 64 videos, so five of them.
    assert all(abs(count / n_draws - 0.25) < 0.05 for count in counts.values())


def test_only_the_classes_that_are_asked_for_must_be_there(tmp_path: Path) -> None:
    annotations = _annotations(128, 7)
    videos = tuple(annotations.videos)
    part = sample_videos(annotations, videos, 0.01, seed=0, classes={"class 6"})
    assert "class 6" in {annotations.videos[video].actions[0].label for video in part}
    assert len(part) <= 2
    path = write_names(tmp_path / "subsets" / "a.list", part)
    assert path.read_text().splitlines() == list(part)
    with pytest.raises(ValueError, match="fraction"):
        sample_videos(annotations, videos, 0.0, seed=0)


def test_numbers_that_are_given_replace_those_of_the_scale() -> None:
    options = StudyOptions(Path("out"), scale=0.1, repeats=3)
    assert (options.n_repeats(10, 5), StudyOptions(Path("out"), full=True).n_repeats(1, 5)) == (3, 5)
    for wrong in ({"videos": 0}, {"repeats": 0}):
        with pytest.raises(ConfigError, match="of a study must be an integer >= 1"):
            StudyOptions(Path("out"), **wrong)
