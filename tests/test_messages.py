"""The pages about errors: all messages of the package, and none that it does not have."""

import ast
import re
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import stale_edge.errors

ROOT = Path(__file__).parents[1]
MESSAGES: dict[str, Any] = runpy.run_path(str(ROOT / "docs" / "messages.py"))
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")


def test_every_kind_of_error_is_listed_and_explained() -> None:
    classes = MESSAGES["error_classes"]()
    assert set(classes) == {name for name in vars(stale_edge.errors) if name.endswith("Error")}
    assert not [name for name in classes if f" {name}" not in PAGE and f"`{name}`" not in PAGE]
    raised = {message.error for message in MESSAGES["messages"]()}
    assert set(classes) - raised == set()


def test_messages_are_read_from_the_source() -> None:
    found = MESSAGES["messages"]()
    assert len(found) > 500
    assert len({message.file for message in found}) > 100
    assert any(message.text.startswith("this needs onnxruntime") for message in found)
    page = MESSAGES["page"]()
    assert page.count("\n- ") == len(found)


def test_every_message_that_is_explained_exists() -> None:
    source = "\n".join(_texts())
    explained = [
        match for row in re.findall(r"^\| (`.*?) \|", PAGE, re.MULTILINE) for match in re.findall(r"`(.+)`", row)
    ]
    assert len(explained) > 25
    missing = [
        text for text in explained if not re.search(".*".join(re.escape(part) for part in text.split("…")), source)
    ]
    assert not missing


def _texts() -> Iterator[str]:
    """Iterate over every text of the package, in one line, with a gap where a value is put in."""
    for path in (ROOT / "stale_edge").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.expr) and (text := MESSAGES["_template"](node)):
                yield text.replace("\n", " ")
