"""`--window` and `--overlap`, wherever a command looks at long videos piece by piece."""

from typing import Annotated

import typer

WindowOption = Annotated[
    int | None,
    typer.Option(
        metavar="SNIPPETS",
        min=2,
        help="Detect window by window, for videos of any length: linear time, constant memory. In snippets, one a row "
        "of the features; a window should hold the longest action. The whole video at once otherwise.",
    ),
]
OverlapOption = Annotated[
    int | None,
    typer.Option(
        metavar="SNIPPETS",
        min=1,
        help="Snippets that two windows share, at most half a window; half otherwise. An action no longer than this "
        "lies whole in some window.",
    ),
]


def check_window_options(window: int | None, overlap: int | None) -> None:
    """Refuse windows that cannot be as wrong usage."""
    from stale_edge.runtime.windows import check_windows

    try:
        check_windows(window, overlap)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--overlap" if overlap is not None else "--window") from error
