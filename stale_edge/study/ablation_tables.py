"""Tables 1 to 6 of the paper, with the figures of the ablations beside the published ones."""

from collections.abc import Mapping, Sequence
from typing import Any

from stale_edge.report.curves import Line, Panel
from stale_edge.study.ablation_variants import SEEN_PERCENT, STALE, TUNED, TWO_STAGE
from stale_edge.study.other_systems import B_III, B_III_NOTE, EFFPROMPT, EFFPROMPT_NOTE
from stale_edge.study.published import PAPER_ABLATIONS, PAPER_TABLES_3_TO_6, Ablation
from stale_edge.study.study import Cell, Column, FinishedRun, Plot, Spread, Summary, Table, spread

GROUND_TRUTH = "ground_truth"
"""The figure of a run that knows a part of the truth."""
_ROWS: dict[tuple[str, str], tuple[str, str]] = {
    ("Table 1", "B-I"): (TWO_STAGE, "unseen"),
    ("Table 1", "B-II"): ("b-ii", "unseen"),
    ("Table 1", "EffPrompt"): (EFFPROMPT, "unseen"),
    ("Table 1", "STALE"): (STALE, "unseen"),
    ("Table 2", "B-I, CLIP"): (TWO_STAGE, "seen"),
    ("Table 2", "EffPrompt, CLIP"): (EFFPROMPT, "seen"),
    ("Table 2", "B-III, I3D"): (B_III, "seen"),
    ("Table 3", "B-I, ground-truth proposals"): (TWO_STAGE, GROUND_TRUTH),
    ("Table 3", "B-I, predicted proposals"): (TWO_STAGE, "unseen"),
    ("Table 3", "STALE, ground-truth masks"): (STALE, GROUND_TRUTH),
    ("Table 3", "STALE, predicted masks"): (STALE, "unseen"),
    ("Table 4", "no mask"): ("mask-none", "unseen"),
    ("Table 4", "ground-truth mask"): ("mask-ground-truth", "unseen"),
    ("Table 4", "1-D CNN"): ("mask-cnn", "unseen"),
    ("Table 4", "Maskformer, 5 queries"): ("queries-5", "unseen"),
    ("Table 4", "Maskformer, 20 queries"): (STALE, "unseen"),
    ("Table 4", "Maskformer, 100 queries"): ("queries-100", "unseen"),
    ("Table 5", "no encoder"): ("text-none", "unseen"),
    ("Table 5", "CLIP-text, frozen"): (STALE, "unseen"),
    ("Table 5", "CLIP-text, tuned"): (TUNED, "unseen"),
    ("Table 6", "1-D CNN"): ("temporal-cnn", "unseen"),
    ("Table 6", "MS-TCN"): ("temporal-ms-tcn", "unseen"),
    ("Table 6", "Transformer"): (STALE, "unseen"),
}
"""The variant, and the figure of it, for each row of the paper."""


def ablation_summary(finished: Sequence[FinishedRun], *, features: str, n_splits: int) -> Summary:
    """Print each of the paper's rows with the own figure beside it.

    Args:
        finished: runs of the study.
        features: description of the features, for the captions.
        n_splits: number of class splits.
    """
    results: dict[str, list[Mapping[str, Any]]] = {}
    for done in finished:
        results.setdefault(str(done.run.parameters["variant"]), []).append(done.result)
    tables = []
    for name in dict.fromkeys(row.table for row in PAPER_ABLATIONS):
        caption = (
            f"{_TITLES[name]}: {SEEN_PERCENT} % of the classes seen in training, mAP on the "
            f"{'same' if name == 'Table 2' else 'others'}, mean ± "
            f"standard deviation over class splits ({n_splits}); own figures on {features}; published: "
            f"paper, {name}, ActivityNet v1.3"
        )
        rows = tuple(_row(row, results) for row in PAPER_ABLATIONS if row.table == name)
        tables.append(Table(name.lower().replace(" ", "-"), caption, _COLUMNS, rows))
    return Summary(
        title=f"Ablations and baselines ({PAPER_TABLES_3_TO_6}, and Table 1)",
        features=features,
        tables=tuple(tables),
        plots=(
            Plot(
                "ablations",
                f"Average mAP on unseen classes, row by row; own figures on {features}",
                _panels(tables),
            ),
        ),
        notes=_NOTES if TUNED in results else (*_NOTES, "The data set has no text encoder, so none was tuned."),
    )


def _row(row: Ablation, results: Mapping[str, Sequence[Mapping[str, Any]]]) -> dict[str, Cell]:
    variant, part = _ROWS[row.table, row.row]
    cells: dict[str, Cell] = {
        "row": row.row,
        "published_50": row.mAP_50,
        "published_average": row.average_mAP,
    }
    own = results.get(variant, ())
    if own:
        cells["mAP_50"] = spread([result[part]["mAP_50"] for result in own])
        cells["average_mAP"] = spread([result[part]["average_mAP"] for result in own])
        if part == "unseen":
            cells["seen"] = spread([result["seen"]["average_mAP"] for result in own])
    return cells


def _panels(tables: Sequence[Table]) -> tuple[Panel, ...]:
    """Draw own and published averages of each table, row by row."""
    panels = []
    for table in tables:
        names = tuple(str(row["row"]) for row in table.rows)
        averages = [(float(n), row.get("average_mAP")) for n, row in enumerate(table.rows, start=1)]
        own = [(place, cell) for place, cell in averages if isinstance(cell, Spread)]
        published = [float(str(row["published_average"])) for row in table.rows]
        places = tuple(float(n) for n in range(1, len(names) + 1))
        lines = [Line("paper", places, tuple(published), published=True)]
        if own:
            x, cells = zip(*own, strict=True)
            lines.insert(0, Line("own", x, tuple(c.mean for c in cells), tuple(c.std or 0.0 for c in cells)))
        title = table.name.replace("-", " ").capitalize()
        panels.append(Panel(f"{title}: {_TITLES[title].lower()}", "", "average mAP, %", tuple(lines), categories=names))
    return tuple(panels)


_TITLES = {
    "Table 1": "Baselines",
    "Table 2": "Baselines, closed set (own: on the classes seen in training)",
    "Table 3": "Localization error propagation",
    "Table 4": "Representation masking",
    "Table 5": "Text encoder",
    "Table 6": "Temporal modelling",
}
_NOTES = (
    "STALE here is one network for all tables: transformer, 20 queries, frozen text encoder without learned contexts "
    "where features are simulated; in the paper it is the tuned one.",
    "B-I here: the kit's own localizer, trained class-agnostically, proposes (the paper takes BMN); CLIP names each "
    "proposal by the cosine of its mean feature with the plain class names.",
    "B-II here: CLIP features without temporal embedding or masking, text adapted to them as in DenseCLIP, dense "
    "scores, and the kit's mask head; the paper does not describe its head.",
    "Ground-truth rows know a part of the answer at inference and are no results: Table 3 replaces the predicted "
    "instance masks (or proposals), Table 4 the representation mask alone.",
    "Without a text encoder an unseen class has an embedding that no training moved, so its rows are chance; the paper "
    "prints an average above its mAP@0.5 there, which cannot be, since mAP falls with tIoU.",
    EFFPROMPT_NOTE,
    B_III_NOTE,
)
_COLUMNS = (
    Column("row", "row"),
    Column("mAP_50", "own mAP@0.5"),
    Column("published_50", "published mAP@0.5"),
    Column("average_mAP", "own average"),
    Column("published_average", "published average"),
    Column("seen", "own average, seen classes"),
)
