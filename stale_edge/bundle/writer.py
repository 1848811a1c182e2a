"""Writing bundles: build one in a folder beside the target, check it, flush it to the disk, put it in place at once."""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict, Unpack

from stale_edge.bundle.class_bank import ClassBank
from stale_edge.bundle.feature_contract import FeatureContract
from stale_edge.bundle.files import folder_beside, replace_folder, sha256_of, sync_file, sync_folder
from stale_edge.bundle.generations import in_one_generation
from stale_edge.bundle.manifest import (
    CLASS_BANK_NAME,
    MANIFEST_NAME,
    FileEntry,
    Manifest,
    Role,
    TensorSpec,
    check_inside,
)
from stale_edge.bundle.store import Bundle, read_bundle, verify_bundle
from stale_edge.config import DecodeSettings
from stale_edge.errors import BundleError


class EntryFields(TypedDict, total=False):
    """Fields of `FileEntry`, an entry of the manifest, other than the file's bytes and role."""

    runtime: str | None
    precision: str | None
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    weights_quantized: int | None
    weights_total: int | None
    note: str


def describe_file(folder: Path, name: str, *, role: Role, **fields: Unpack[EntryFields]) -> FileEntry:
    """Make the manifest's entry of a file in a folder.

    Graphs have runtime and precision, inputs and outputs; other files have none of them.

    Raises:
        BundleError: there is no such file, or the name leads outside the folder.
    """
    check_inside(name)
    path = folder / name
    if not path.is_file():
        raise BundleError(f"{name}: no such file was written into the bundle")
    return FileEntry(name, sha256_of(path), path.stat().st_size, role, **fields)


class BundleWriter:
    """An unfinished bundle. Write files into `folder`, add each with `add_file`, then `commit`.

    folder: the temporary folder, beside the target; files can be run and checked there before the bundle is kept.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.committed = False
        self._files: list[FileEntry] = []
        self._class_bank: FileEntry | None = None

    def add(self, entry: FileEntry) -> FileEntry:
        """Add the entry of a file in `folder`; the file must not change any more."""
        self._files.append(entry)
        return entry

    def add_file(self, name: str, *, role: Role, **fields: Unpack[EntryFields]) -> FileEntry:
        """Add a file in `folder`: `describe_file`, then `add`."""
        return self.add(describe_file(self.folder, name, role=role, **fields))

    def set_class_bank(self, bank: ClassBank) -> FileEntry:
        """Write the class bank into the bundle."""
        path = self.folder / CLASS_BANK_NAME
        bank.save(path)
        self._class_bank = FileEntry(CLASS_BANK_NAME, sha256_of(path), path.stat().st_size, "class_bank")
        return self._class_bank

    def commit(
        self,
        *,
        architecture: str,
        feature_contract: FeatureContract,
        decode: DecodeSettings,
        parity: Mapping[str, Any] | None = None,
        provenance: Mapping[str, Any] | None = None,
    ) -> Manifest:
        """Write the manifest and check the bundle as `verify_bundle` does; the end of the block puts it in place.

        Raises:
            BundleError: no class bank or no detector was added, or the written files contradict each other.
        """
        if self._class_bank is None or not any(entry.role == "detector" for entry in self._files):
            raise BundleError("a bundle needs a class bank and at least one detector before it is committed")
        files = (*self._files, self._class_bank)
        provided = dict(parity or {}), dict(provenance or {})
        self.commit_manifest(Manifest(architecture, feature_contract, decode, files, *provided))
        return read_bundle(self.folder).manifest

    def commit_manifest(self, manifest: Manifest) -> None:
        """Write a given manifest, for edits of a bundle; checks as in `commit`."""
        try:
            content = manifest.to_text().encode()
        except (TypeError, ValueError) as error:
            raise BundleError(f"the parity report or provenance is not plain JSON: {error}") from error
        try:
            (self.folder / MANIFEST_NAME).write_bytes(content)
            for name in (MANIFEST_NAME, *(entry.path for entry in manifest.files)):
                sync_file(self.folder / name)
            sync_folder(self.folder)
        except OSError as error:
            raise BundleError(f"cannot write the bundle: {error}") from error
        verify_bundle(self.folder)
        self.committed = True


@contextlib.contextmanager
def write_bundle(path: Path, *, overwrite: bool = False) -> Iterator[BundleWriter]:
    """Write a bundle so that it appears whole or not at all.

    Anything raised inside the block, and a kill at any moment, leaves the target as it was: absent, or the old bundle.

        with write_bundle(out) as writer:
            export(model, writer.folder / "detector-fp32.onnx")
            writer.add_file("detector-fp32.onnx", role="detector", runtime="onnxruntime", precision="fp32", ...)
            writer.set_class_bank(bank)
            writer.commit(architecture="paper", ...)

    Args:
        path: the bundle's folder; its parent must exist.
        overwrite: replace an older bundle. Only a folder that contains nothing but a bundle is replaced.

    Raises:
        BundleError: the path holds something that must not be replaced, or the file system refuses.
        BusyError: another process is writing it; the message names it.
        RuntimeError: the block ended without `commit`.
    """
    target = Path(path).resolve()
    in_one_generation(target, lambda: _check_target(target, overwrite=overwrite))
    with contextlib.ExitStack() as stack:
        try:
            folder = stack.enter_context(folder_beside(target))
        except OSError as error:
            raise BundleError(f"{path}: cannot write beside the bundle: {error}") from error
        writer = BundleWriter(folder)
        yield writer
        if not writer.committed:
            raise RuntimeError("the block of write_bundle ended without commit; nothing was written")
        _check_target(target, overwrite=overwrite)  # again: it may have changed since the first check
        try:
            replace_folder(folder, target)
        except OSError as error:
            raise BundleError(f"{path}: cannot put the bundle in place: {error}") from error


def bundle_at(path: Path) -> Bundle:
    """Read a bundle that will be rewritten.

    Raises:
        BundleError: as in `read_bundle`, or the folder contains files that are not the bundle's.
    """
    bundle = read_bundle(path)
    named = {MANIFEST_NAME, *(entry.path for entry in bundle.manifest.files)}
    files = (item for item in Path(path).rglob("*") if item.is_symlink() or not item.is_dir())
    strange = sorted(str(item.relative_to(path).as_posix()) for item in files)
    strange = [name for name in strange if name not in named]
    if strange:
        raise BundleError(
            f"{path}: will not be replaced, it holds what no manifest names: {', '.join(strange[:5])}; "
            "move what you want to keep elsewhere"
        )
    return bundle


def replaced(files: Sequence[FileEntry], by: Mapping[str, Path]) -> tuple[FileEntry, ...]:
    """Update entries with the hash and size of the files that replaced theirs; `by` maps entry paths to files."""
    return tuple(
        dataclasses.replace(entry, sha256=sha256_of(by[entry.path]), bytes=by[entry.path].stat().st_size)
        if entry.path in by
        else entry
        for entry in files
    )


def _check_target(target: Path, *, overwrite: bool) -> None:
    if not target.parent.is_dir():
        raise BundleError(f"{target}: cannot write the bundle: the folder {target.parent} does not exist")
    if target.is_dir():
        if not any(target.iterdir()):
            return
        try:
            bundle_at(target)
        except BundleError as error:
            raise BundleError(f"the folder is not empty and no mere bundle, so it is not replaced: {error}") from error
        if not overwrite:
            raise BundleError(f"{target}: a bundle is already there; choose another folder, or ask to overwrite it")
    elif target.exists():
        raise BundleError(f"{target}: will not be replaced: it is a file")
