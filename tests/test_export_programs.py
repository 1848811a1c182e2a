"""The harness of the programs in export/: what it accepts, and that it can fail. `make runtimes` runs the programs."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

EXPORT = Path(__file__).resolve().parent.parent / "export"


def _script(name: str) -> ModuleType:
    """Load a script of the folder, which is no package."""
    spec = importlib.util.spec_from_file_location(f"export_{name}", EXPORT / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


conformance, runtimes = _script("conformance"), _script("runtimes")
FOLDERS = sorted(path.parent.name for path in EXPORT.glob("*/runtime.toml"))


def rows(*detections: tuple[str, float, float, float]) -> list[dict]:
    return [{"label": label, "score": score, "segment": [start, end]} for label, score, start, end in detections]


REST = (("run", 0.5, 2.0, 6.0), ("run", 0.02, 0.0, 1.0))
EXPECTED = rows(("jump", 0.9, 1.0, 4.0), *REST)


@pytest.mark.parametrize(
    ("got", "level", "said"),
    [
        (EXPECTED, "exact", "exact"),
        (
            rows(("jump", 0.9001, 1.0, 4.0), *REST),
            "close",
            "same segments",
        ),
        (rows(("jump", 0.9, 1.0, 4.05), *REST), "close", "close, "),
        (EXPECTED[:2], "0.9", "100% match"),  # what scores below 0.05 is noise to a share
        (rows(("jump", 0.85, 1.0, 4.0), ("run", 0.5, 2.0, 5.9)), "0.9", "100% match"),
    ],
    ids=["same", "a score off by 1e-4", "a segment off by 0.5 %", "without noise", "int8 elsewhere"],
)
def test_what_is_as_good_as_demanded_passes(got: list[dict], level: str, said: str) -> None:
    assert conformance._compare([("case", EXPECTED, got)], [10.0], level).startswith(said)


@pytest.mark.parametrize(
    ("got", "level"),
    [
        (rows(("jump", 0.9 + 1e-12, 1.0, 4.0), *REST), "exact"),
        (rows(("jump", 0.902, 1.0, 4.0), *REST), "close"),
        (rows(("jump", 0.9, 1.0, 4.2), *REST), "close"),
        (rows(("swim", 0.9, 1.0, 4.0), *REST), "close"),
        (EXPECTED[:2], "close"),
        ([*EXPECTED, *rows(("run", 0.01, 3.0, 4.0))], "close"),
        (EXPECTED[:1], "0.9"),
        ([*EXPECTED, *rows(("swim", 0.4, 3.0, 4.0))], "0.9"),  # a detection too many counts as one too few
        ([], "0.9"),
    ],
    ids=["1e-12", "score", "segment", "label", "one less", "one more", "half", "invented", "none"],
)
def test_what_is_worse_than_demanded_fails(got: list[dict], level: str) -> None:
    with pytest.raises(conformance.ConformanceError, match="case: detections differ"):
        conformance._compare([("case", EXPECTED, got)], [10.0], level)


@pytest.mark.parametrize(
    ("out", "said"),
    [
        ("", "not one JSON document"),
        ('{"version": "1.3", "results": {"v": []}, "external_data": {}} trailing', "not one JSON document"),
        ('{"version": "1.3", "results": {"other": []}, "external_data": {}}', "not the layout"),
        ('{"version": "1", "results": {"v": [{"label": "a", "score": NaN}]}, "external_data": {}}', "NaN is no JSON"),
        ('{"version": "1", "results": {"v": [{"label": "a", "score": 1}]}, "external_data": {}}', "not a detection"),
    ],
)
def test_output_that_is_not_the_layout_fails(out: str, said: str) -> None:
    with pytest.raises(conformance.ConformanceError, match=said):
        conformance._parse(out, "v")


def test_every_folder_says_how_it_is_built_and_has_a_readme_that_names_its_test() -> None:
    assert FOLDERS, "no folder of export/ has a runtime.toml"
    for folder in FOLDERS:
        runtime = runtimes.Runtime.read(EXPORT / folder / "runtime.toml")
        assert runtime.test, folder
        assert f"make runtimes RUNTIMES={folder}" in (EXPORT / folder / "README.md").read_text(encoding="utf-8")


def test_a_runtime_with_an_unknown_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "runtime.toml"
    path.write_text('title = "T"\ntest = []\nversion = ""\nsize = []\ntypo = 1\n', encoding="utf-8")
    with pytest.raises(SystemExit, match="unknown \\['typo'\\]"):
        runtimes.Runtime.read(path)


def test_a_runtime_that_cannot_be_had_fails_unless_it_is_optional(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(runtimes, "WORK", tmp_path)
    monkeypatch.setattr(runtimes, "EXPORT", tmp_path)
    (tmp_path / "there").mkdir()
    needs = {"title": "T", "test": ("true",), "version": "echo 1", "size": ("x",), "requires": ("no-such-program",)}
    for optional in (False, True):
        row = runtimes.run(runtimes.Runtime(folder="there", optional=optional, **needs))
        assert row.outcome == "not run: no-such-program is not on PATH"
        assert row.counts is not optional
    broken = runtimes.Runtime(
        folder="there", optional=True, **{**needs, "requires": (), "test": ("echo FAILED: no; false",)}
    )
    row = runtimes.run(broken)
    assert row.outcome.startswith("FAILED: test: FAILED: no")
    assert row.counts, "a program that runs and is wrong always counts"


def test_links_between_the_folders_lead_somewhere() -> None:
    for page in EXPORT.rglob("README.md"):
        if "node_modules" in page.parts:
            continue
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page}: {target}"


def test_the_scripts_say_what_they_do() -> None:
    for name in ("conformance", "runtimes"):
        done = subprocess.run(
            [sys.executable, EXPORT / f"{name}.py", "--help"], capture_output=True, check=True, text=True
        )
        assert f"{name}.py" in done.stdout
