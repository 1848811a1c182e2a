"""Collects the error messages of the package from its source, so that the site lists all of them."""

import ast
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "stale_edge"
GAP = "…"
"""Stands for what differs from case to case: a name, a value, a file."""


class Message(NamedTuple):
    """One message.

    error: name of the exception; text: the message with `GAP` for what differs; file: where it is raised.
    """

    error: str
    text: str
    file: str


def error_classes() -> dict[str, str]:
    """Name the exceptions for people, with the first line of what each means, in the order of `errors.py`."""
    tree = ast.parse((PACKAGE / "errors.py").read_text(encoding="utf-8"))
    return {
        node.name: (ast.get_docstring(node) or "").splitlines()[0]
        for node in tree.body
        if isinstance(node, ast.ClassDef) and node.name.endswith("Error")
    }


@functools.cache
def messages() -> tuple[Message, ...]:
    """List the messages of all exceptions for people that are written out where they are raised, sorted."""
    known = error_classes()
    found = set()
    for path in PACKAGE.rglob("*.py"):
        name = path.relative_to(ROOT).as_posix()
        for error, text in _raised(ast.parse(path.read_text(encoding="utf-8"))):
            if error in known and any(part.strip() for part in text.split(GAP)):
                found.add(Message(error, text, name))
    return tuple(sorted(found))


def page() -> str:
    """Write the page of all messages, in Markdown."""
    everything = messages()
    lines = [
        "# Every message",
        "",
        f"{len(everything)} messages, collected from the source. `{GAP}` stands for a name, a value or a file.",
        "Each says what was wrong, what was found, what is allowed and what to do.",
    ]
    for error, meaning in error_classes().items():
        own = [message for message in everything if message.error == error]
        if own:
            lines += ["", f"## {error}", "", meaning, ""]
            lines += [f"- {_escaped(message.text)} (`{message.file}`)" for message in own]
    return "\n".join(lines) + "\n"


def _raised(tree: ast.AST) -> Iterator[tuple[str, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and isinstance(node.exc.func, ast.Name):
            text = _template(node.exc.args[0]) if node.exc.args else None
            if text is not None:
                yield node.exc.func.id, text


def _template(value: ast.expr) -> str | None:
    """Write a string or an f-string with gaps; None for any other expression."""
    if isinstance(value, ast.Constant) and isinstance(value.value, str):
        return value.value
    if isinstance(value, ast.JoinedStr):
        return "".join(str(part.value) if isinstance(part, ast.Constant) else GAP for part in value.values)
    if isinstance(value, ast.BinOp) and isinstance(value.op, ast.Add):
        parts = [_template(value.left), _template(value.right)]
        return "".join(GAP if part is None else part for part in parts)
    return None


def _escaped(text: str) -> str:
    for character in "\\`*_<>[]":
        text = text.replace(character, "\\" + character)
    return text.replace("\n", " ")
