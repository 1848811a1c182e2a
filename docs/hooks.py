"""Puts documents from outside docs/ on the site, and turns links to files that are not on it into plain names."""

import posixpath
import re
import runpy
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parent.parent
OUTSIDE = ("bench/README.md", "export/README.md", "export/BUNDLE.md", "SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md")
MESSAGES = "messages.md"
"""Page of all error messages, made from the source."""
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)#\s]+)(#[^)\s]*)?\)")


def on_files(files: Any, *, config: Any) -> Any:
    """Add the documents under the names they have in the repository, the notebooks, and the page of all messages."""
    for name in OUTSIDE:
        files.append(File.generated(config, name, content=(ROOT / name).read_text(encoding="utf-8")))
    for path in sorted((ROOT / "docs" / "notebooks").glob("*.ipynb")):
        made = runpy.run_path(str(ROOT / "docs" / "notebook_pages.py"))["page"](path)
        files.append(File.generated(config, f"notebooks/{path.stem}.md", content=made))
    messages = runpy.run_path(str(ROOT / "docs" / "messages.py"))["page"]()
    files.append(File.generated(config, MESSAGES, content=messages))
    return files


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Any) -> str:
    """Point links at the pages of the site; a link to another file of the repository becomes its name."""
    del config
    uri = page.file.src_uri
    if uri == MESSAGES:
        return markdown
    inside = uri if uri in OUTSIDE else f"docs/{uri}"  # its place in the repository

    def moved(match: re.Match[str]) -> str:
        picture, text, target, anchor = match.groups()
        if "://" in target or target.startswith(("mailto:", "data:")):
            return match.group(0)
        path = posixpath.normpath(posixpath.join(posixpath.dirname(inside), target))
        there = path.removeprefix("docs/") if path.startswith("docs/") else path
        if files.get_file_from_path(there) is not None:
            return f"{picture}[{text}]({posixpath.relpath(there, posixpath.dirname(uri) or '.')}{anchor or ''})"
        if not (ROOT / path).exists():
            raise ValueError(f"{uri}: the link to {target} leads to nothing; correct it")
        return text if text.startswith("`") else f"{text} (`{path}`)"

    return _LINK.sub(moved, markdown)
