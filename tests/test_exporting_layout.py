"""The layout of exporting: the way from a checkpoint to a bundle goes through few files."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOM = Path(__file__).resolve().parent.parent / "stale_edge" / "exporting"
INNER = ("graph", "decoder", "parity")
MOST_PLACES = 15


def _imported(path: Path) -> Iterator[Path]:
    """Give the files of the room that a file imports."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("stale_edge.exporting"):
            parts = (node.module or "").split(".")[2:]
            names = [parts, *([*parts, alias.name] for alias in node.names)]
            yield from (file for name in names if name and (file := ROOM.joinpath(*name).with_suffix(".py")).is_file())


def _place(path: Path) -> str:
    """Name an inner room as a whole, and any other file by itself."""
    inner = path.relative_to(ROOM).parts[0]
    return inner if inner in INNER else path.name


def test_following_a_checkpoint_passes_few_places() -> None:
    found = [ROOM / "export.py"]
    for path in found:
        found += [other for other in dict.fromkeys(_imported(path)) if other not in found]
    places = {_place(path) for path in found}
    assert set(INNER) < places
    assert len(places) <= MOST_PLACES, sorted(places)


@pytest.mark.parametrize(("room", "above"), [("graph", ("decoder", "parity")), ("decoder", ("parity",))])
def test_inner_rooms_import_in_one_direction(room: str, above: tuple[str, ...]) -> None:
    imports = {(path.name, _place(other)) for path in (ROOM / room).glob("*.py") for other in _imported(path)}
    assert imports
    assert not [pair for pair in imports if pair[1] in above]
