"""Parts of a network that stay in float32 in low precision, since rounding there changes detections."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from torch import nn


@dataclass(frozen=True)
class KeptFloat32:
    """Which parts stay in float32 in which precision; parts that a network lacks are passed over.

    modules: patterns (fnmatch) of names as in `named_modules()` of the folded network, by precision. Linear layers at
        or below them stay.
    products: of static int8, the products of two activations that stay: patterns of the module, and which such product
        of it, counted from 0; None: all.
    """

    modules: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    products: tuple[tuple[str, int | None], ...] = ()

    def modules_of(self, model: nn.Module, precision: str) -> tuple[str, ...]:
        """Name the modules of a folded network that stay in float32, in the order of the patterns."""
        known = [name for name, _ in model.named_modules()]
        patterns = self.modules.get(precision, ())
        return tuple(name for pattern in patterns for name in known if fnmatchcase(name, pattern))

    def keeps_product(self, module: str, place: int) -> bool:
        """Say whether a product of activations stays in float32: the `place`-th one of a module."""
        return any(fnmatchcase(module, pattern) and which in (None, place) for pattern, which in self.products)
