"""Names of models in the hub, with the revision that is loaded: a name alone can mean other weights tomorrow."""

from pathlib import Path
from typing import NamedTuple

REVISIONS = {
    "openai/clip-vit-base-patch16": "57c216476eefef5ab752ec549e440a49ae4ae5f3",
    "openai/clip-vit-base-patch32": "3d74acf9a28c67741b2f4f2ea7635f0aaf6f0268",
}
"""Revisions of models that are named without one."""


class HubModel(NamedTuple):
    """A local folder, or a model of the hub."""

    name: str
    revision: str | None
    """Commit, branch or tag; None for a local folder, and for the newest revision of a model."""


def hub_model(source: str | Path) -> HubModel:
    """Read a local folder, a hub name, or `NAME@REVISION`.

    Args:
        source: a name of `REVISIONS` without a revision gets the one there.
    """
    text = str(source)
    if Path(text).is_dir():
        return HubModel(text, None)
    name, _, revision = text.partition("@")
    return HubModel(name, revision or REVISIONS.get(name))
