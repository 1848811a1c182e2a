"""The interface of detectors and objectives that training, export and measurement use."""

from collections.abc import Mapping, Sequence
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from stale_edge.bundle.manifest import TensorSpec
from stale_edge.config import LengthRule, ModelSettings, TimeGrid
from stale_edge.model.batch_part import BatchPart


class Detector(Protocol):
    """An `nn.Module` that finds actions.

    `forward(features (B, T, C), class_embeddings (K, D))` gives a NamedTuple; deployed are the fields that
    `output_specs` names.
    """

    @property
    def config(self) -> ModelSettings:
        """Settings it was built from."""
        ...

    @property
    def length_rule(self) -> LengthRule:
        """Which numbers of snippets T it takes."""
        ...

    def output_specs(self) -> tuple[TensorSpec, ...]:
        """Name the deployed outputs, float32, in the order of a graph; shapes use B, T, K and P."""
        ...

    def undecided(self, outputs: Mapping[str, NDArray[Any]]) -> NDArray[np.float64]:
        """Measure how far each hard decision inside the network is from its threshold.

        A tiny difference between two computations may flip a decision whose distance is tiny, and with it whatever
        depends on it.

        Args:
            outputs: deployed outputs of B videos, by name.

        Returns:
            (B, N), > 0 where the decision is "on". N = T for decisions about snippets; N = 0 for a network without any.
        """
        ...


Settings = TypeVar("Settings", bound=ModelSettings)


class DetectorNetwork(nn.Module, Generic[Settings]):
    """What most detectors have in common: the length rule of their settings, and no hard decision inside."""

    config: Settings

    @property
    def length_rule(self) -> LengthRule:
        """Which numbers of snippets T it takes, as its settings say."""
        return self.config.length_rule

    def undecided(self, outputs: Mapping[str, NDArray[Any]]) -> NDArray[np.float64]:
        """Nothing inside is a hard decision: (B, 0)."""
        return np.empty((len(outputs["class_logits"]), 0))


class Objective(Protocol):
    """An `nn.Module` that makes a detector's targets and computes its losses.

    Its parameters are trained beside the detector's, and with its buffers (for example a running normalizer) they are
    part of a resumed run's state. Nothing of it is deployed.
    """

    terms: tuple[str, ...]
    """Names of the loss terms, as they stand in metrics."""

    def targets(self, actions: Sequence[Any], *, vocabulary: Sequence[str], grid: TimeGrid, n_snippets: int) -> Any:
        """Make the targets of one video from its annotated actions (label, start_s, end_s)."""
        ...

    def stack(self, targets: Sequence[Any]) -> Any:
        """Put the targets of B videos together; the result has `to(device)`."""
        ...

    def inputs(self, targets: Any, n_classes: int) -> tuple[Tensor, ...]:
        """Give further inputs of the detector in training, beside features and class embeddings; mostly none."""
        ...

    def losses(self, outputs: Any, targets: Any) -> dict[str, Tensor]:
        """Compute every term, each (B,) float32, unweighted.

        Args:
            outputs: what the detector's `logits` returns, where it has this method; else what `forward` does.
            targets: of the same videos.
        """
        ...

    def total(self, terms: Mapping[str, Tensor]) -> Tensor:
        """Add the terms with their weights, (B,)."""
        ...


@runtime_checkable
class Crops(Protocol):
    """An `Objective` of a detector that takes videos at their own rate: it draws the part for each epoch."""

    def crop(self, targets: Any, generator: torch.Generator) -> tuple[int, Any]:
        """Draw a part of a video: its first snippet, and its targets, whose `n_snippets` is its length."""
        ...


@runtime_checkable
class CountsOverBatch(Protocol):
    """An `Objective` whose losses of one video depend on counts over its batch."""

    part: BatchPart | None
    """Which part this process has of the batch; set before every step where processes share batches."""


def as_module(part: Any) -> nn.Module:
    """Cast a detector or objective to a module for the type checker.

    Raises:
        TypeError: it is none.
    """
    if not isinstance(part, nn.Module):
        raise TypeError(f"a torch.nn.Module is needed; got {type(part).__name__}")
    return part
