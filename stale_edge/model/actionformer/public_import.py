"""A checkpoint of the public ActionFormer program -> a checkpoint of this kit: `stale-edge import --config`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stale_edge.bundle.files import sha256_of
from stale_edge.config import Config, TrainConfig
from stale_edge.data import read_split
from stale_edge.errors import CheckpointError
from stale_edge.model.actionformer.public_settings import load_public_settings
from stale_edge.model.actionformer.public_weights import actionformer_from_public
from stale_edge.model.checkpoint import write_checkpoint
from stale_edge.model.public_file import read_public_file
from stale_edge.model.rows import row_bank

ONE_CLASS = "action"
"""Name of the class of a network that finds actions without naming them."""


@dataclass(frozen=True)
class ActionFormerImport:
    """The result of an import.

    averaged: whether the weights are the moving average that the public program evaluates.
    named: whether the classes have names of a file; else they are numbered.
    """

    checkpoint: Path
    sha256: str
    epoch: int | None
    parameters: int
    averaged: bool
    classes: tuple[str, ...]
    named: bool

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "architecture": "actionformer",
            "checkpoint": str(self.checkpoint),
            "sha256": self.sha256,
            "epoch": self.epoch,
            "parameters": self.parameters,
            "averaged": self.averaged,
            "classes": list(self.classes),
        }

    def summary(self) -> str:
        """Say in a few lines what was read, for people."""
        weights = "the moving average of the weights" if self.averaged else "the weights: the file has no average"
        lines = [
            f"{self.checkpoint}: ActionFormer, {len(self.classes)} classes",
            f"  {self.parameters / 1e6:.1f} M parameters, {weights}",
        ]
        if not self.named and len(self.classes) > 1:
            lines.append("  The file names no classes, so they are numbered; give the names with --classes.")
        return "\n".join(lines)


def import_actionformer(
    file: Path | str, out: Path | str, *, config: Path | str, classes: Path | str | None = None
) -> ActionFormerImport:
    """Turn a checkpoint of the public program into one of this kit. No code of the file is run.

    Args:
        file: what the program saved, `.pth.tar`; its moving average is read, which is what the program evaluates.
        out: checkpoint folder to write.
        config: the configuration that the network was trained with, `.yaml` or `.json`.
        classes: file with the class names in the order of their numbers, one a line; None: they are numbered.

    Raises:
        ConfigError: the configuration cannot be used.
        CheckpointError: the file is no such checkpoint, it does not fit the configuration, or `out` cannot be written.
        DataError: the file with class names cannot be used.
    """
    file, out = Path(file), Path(out)
    settings = load_public_settings(Path(config))
    public = read_public_file(file)
    if not public.is_actionformer:
        raise CheckpointError(
            f"{file} is no checkpoint of ActionFormer, which --config is for; import it without --config"
        )
    try:
        model = actionformer_from_public(public.tensors, settings.network)
    except CheckpointError as error:
        raise CheckpointError(f"{file}: {error}") from error
    names = _names(settings.network.n_classes, None if classes is None else Path(classes))
    sha256 = write_checkpoint(
        out,
        model=model,
        config=Config(
            model=settings.network,
            train=TrainConfig(n_snippets=settings.network.max_length),
            loss=settings.objective,
            decode=settings.decoding,
        ),
        feature_spec=settings.features,
        class_bank=row_bank(model, names),
        text_encoder=None,
        origin={"file": file.name, "sha256": sha256_of(file), "epoch": public.epoch, "averaged": public.averaged},
    )
    n_parameters = sum(parameter.numel() for parameter in model.parameters())
    return ActionFormerImport(out, sha256, public.epoch, n_parameters, public.averaged, names, classes is not None)


def _names(n_classes: int, path: Path | None) -> tuple[str, ...]:
    if path is None:
        return (ONE_CLASS,) if n_classes == 1 else tuple(f"class {number}" for number in range(n_classes))
    names = tuple(read_split(path))
    if len(names) != n_classes:
        raise CheckpointError(
            f"{path} holds {len(names)} class names and the network has {n_classes} classes; give one name for each, "
            "in the order of their numbers"
        )
    return names
