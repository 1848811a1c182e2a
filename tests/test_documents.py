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
