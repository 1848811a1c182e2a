"""`stale-edge bench --video`: measure the path from a video file to its detections."""

import contextlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from stale_edge.cli.output import console, progress_bar, table, write_json

if TYPE_CHECKING:
    from stale_edge.benchmarking.whole_path import WholePath


def bench_video(path: "WholePath", encoder: str | None, *, recommend: bool, json_path: Path | None) -> None:
    """Measure, print and write; `path.encoder` is filled in from `encoder`, a folder or a name of a random encoder."""
    import dataclasses

    from stale_edge.benchmarking.whole_path import own_encoder, run_whole_path
    from stale_edge.benchmarking.whole_path_table import COLUMNS, summary_lines, table_rows

    with contextlib.ExitStack() as stack, progress_bar() as progress:
        folder: Path | None
        if encoder is not None and encoder.startswith("random-"):
            from stale_edge.benchmarking.torch_rows.made_encoder import SIZES, make_encoder

            if encoder not in SIZES:
                raise typer.BadParameter(f"must be a folder, or one of {', '.join(SIZES)}", param_hint="--encoder")
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory())) / encoder
            make_encoder(encoder, folder, progress=progress)
        else:
            folder = own_encoder(path.bundle) if encoder is None else Path(encoder)
        if folder is None:
            raise typer.BadParameter(
                "give an encoder folder, or a bundle that holds one; random-vit-b-32 is one with random weights",
                param_hint="--encoder",
            )
        results: dict[str, Any] = run_whole_path(
            dataclasses.replace(path, encoder=folder), recommend=recommend, progress=progress
        )
    write_json(results, json_path)
    out = console(json_path)
    out.print(table("", list(COLUMNS), table_rows(results)))
    out.print("\n".join(summary_lines(results)), markup=False)
