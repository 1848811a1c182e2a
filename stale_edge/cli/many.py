"""The options of commands that take many inputs: `--ray [ADDRESS]` and `--workers`."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

if TYPE_CHECKING:
    from stale_edge.jobs.pool import RayPool

LOCAL = "local"
_ADDRESS = re.compile(r"auto|local|[a-z]+://\S+|[\w.-]+:\d+")

RayOption = Annotated[
    str | None,
    typer.Option(
        metavar="[ADDRESS]",
        help="Do many inputs at once through Ray Data: on the cluster at ADDRESS (auto, host:port, ray://host:port), "
        "on this machine without one.",
    ),
]
WorkersOption = Annotated[int, typer.Option(min=1, help="With --ray: processes at once, each with a session.")]


class ManyInputsCommand(TyperCommand):
    """A command whose `--ray` may stand without a value, which Typer has no word for."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse what `with_ray_address` makes of the arguments."""
        return super().parse_args(ctx, with_ray_address(args))


def with_ray_address(args: Sequence[str]) -> list[str]:
    """Write `--ray` as `--ray=local` unless what follows it looks like an address of a cluster."""
    words: list[str] = []
    rest = list(args)
    while rest:
        word = rest.pop(0)
        if word == "--":
            return [*words, word, *rest]
        if word != "--ray":
            words.append(word)
            continue
        address = rest.pop(0) if rest and _ADDRESS.fullmatch(rest[0]) else LOCAL
        words.append(f"--ray={address}")
    return words


def ray_pool(address: str | None, *, scratch: Path, workers: int, threads: int) -> "RayPool | None":
    """Say where Ray runs; None: `--ray` was not given. `scratch` is a folder that all its processes see."""
    from stale_edge.jobs.pool import RayPool

    if address is None:
        return None
    return RayPool(scratch, address=None if address == LOCAL else address, workers=workers, cpus=threads)
