"""Files with the results of a study: `table.md` for people, `summary.json` for programs, and plots."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stale_edge.bundle.files import write_file_atomically
from stale_edge.machine import machine_card
from stale_edge.report.curves import draw_panels
from stale_edge.study.study import Cell, Column, Spread, Summary, Table
from stale_edge.version import __version__

SCHEMA = "stale-edge-study-summary/1"
TABLE_FILE = "table.md"
SUMMARY_FILE = "summary.json"


def write_summary(out: Path, study: str, summary: Summary) -> None:
    """Write tables and plots into a folder, each file atomically.

    Raises:
        OSError: a file cannot be written.
        MissingExtraError: there are plots, and matplotlib is not installed.
    """
    text = json.dumps(to_json(study, summary), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    write_file_atomically(out / SUMMARY_FILE, text.encode())
    write_file_atomically(out / TABLE_FILE, to_markdown(summary).encode())
    for plot in summary.plots:
        for kind in ("png", "svg"):
            drawn = draw_panels(plot.panels, caption=plot.caption, kind=kind)
            write_file_atomically(out / f"{plot.name}.{kind}", drawn)


def to_json(study: str, summary: Summary) -> dict[str, Any]:
    """Turn a summary into plain JSON values, schema `stale-edge-study-summary/1`."""
    return {
        "schema": SCHEMA,
        "study": study,
        "title": summary.title,
        "features": summary.features,
        "tables": [
            {
                "name": table.name,
                "caption": table.caption,
                "columns": {column.key: column.title for column in table.columns},
                "rows": [
                    {column.key: _json_cell(row.get(column.key)) for column in table.columns} for row in table.rows
                ],
            }
            for table in summary.tables
        ],
        "plots": [{"name": plot.name, "caption": plot.caption} for plot in summary.plots],
        "notes": list(summary.notes),
        "machine": machine_card(),
        "version": __version__,
    }


def to_markdown(summary: Summary) -> str:
    """Write a summary as Markdown: title, notes, tables with captions, plots."""
    parts = [f"# {summary.title}", f"Features: {summary.features}."]
    parts += [_markdown_table(table) for table in summary.tables]
    parts += [f"![{plot.caption}]({plot.name}.png)\n\n{plot.caption}" for plot in summary.plots]
    if summary.notes:
        parts.append("\n".join(f"- {note}" for note in summary.notes))
    return "\n\n".join(parts) + "\n"


def text_rows(table: Table) -> list[list[str]]:
    """Format a table's cells as text, row by row."""
    return [[_text_cell(row, column) for column in table.columns] for row in table.rows]


def _markdown_table(table: Table) -> str:
    lines = [
        "| " + " | ".join(column.title for column in table.columns) + " |",
        "|" + "|".join("---" if i == 0 else "---:" for i in range(len(table.columns))) + "|",
        *("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in text_rows(table)),
    ]
    return f"**{table.caption}**\n\n" + "\n".join(lines)


def _text_cell(row: Mapping[str, Cell], column: Column) -> str:
    value = row.get(column.key)
    if value is None:
        return "-"
    if isinstance(value, Spread):
        deviation = "" if value.std is None else f" ± {value.std:.{column.digits}f}"
        return f"{value.mean:.{column.digits}f}{deviation}"
    return f"{value:.{column.digits}f}" if isinstance(value, float) else str(value)


def _json_cell(value: Cell) -> Any:
    return value._asdict() if isinstance(value, Spread) else value
