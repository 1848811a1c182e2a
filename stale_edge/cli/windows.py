"""The options `--window` and `--overlap` of commands that process long videos in windows."""

from typing import Annotated

import typer

WindowOption = Annotated[
    int | None,
    typer.Option(
        metavar="SNIPPETS",
        min=2,
        help="Detect in windows of this many snippets (rows of the features), for videos of any length: linear time, "
        "constant memory. A window should hold the longest action. Default: the whole video at once.",
    ),
]
OverlapOption = Annotated[
    int | None,
    typer.Option(
        metavar="SNIPPETS",
        min=1,
        help="Number of snippets that two windows share, at most half a window; default: half. An action of at most "
        "this length is whole in one window.",
    ),
]


def check_window_options(window: int | None, overlap: int | None) -> None:
    """Report an impossible window or overlap as wrong usage."""
    from stale_edge.runtime.windows import check_windows

    try:
        check_windows(window, overlap)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--overlap" if overlap is not None else "--window") from error
