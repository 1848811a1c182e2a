"""`stale-edge push`, `pull`: bundles by name."""

from pathlib import Path
from typing import Annotated

import typer

from stale_edge.cli.output import JsonOption, console, write_json


def register(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command("push", epilog="Example: [bold]stale-edge push bundle org/surfing --bench bench.json[/bold]")(push)
    app.command("pull", epilog="Example: [bold]stale-edge pull org/surfing@v1 --out bundle[/bold]")(pull)


def push(
    bundle: Annotated[Path, typer.Argument(help="Bundle folder.")],
    name: Annotated[str, typer.Argument(metavar="ORG/NAME", help="Its name on the hub.")],
    bench: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Result of bench --json, for the model card.")
    ] = None,
    private: Annotated[bool, typer.Option("--private", help="Make the repository private.")] = False,
    json_path: JsonOption = None,
) -> None:
    """Upload a bundle to a hub, with a model card made of its manifest."""
    from stale_edge.hub import push as push_bundle

    commit = push_bundle(bundle, name, bench=bench, private=private)
    write_json({"name": name, "commit": commit}, json_path)
    console(json_path).print(f"{name}@{commit}", markup=False)


def pull(
    name: Annotated[str, typer.Argument(metavar="ORG/NAME[@REVISION]", help="Its name on the hub.")],
    out: Annotated[Path | None, typer.Option(help="Folder to write; default: a folder of the cache.")] = None,
    json_path: JsonOption = None,
) -> None:
    """Download a bundle from a hub and check every byte; the cache is used without a network."""
    from stale_edge.hub import pull as pull_bundle

    folder = pull_bundle(name, out=out)
    write_json({"name": name, "bundle": str(folder)}, json_path)
    console(json_path).print(str(folder), markup=False)
