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
        help="Process many inputs at once with Ray Data, on the cluster at ADDRESS (auto, host:port, ray://host:port); "
        "default: on this machine.",
    ),
]
WorkersOption = Annotated[int, typer.Option(min=1, help="With --ray: number of processes, each with a session.")]


class ManyInputsCommand(TyperCommand):
    """A command whose `--ray` may have no value, which Typer does not support."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the arguments after `with_ray_address` has changed them."""
        return super().parse_args(ctx, with_ray_address(args))


def with_ray_address(args: Sequence[str]) -> list[str]:
    """Replace `--ray` with `--ray=local`, or with `--ray=ADDRESS` if the next word looks like an address."""
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
    """Give the Ray pool, None without `--ray`. All its processes must have access to the folder `scratch`."""
    from stale_edge.jobs.pool import RayPool

    if address is None:
        return None
    return RayPool(scratch, address=None if address == LOCAL else address, workers=workers, cpus=threads)
