"""Checkpoints: a folder of safetensors weights, resolved config, class bank and text encoder. Nothing is unpickled."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from stale_edge.bundle import ClassBank
from stale_edge.bundle.files import folder_beside, replace_folder, sha256_of, sync_file, sync_folder
from stale_edge.bundle.generations import in_one_generation
from stale_edge.bundle.json_fields import parse_json
from stale_edge.bundle.manifest import is_sealed, sealed_text
from stale_edge.config import Config, FeatureSpec, config_from_dict, from_dict, to_dict
from stale_edge.errors import BundleError, CheckpointError, StaleEdgeError, shown
from stale_edge.model.architectures import ARCHITECTURES, build_model
from stale_edge.model.class_embeddings import FreeClassEmbeddings, class_bank
from stale_edge.model.text import TextEncoder
from stale_edge.paths import MOST_MANIFEST_BYTES, inside, read_regular
from stale_edge.version import versions_with

FORMAT = "stale-edge-checkpoint/2"
_UNSEALED_FORMAT = "stale-edge-checkpoint/1"
"""Format of older checkpoints, whose config.json has no digest of its own."""
_SEAL = "config_sha256"
CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"
CLASS_BANK_FILE = "class_bank.npz"
TEXT_FOLDER = "text_encoder"
_KEYS = ("format", "config", "feature_spec", "vocabulary", "text_fingerprint", "versions", "files")


@dataclass(frozen=True)
class Checkpoint:
    """A trained detector with all that is needed to use, export or train it further.

    model: the detector, in eval mode, fp32 on the CPU.
    config: resolved, with every default of the run.
    feature_spec: what features the detector was trained on.
    bank: the training vocabulary, encoded by `text_encoder`; None for an import without classes, see `class_bank`.
    text_encoder: encodes further class names; None where the checkpoint holds none.
    path: the folder.
    sha256: hash of config.json, which has the hash of every other file: one hash for the whole checkpoint.
    origin: what it was imported from and what was left behind; None for a checkpoint of this kit's own training.
    """

    model: nn.Module
    config: Config
    feature_spec: FeatureSpec
    bank: ClassBank | None
    text_encoder: TextEncoder | FreeClassEmbeddings | None
    path: Path
    sha256: str
    origin: dict[str, Any] | None = None

    @property
    def class_bank(self) -> ClassBank:
        """The vocabulary.

        Raises:
            CheckpointError: the checkpoint was imported without classes.
        """
        if self.bank is None:
            how = (
                "give --classes FILE with one name a line"
                if isinstance(self.text_encoder, TextEncoder)
                else "import it again with --classes and --tokenizer, or with --class-bank"
            )
            raise CheckpointError(f"{self.path} holds a network and no classes to look for; {how}")
        return self.bank

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """Names of the classes, none for an import without classes."""
        return () if self.bank is None else self.bank.names


def write_checkpoint(
    path: Path,
    *,
    model: nn.Module,
    config: Config,
    feature_spec: FeatureSpec,
    class_bank: ClassBank | None,
    text_encoder: TextEncoder | FreeClassEmbeddings | None,
    origin: dict[str, Any] | None = None,
) -> str:
    """Write a checkpoint folder so that a kill at any moment leaves the old one or the new one.

    Args:
        path: the folder; an existing checkpoint is replaced, anything else is left alone.
        class_bank: the training vocabulary; its fingerprint must be that of `text_encoder`. None: there are no classes
            yet, as after an import that was given none.
        text_encoder: `FreeClassEmbeddings` are kept in the class bank itself.
        origin: plain JSON values about the file that the checkpoint was imported from.

    Returns:
        The checkpoint's sha256.

    Raises:
        CheckpointError: something else stands at `path`, or it cannot be written.
        ValueError: the class bank was not made by the text encoder.
    """
    path = Path(path)
    own = None if text_encoder is None else text_encoder.fingerprint()
    fingerprint = own if class_bank is None else class_bank.fingerprint
    if own is not None and fingerprint != own:
        raise ValueError(
            f"the class bank was made by another text encoder ({fingerprint}) than the checkpoint's ({own})"
        )
    if path.is_file() or (path.is_dir() and any(path.iterdir()) and not _is_checkpoint(path)):
        raise CheckpointError(f"{path} exists and is no checkpoint; give a folder that is empty or does not exist yet")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with folder_beside(path) as folder:
            save_file({k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}, folder / WEIGHTS_FILE)
            if class_bank is not None:
                class_bank.save(folder / CLASS_BANK_FILE)
            if isinstance(text_encoder, TextEncoder):
                text_encoder.save(folder / TEXT_FOLDER)
            files = sorted(file for file in folder.rglob("*") if file.is_file())
            description = {
                "format": FORMAT,
                "config": to_dict(config),
                "feature_spec": to_dict(feature_spec),
                "vocabulary": [] if class_bank is None else list(class_bank.names),
                "text_fingerprint": fingerprint,
                "versions": versions_with(("torch", "transformers", "safetensors")),
                "files": {file.relative_to(folder).as_posix(): sha256_of(file) for file in files},
            }
            if origin is not None:
                description["origin"] = origin
            (folder / CONFIG_FILE).write_text(sealed_text(description, seal=_SEAL), encoding="utf-8")
            # safetensors makes files that only their owner may read; the others of a folder follow the umask.
            mode = (folder / CONFIG_FILE).stat().st_mode
            for file in [*files, folder / CONFIG_FILE]:
                file.chmod(mode)
                sync_file(file)
            sync_folder(folder)
            sha256 = sha256_of(folder / CONFIG_FILE)
            replace_folder(folder, path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"cannot write the checkpoint {path}: {error}") from error
    return sha256


def _is_checkpoint(path: Path) -> bool:
    """Tell a checkpoint from other folders with a config.json, such as those of transformers."""
    try:
        description = parse_json((path / CONFIG_FILE).read_text(encoding="utf-8"), CONFIG_FILE)
    except (OSError, UnicodeDecodeError, BundleError):
        return False
    return isinstance(description, dict) and str(description.get("format", "")).startswith("stale-edge-checkpoint/")


def read_checkpoint(path: Path | str) -> Checkpoint:
    """Read a checkpoint folder, every byte checked against its recorded hash.

    Raises:
        CheckpointError: missing, truncated, changed, foreign, or of another format version; the file is named.
    """
    return in_one_generation(path, lambda: _read(Path(path), with_text=True), manifest=CONFIG_FILE)


def load_checkpoint(path: Path | str) -> nn.Module:
    """Load the detector of a checkpoint.

    Returns:
        The module in eval mode on the CPU; `forward(features (B, T, C), class_embeddings (K, D)) -> StaleOutput`.

    Raises:
        CheckpointError: missing, truncated, changed, foreign, or of another format version; the file is named.
    """
    return in_one_generation(path, lambda: _read(Path(path), with_text=False), manifest=CONFIG_FILE).model


def encode_classes(checkpoint: Checkpoint, names: Sequence[str]) -> ClassBank:
    """Embed class names with the text encoder of a checkpoint, in the order given.

    Names of the checkpoint's own vocabulary need no encoder.

    Raises:
        CheckpointError: the checkpoint holds no text encoder, or it cannot encode a name.
    """
    known = set(checkpoint.vocabulary)
    if set(names) <= known:
        return checkpoint.class_bank.select(names)
    if not isinstance(checkpoint.text_encoder, TextEncoder):
        missing = sorted(set(names) - known)
        raise CheckpointError(
            f"{checkpoint.path} holds no text encoder, so it cannot encode {', '.join(missing[:5])}; "
            "choose among its own classes, or train (or import) with a text encoder"
        )
    try:
        return class_bank(checkpoint.text_encoder, names)
    except ValueError as error:
        raise CheckpointError(f"{checkpoint.path} cannot encode the class names: {error}") from error


def _read(path: Path, *, with_text: bool) -> Checkpoint:
    description = _read_description(path)
    without_classes = description["vocabulary"] == []
    needed = (WEIGHTS_FILE,) if without_classes else (WEIGHTS_FILE, CLASS_BANK_FILE)
    _check_files(path, description["files"], needed=needed)
    try:
        config = config_from_dict(_with_normalization(description["config"]), ARCHITECTURES)
        feature_spec = from_dict(FeatureSpec, description["feature_spec"])
        bank = None if without_classes else ClassBank.load(path / CLASS_BANK_FILE)
    except StaleEdgeError as error:
        raise CheckpointError(f"the checkpoint {path} cannot be used: {error}") from error
    fingerprint = description["text_fingerprint"]
    if bank is not None and (list(bank.names) != description["vocabulary"] or bank.fingerprint != fingerprint):
        raise CheckpointError(f"{path / CLASS_BANK_FILE} is not the class bank that {CONFIG_FILE} describes")
    model = build_model(config.model)
    try:
        model.load_state_dict(load_file(path / WEIGHTS_FILE))
    except (SafetensorError, RuntimeError) as error:
        raise CheckpointError(f"{path / WEIGHTS_FILE} does not hold the weights of this detector: {error}") from error
    encoder = _read_text_encoder(path, config, bank) if with_text else None
    if encoder is not None and encoder.fingerprint() != fingerprint:
        raise CheckpointError(f"the class bank of {path} was not made by the checkpoint's own text encoder")
    sha256, origin = sha256_of(path / CONFIG_FILE), description.get("origin")
    return Checkpoint(model.eval(), config, feature_spec, bank, encoder, path, sha256, origin)


def _with_normalization(config: dict[str, Any]) -> dict[str, Any]:
    """Add `model.features` to older configs: the paper's network was centred by the data's mean."""
    model = config.get("model")
    if not isinstance(model, dict) or "features" in model or model.get("architecture", "paper") != "paper":
        return config
    return {**config, "model": {**model, "features": {"normalize": "data-mean"}}}


def _read_text_encoder(path: Path, config: Config, bank: ClassBank | None) -> TextEncoder | FreeClassEmbeddings | None:
    if config.model.text.encoder == "none" and bank is not None:
        free = FreeClassEmbeddings(bank.names, dim=config.model.embed_dim)
        free.load_state_dict({"embeddings": torch.from_numpy(bank.embeddings.copy())})
        return free
    if (path / TEXT_FOLDER).is_dir():
        return TextEncoder.load(path / TEXT_FOLDER, trainable=config.model.text.encoder == "tuned").eval()
    return None


def _read_description(path: Path) -> dict[str, Any]:
    """Read config.json and refuse what is not a checkpoint of this format."""
    if path.is_file():
        raise CheckpointError(
            f"{path} is a file; a checkpoint is a folder with {CONFIG_FILE} and {WEIGHTS_FILE} "
            "(for a .pth.tar of the public code: stale-edge import)"
        )
    if not path.is_dir():
        raise CheckpointError(f"no checkpoint at {path}: no such folder")
    if not (path / CONFIG_FILE).is_file():
        hint = "; it is a bundle, made from a checkpoint" if (path / "manifest.json").is_file() else ""
        raise CheckpointError(f"{path} is no checkpoint: it has no {CONFIG_FILE}{hint}")
    try:
        content = read_regular(path / CONFIG_FILE, most=MOST_MANIFEST_BYTES)
        description = parse_json(content.decode(), "it")
    except OSError as error:
        raise CheckpointError(f"{path / CONFIG_FILE} cannot be read: {error.strerror or error}") from error
    except (UnicodeDecodeError, BundleError) as error:
        raise CheckpointError(f"{path / CONFIG_FILE} is not valid JSON: {error}") from error
    found = description.get("format") if isinstance(description, dict) else None
    if found not in (FORMAT, _UNSEALED_FORMAT):
        raise CheckpointError(
            f"{path} is no checkpoint that this version reads: format {shown(found)}, expected {FORMAT!r}"
        )
    if (found == FORMAT or _SEAL in description) and not is_sealed(content, seal=_SEAL):
        raise CheckpointError(f"{path / CONFIG_FILE} has changed: it is not, byte by byte, what was written")
    missing = [key for key in _KEYS if key not in description]
    if missing or not isinstance(description["files"], dict) or not isinstance(description["config"], dict):
        raise CheckpointError(f"{path / CONFIG_FILE} is incomplete: {', '.join(missing) or 'a section'} is missing")
    for section in ("feature_spec", "origin"):
        if not isinstance(description.get(section, {}), dict):
            raise CheckpointError(f"{path / CONFIG_FILE}: {section} must be a section")
    return dict(description)


def _check_files(path: Path, files: dict[str, str], *, needed: Sequence[str]) -> None:
    for name in needed:
        if name not in files:
            raise CheckpointError(f"{path / CONFIG_FILE} does not list {name}")
    for name, expected in files.items():
        file = inside(path, name, nested=True, error=CheckpointError)
        if not file.is_file():
            raise CheckpointError(f"{file} is missing from the checkpoint")
        if sha256_of(file) != expected:
            raise CheckpointError(f"{file} is truncated or changed: its sha256 is not the one in {CONFIG_FILE}")
    text = path / TEXT_FOLDER
    stray = [file for file in text.rglob("*") if file.is_file() and file.relative_to(path).as_posix() not in files]
    if stray:
        raise CheckpointError(f"{stray[0]} does not belong to the checkpoint: {CONFIG_FILE} does not list it")
