"""Push a bundle to a hub, and pull one by name, through huggingface_hub."""

import os
import re
import tempfile
from pathlib import Path
from typing import Any

from stale_edge.bundle import read_bundle, verify_bundle
from stale_edge.bundle.files import link_or_copy, write_file_atomically
from stale_edge.bundle.json_fields import parse_json
from stale_edge.errors import BundleError, MissingExtraError, reason, shown
from stale_edge.hub.card import model_card
from stale_edge.paths import MOST_TEXT_BYTES, read_regular

CARD = "README.md"
_NAME = re.compile(r"[\w][\w.-]{0,95}/[\w][\w.-]{0,95}(@[\w][\w./-]{0,199})?")


def is_hub_name(name: object) -> bool:
    """Say whether a name is `ORG/NAME` or `ORG/NAME@REVISION`, and no folder that exists."""
    return isinstance(name, str) and _NAME.fullmatch(name) is not None and ".." not in name and not Path(name).exists()


def push(bundle: Path, name: str, *, bench: Path | None = None, private: bool = False) -> str:
    """Upload a verified bundle with its model card; the repository is made if it does not exist.

    Args:
        bundle: the bundle's folder.
        name: `ORG/NAME`.
        bench: result of `bench --json`, whose times the card shows.
        private: make the repository private.

    Returns:
        The commit that holds it.

    Raises:
        VerificationError, BundleError: the bundle is damaged, the name is none, or the hub refused.
        MissingExtraError: huggingface_hub is not installed.
    """
    _check(name)
    verify_bundle(bundle)
    opened, hub = read_bundle(bundle), _hub()
    times = None if bench is None else parse_json(read_regular(bench, most=MOST_TEXT_BYTES).decode(), str(bench))
    card = model_card(opened, bench=times).replace("ORG/NAME", name)
    with tempfile.TemporaryDirectory() as work:
        for file in sorted(path for path in bundle.rglob("*") if path.is_file()):
            target = Path(work, file.relative_to(bundle))
            target.parent.mkdir(parents=True, exist_ok=True)
            link_or_copy(file, target)
        Path(work, CARD).write_text(card, encoding="utf-8")
        try:
            api = hub.HfApi()
            api.create_repo(name, private=private, exist_ok=True)
            commit = api.upload_folder(repo_id=name, folder_path=work, commit_message="Bundle of stale-edge")
        except Exception as error:  # the errors of the hub's client share no base
            raise BundleError(
                f"{name}: the hub refused the bundle: {reason(error)}; log in with `hf auth login`"
            ) from error
    return str(commit.oid)


def pull(name: str, *, out: Path | None = None) -> Path:
    """Download a bundle, check every byte against its manifest, and keep it in the cache.

    A name without revision means the newest commit. Without a network, or with HF_HUB_OFFLINE=1, the commit that this
    name meant last is used.

    Args:
        name: `ORG/NAME` or `ORG/NAME@REVISION`, a branch, tag or commit.
        out: folder to write; must not exist. None: a folder of the cache, STALE_EDGE_CACHE or ~/.cache/stale-edge.

    Returns:
        The bundle's folder.

    Raises:
        VerificationError: the bytes are not those of the manifest; nothing is kept.
        BundleError: there is no such bundle, or neither network nor cache have it.
        MissingExtraError: huggingface_hub is not installed.
    """
    _check(name)
    repository, _, revision = name.partition("@")
    if out is not None and out.exists():
        raise BundleError(f"{out}: exists; name a folder that does not")
    home = _cache() / repository.replace("/", "--")
    known = home / "refs" / (revision or "main").replace("/", "--")
    try:
        commit = str(_hub().HfApi().model_info(repository, revision=revision or None).sha)
    except Exception as error:  # no network, or no such repository: the cache decides
        if not known.is_file():
            raise BundleError(
                f"{name}: the hub gives no such bundle, and the cache has none: {reason(error)}"
            ) from error
        commit = known.read_text(encoding="utf-8").strip()
    if not re.fullmatch(r"[\w]{7,64}", commit):
        raise BundleError(f"{name}: the hub names the commit {shown(commit)}, which is none")
    target = home / commit if out is None else out
    if not (home / commit).is_dir() or out is not None:
        _download(repository, commit, target)
    if out is None:
        verify_bundle(target)
        known.parent.mkdir(parents=True, exist_ok=True)
        write_file_atomically(known, f"{commit}\n".encode())
    return target


def _download(repository: str, commit: str, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".pull.") as work:
        folder = Path(work, "bundle")
        try:
            _hub().snapshot_download(
                repository, revision=commit, local_dir=folder, ignore_patterns=[CARD, ".gitattributes"]
            )
        except Exception as error:  # the errors of the hub's client share no base
            raise BundleError(f"{repository}: commit {commit} cannot be downloaded: {reason(error)}") from error
        _forget_bookkeeping(folder)
        verify_bundle(folder)
        os.replace(folder, target)


def _forget_bookkeeping(folder: Path) -> None:
    """Remove what the client leaves beside the files."""
    import shutil

    shutil.rmtree(folder / ".cache", ignore_errors=True)


def _cache() -> Path:
    given = os.environ.get("STALE_EDGE_CACHE")
    return Path(given) if given else Path.home() / ".cache" / "stale-edge"


def _check(name: str) -> None:
    if _NAME.fullmatch(name) is None or ".." in name:
        raise BundleError(f"a bundle on a hub is named ORG/NAME or ORG/NAME@REVISION; got {shown(name)}")


def _hub() -> Any:
    try:
        import huggingface_hub
    except ImportError as error:
        raise MissingExtraError('a hub needs huggingface_hub: pip install "stale-edge[hub]"') from error
    return huggingface_hub
