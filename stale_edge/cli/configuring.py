"""`stale-edge config`: every setting of a training run."""

from pathlib import Path
from typing import Annotated

import typer

from stale_edge.cli.output import JsonOption, console, write_bytes, write_json


def register(app: typer.Typer) -> None:
    """Add the command of this file."""
    app.command("config", epilog="Example: [bold]stale-edge config train --out my.toml[/bold]")(config)


def config(
    key: Annotated[
        str | None,
        typer.Argument(metavar="[KEY]", help="Show this key alone, or the keys of this section; default: all."),
    ] = None,
    arch: Annotated[str, typer.Option(help="Architecture, as in train.")] = "stale",
    source: Annotated[
        Path | None,
        typer.Option("--config", metavar="CONFIG.toml|RUN", help="Show the values of this file or run, not defaults."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write all keys to this TOML file, with comments; train reads it.")
    ] = None,
    json_path: JsonOption = None,
) -> None:
    """List settings with type, allowed values, default and meaning, or write them as a TOML file with comments."""
    from stale_edge.config import load_config
    from stale_edge.config.listing import Setting, list_settings, to_toml
    from stale_edge.errors import ConfigError
    from stale_edge.model.architectures import ARCHITECTURES

    named = "paper" if arch == "stale" else arch
    chosen = [] if source is not None else [f'model.architecture="{named}"']
    resolved = load_config(source, chosen, architectures=ARCHITECTURES)
    settings = list_settings(resolved)
    if key is not None:
        shown = [one for one in settings if one.key == key or one.key.startswith(f"{key}.")]
        if not shown:
            known = ", ".join(dict.fromkeys(one.key.partition(".")[0] for one in settings))
            raise ConfigError(f"no setting {key} of {named}; sections and keys at the top are {known}")
    else:
        shown = list(settings)
    write_json([setting._asdict() for setting in shown], json_path)
    printed = console(json_path)
    if out is not None:
        write_bytes(out, to_toml(resolved).encode())
        printed.print(f"{out}: {len(settings)} settings; use it with stale-edge train --config {out}")
        return

    def line(one: Setting) -> str:
        allowed = f", {one.range}" if one.range else ""
        default = "none" if one.default is None else one.default
        return f"{one.key} = {default}   ({one.type}{allowed})\n    {one.meaning}"

    printed.print("\n".join(map(line, shown)))
