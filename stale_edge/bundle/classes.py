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
        BundleError: no bundle, or a broken class bank.
    """
    return in_one_generation(path, lambda: read_bundle(path).class_bank.names)


def add_classes(path: Path, bank: ClassBank) -> ClassBank:
    """Append the classes of a bank that the bundle's own text encoder made.

    The bundle is rewritten in one step: a kill leaves the old one or the new one, both of which verify. Of two edits at
    once, the second waits and begins with the result of the first.

    Returns:
        The bundle's new class bank, the added classes last.

    Raises:
        ClassBankError: the bank comes from another text encoder, has another width, or a name is there already.
        VerificationError: the bundle is damaged; nothing was changed.
        BusyError: another process has been writing the bundle for long; it is named.
    """
    return _rewrite(path, lambda old: old.merge(bank), {"added": list(bank.names)})


def remove_classes(path: Path, names: Sequence[str]) -> ClassBank:
    """Drop classes from a bundle; as atomic as `add_classes`.

    Returns:
        The bundle's new class bank.

    Raises:
        ClassBankError: a name is not in the bundle (the nearest one is offered), or no class would stay.
        VerificationError, BusyError: as `add_classes`.
    """
    return _rewrite(path, lambda old: old.remove(names), {"removed": list(names)})


def _rewrite(path: Path, change: Callable[[ClassBank], ClassBank], edit: Json) -> ClassBank:
    """Put a bundle in the old one's place that differs in its vocabulary: bank, the graphs' metadata, manifest.

    The parity report was made with the vocabulary of the export; the provenance keeps a note of every edit since.
    """
    read_bundle(path)  # a folder that is none is refused without being locked
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
