"""The figures of our documents: tables made of records, and links to records that exist."""

import re
import runpy
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
TABLES: dict[str, Any] = runpy.run_path(str(ROOT / "bench" / "tables.py"))
RECORD = re.compile(r"(?:bench/)?results/([\w./*-]+\.(?:json|md|png))")


@pytest.mark.parametrize("path", TABLES["DOCUMENTS"], ids=lambda path: str(path.relative_to(ROOT)))
def test_tables_say_what_their_records_say(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("<!-- table ") == text.count("<!-- end of table -->")
    assert TABLES["rewritten"](text) == text, "run bench/tables.py"


def test_every_record_that_is_cited_exists() -> None:
    cited = {(path, name) for path in TABLES["DOCUMENTS"] for name in RECORD.findall(path.read_text(encoding="utf-8"))}
    missing = [f"{path.name}: {name}" for path, name in cited if not list(TABLES["RESULTS"].glob(name))]
    assert len(cited) > 15
    assert not missing


def test_a_changed_figure_is_noticed() -> None:
    begin, end = "<!-- table ladder baselines.json -->\n", "<!-- end of table -->"
    made = TABLES["rewritten"](f"{begin}{end}")
    assert "| light, video-mean | " in made
    changed = made.replace("| light, video-mean | ", "| light, video-mean | 1")
    assert TABLES["rewritten"](changed) == made != changed


HAND_MADE = ("tried", "changed", "also left in bf16")
"""Heads of tables of attempts: notes from the work, as the page says at its top. They are not cited anywhere."""


def _tables_without_a_record(text: str) -> list[str]:
    """Name the tables of figures that are neither made from a record nor in a section that cites one or says it is not.

    A table of figures has at least two rows in which a cell begins with a number.
    """
    found = []
    for section in re.split(r"^(?=#{2,3} )", text, flags=re.MULTILINE):
        if re.search(r"results/[\w.*-]+", section) or "No record" in section:
            continue
        for table in re.findall(r"(?:^\|.*\n)+", section, flags=re.MULTILINE):
            head, *rows = table.splitlines()
            figures = [row for row in rows if re.search(r"\| [+-]?\d", row)]
            if len(figures) >= 2 and head.strip("| ").split(" |")[0] not in HAND_MADE:
                found.append(f"{section.splitlines()[0]}: {head}")
    return found


@pytest.mark.parametrize("name", ["README.md", "bench/README.md"])
def test_every_table_of_figures_has_a_record(name: str) -> None:
    assert not _tables_without_a_record((ROOT / name).read_text(encoding="utf-8"))


def test_a_table_without_a_record_is_noticed() -> None:
    table = "## Speed\n\n| what | ms |\n|---|---|\n| this | 1.5 |\n| that | 2 |\n"
    assert _tables_without_a_record(table) == ["## Speed: | what | ms |"]
    assert not _tables_without_a_record(table + "\nRecorded in `results/find.json`.\n")
