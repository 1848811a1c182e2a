"""Adding and removing classes of a bundle on the device: no torch, no text tower, no export."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path

from stale_edge.bundle.class_bank import ClassBank
from stale_edge.bundle.files import link_or_copy
from stale_edge.bundle.generations import in_one_generation
from stale_edge.bundle.json_fields import Json, list_of
from stale_edge.bundle.manifest import VOCABULARY_ROLES, Manifest
from stale_edge.bundle.onnx_metadata import CLASS_NAMES_KEY, copy_with_metadata
from stale_edge.bundle.store import read_bundle, verify_bundle
from stale_edge.bundle.writer import bundle_at, replaced, write_bundle
from stale_edge.errors import BundleError


def list_classes(path: Path) -> tuple[str, ...]:
    """Read the class names of a bundle, in the order of the logits' rows.

    Raises:
        BundleError: there is no bundle, or its class bank is broken.
    """
    return in_one_generation(path, lambda: read_bundle(path).class_bank.names)


def add_classes(path: Path, bank: ClassBank) -> ClassBank:
    """Append the classes of a bank that the bundle's own text encoder made.

    The bundle is replaced in one step: after a kill, either the old or the new one is there, and it verifies. If two
    edits run at once, the second waits and starts from the result of the first.

    Returns:
        The bundle's new class bank, the added classes last.

    Raises:
        ClassBankError: the bank comes from another text encoder, has another width, or a name is there already.
        VerificationError: the bundle is damaged; nothing was changed.
        BusyError: another process has been writing the bundle for too long; the message names it.
    """
    return _rewrite(path, lambda old: old.merge(bank), {"added": list(bank.names)})


def remove_classes(path: Path, names: Sequence[str]) -> ClassBank:
    """Drop classes from a bundle; as atomic as `add_classes`.

    Returns:
        The bundle's new class bank.

    Raises:
        ClassBankError: a name is not in the bundle (the message suggests the nearest), or no class would stay.
        VerificationError, BusyError: as in `add_classes`.
    """
    return _rewrite(path, lambda old: old.remove(names), {"removed": list(names)})


def _rewrite(path: Path, change: Callable[[ClassBank], ClassBank], edit: Json) -> ClassBank:
    """Replace a bundle by one with another vocabulary: in the bank, the graphs' metadata and the manifest.

    The parity report keeps the vocabulary of the export; the provenance lists every edit since.
    """
    read_bundle(path)  # refuses a folder that is not a bundle before locking it
    with write_bundle(path, overwrite=True) as writer:
        verify_bundle(path)
        bundle = bundle_at(path)
        manifest = bundle.manifest
        if manifest.of_role("model_repository"):
            raise BundleError(
                f"{path}: its models for Triton have the classes inside, which cannot be changed here; export again "
                "with --classes, or edit a bundle that was exported without the format triton"
            )
        bank = change(bundle.class_bank)
        changed: dict[str, Path] = {}
        for entry in manifest.files:
            target = writer.folder / entry.path
            target.parent.mkdir(parents=True, exist_ok=True)
            if entry.role == "class_bank":
                bank.save(target)
            elif entry.role in VOCABULARY_ROLES and target.suffix == ".onnx":
                names = json.dumps(list(bank.names), ensure_ascii=False)
                copy_with_metadata(bundle.path / entry.path, target, {CLASS_NAMES_KEY: names})
            else:
                link_or_copy(bundle.path / entry.path, target)
                continue
            changed[entry.path] = target
        edits = [*list_of(manifest.provenance.get("class_edits", []), "provenance.class_edits"), edit]
        updated: Manifest = dataclasses.replace(
            manifest,
            files=replaced(manifest.files, changed),
            provenance={**manifest.provenance, "class_edits": edits},
        )
        writer.commit_manifest(updated)
    return bank
