"""The target of a run: a full-size network made for the run, or a bundle."""

from dataclasses import dataclass
from pathlib import Path

from stale_edge.benchmarking.extras import NEEDS_TORCH, has_torch
from stale_edge.benchmarking.network_sizes import FULL_SIZE, Network, TextTower, network_of_settings
from stale_edge.benchmarking.row_plan import SUPPORTED, Combination
from stale_edge.bundle import ClassBank, Manifest, read_bundle
from stale_edge.config import config_from_dict
from stale_edge.config.runtimes import RUNTIMES, file_for
from stale_edge.errors import BundleError, ConfigError, MissingExtraError, shown

DEFAULT_LENGTHS = (100, 200)


@dataclass(frozen=True)
class Target:
    """A network, a bundle, or both."""

    title: str
    """Name in the protocol."""
    network: Network | None
    """Sizes for PyTorch rows and for counting; None: the bundle does not name its network, or torch is missing."""
    n_classes: int
    policy: str
    """Decode policy."""
    bundle: Path | None = None
    """Path of the bundle; None: artifacts are made for each length."""
    manifest: Manifest | None = None
    no_reference: str = ""
    """Reason why no reference can be measured; empty: it can."""

    @property
    def available(self) -> tuple[Combination, ...] | None:
        """Runtimes and precisions of the detector; None: all can be made."""
        if self.manifest is None:
            return None
        files = {(entry.runtime, entry.precision) for entry in self.manifest.detectors}
        artifacts = tuple(
            pair
            for pair in dict.fromkeys(pair for pairs in SUPPORTED.values() for pair in pairs)
            if pair[0] in RUNTIMES and file_for(*pair) in files
        )
        return artifacts if self.network is None else (("pytorch", "fp32"), ("pytorch", "fp16"), *artifacts)

    def lengths(self, wanted: tuple[int, ...]) -> tuple[int, ...]:
        """Return the lengths to measure.

        Raises:
            ConfigError: the bundle takes only one length, and another is requested.
        """
        fixed = self.manifest.feature_contract.length if self.manifest is not None else None
        if fixed is None:
            return wanted or DEFAULT_LENGTHS
        if any(length != fixed for length in wanted):
            raise ConfigError(
                f"{self.title} was made for T = {fixed} snippets alone; "
                f"got --lengths {','.join(map(str, wanted))}: use --lengths {fixed}"
            )
        return (fixed,)

    def network_at(self, length: int) -> Network | None:
        """Return the network that takes videos of `length` snippets."""
        return None if self.network is None else self.network.at(length)

    def localizer_length(self, length: int) -> int:
        """Return the detector's number of snippets for a video of `length` snippets; resampling may change it."""
        contract = self.manifest.feature_contract if self.manifest is not None else None
        return contract.resample_to if contract is not None and contract.resample_to is not None else length


def network_target(network: Network = FULL_SIZE) -> Target:
    """Measure a network of given sizes with random weights.

    Raises:
        MissingExtraError: torch is not installed.
    """
    if not has_torch():
        raise MissingExtraError(NEEDS_TORCH)
    from stale_edge.model.architectures import architecture_of

    name, n_classes = network.model.architecture, network.n_classes
    article = "an" if network.size.startswith(("a", "e", "i", "o", "u")) else "a"
    size = f"{article} {network.size}".strip()
    title = f"{size} {name} network with random weights and {n_classes} classes"
    return Target(title, network, n_classes, architecture_of(name).decode.policy)


def bundle_target(path: Path, *, text_encoder: Path | None = None) -> Target:
    """Measure a bundle's artifacts; where torch is installed, also a PyTorch network of its sizes.

    Args:
        path: the bundle.
        text_encoder: folder of the text encoder that made the class bank; the reference has its sizes. None: those
            that the bundle's manifest states.

    Raises:
        BundleError: not a bundle.
        CheckpointError: `text_encoder` is not one.
    """
    bundle = read_bundle(path)
    network, reason = None, "torch is not installed; a reference is a PyTorch network"
    if has_torch():
        network, reason = network_of(bundle.manifest, bundle.class_bank, text_encoder=text_encoder)
    manifest, n_classes = bundle.manifest, len(bundle.class_bank)
    return Target(f"the bundle {path.name}", network, n_classes, manifest.decode.policy, path, manifest, reason)


def network_of(manifest: Manifest, bank: ClassBank, *, text_encoder: Path | None) -> tuple[Network | None, str]:
    """Read the network that a bundle was made from.

    Returns:
        network: with its text tower if that is known; None: the manifest does not name it, or it is no row here.
        reason: why no reference can be measured; empty: it can.

    Raises:
        BundleError: the manifest's config has another version, or its sizes of the text encoder are malformed.
        CheckpointError: `text_encoder` is not one.
    """
    from stale_edge.model.architectures import ARCHITECTURES

    values = manifest.provenance.get("config")
    if not isinstance(values, dict):
        return None, "the bundle's manifest does not hold the config it was made from"
    if manifest.architecture not in ARCHITECTURES:
        known = ", ".join(ARCHITECTURES)
        return None, f"the bundle's architecture {shown(manifest.architecture)} is none of those known here: {known}"
    try:
        model = config_from_dict(values, ARCHITECTURES).model
    except ConfigError as error:
        raise BundleError(
            f"the config in the bundle's manifest is of another version of stale-edge: {error}"
        ) from error
    tower, reason = None, "the bundle's class embeddings were learnt freely, no text encoder made them"
    if model.text.encoder != "none":
        tower = _text_tower(manifest, bank, n_contexts=model.text.n_contexts, folder=text_encoder)
        reason = (
            f"the bundle does not state the sizes of the text encoder of its classes (D = {bank.width}): "
            "export it again, from a checkpoint that holds its text encoder"
        )
    network = network_of_settings(model, len(bank), tower)
    return network, "" if network.has_reference else reason


def _text_tower(manifest: Manifest, bank: ClassBank, *, n_contexts: int, folder: Path | None) -> TextTower | None:
    """Find the sizes of the text encoder that made a class bank; None: they are not known."""
    if bank.space != "text":
        return None
    if folder is not None:
        from stale_edge.benchmarking.torch_rows.text_tower import text_tower_of

        return text_tower_of(folder, bank, n_contexts=n_contexts)
    stated = manifest.provenance.get("text_encoder")
    if isinstance(stated, dict):
        try:
            return TextTower.from_plain(stated)
        except ConfigError as error:
            raise BundleError(f"provenance.text_encoder in the bundle's manifest: {error}") from error
    # The public code of STALE always embeds classes with CLIP's ViT-B, whose checkpoints hold no text encoder.
    public = manifest.architecture == "release" and bank.width == TextTower().embed_dim
    return TextTower() if public else None
