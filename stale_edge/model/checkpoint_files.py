"""Facts in a checkpoint's folder, or in the hub's cache, besides what transformers reads: licence, single numbers."""

import contextlib
import json
import re
from collections.abc import Sequence
from pathlib import Path

from safetensors import SafetensorError, safe_open

from stale_edge.model.hub_revisions import hub_model

_CARD = "README.md"
_WEIGHTS, _INDEX = "model.safetensors", "model.safetensors.index.json"
_LICENCE = re.compile(r"^(license|license_name|license_link):[ \t]*(.+)$", flags=re.MULTILINE)


def fetch_hint(source: str | Path) -> str:
    """Say why a source may not have been found, and how to fetch it."""
    if Path(source).is_dir():
        return "the folder is not in transformers' format"
    return (
        "no such local folder, and no such model in the hub or its cache, or no network; where there is one, "
        f"`hf download {source} --local-dir DIR` fetches it for --from DIR"
    )


def read_licence(source: str | Path) -> str | None:
    """Read the licence from the head of a model card; None: there is no card, or it does not say."""
    card = _file(source, _CARD)
    if card is None:
        return None
    parts = card.read_text(encoding="utf-8", errors="replace").split("---", 2)
    if len(parts) < 3 or parts[0].strip():
        return None
    found = {key: value.strip().strip("\"'") for key, value in _LICENCE.findall(parts[1])}
    said = [found[key] for key in ("license", "license_name", "license_link") if key in found]
    return " ".join(dict.fromkeys(said)) or None


def read_scalars(source: str | Path, names: Sequence[str]) -> dict[str, float]:
    """Read single numbers from the weights of a checkpoint; those that are not there are left out."""
    index = _file(source, _INDEX)
    files = dict.fromkeys(names, _WEIGHTS)
    if index is not None:
        places = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        files = {name: places[name] for name in names if name in places}
    found = {}
    for name, file in files.items():
        path = _file(source, file)
        with contextlib.suppress(SafetensorError):  # it has no such number
            if path is not None:
                with safe_open(path, framework="np") as tensors:
                    found[name] = float(tensors.get_tensor(name).reshape(-1)[0])
    return found


def _file(source: str | Path, name: str) -> Path | None:
    """Find a file of a local folder, or in the hub's cache."""
    model, revision = hub_model(source)
    if Path(source).is_dir():
        path = Path(source) / name
        return path if path.is_file() else None
    from transformers.utils import cached_file

    found = cached_file(
        model, name, revision=revision, local_files_only=True, _raise_exceptions_for_missing_entries=False,
        _raise_exceptions_for_connection_errors=False, _raise_exceptions_for_gated_repo=False,
    )  # fmt: skip
    return None if found is None else Path(found)
