"""Optional packages: whether they are installed, and the error where they are not."""

import contextlib
import importlib.util
from collections.abc import Iterator

from stale_edge.errors import MissingExtraError


def has_torch() -> bool:
    """Whether torch is installed, asked without importing it."""
    return importlib.util.find_spec("torch") is not None


@contextlib.contextmanager
def needs_extra(reason: str) -> Iterator[None]:
    """Turn the error of an import that fails inside the block into one line that says what to install.

    Raises:
        MissingExtraError: `reason`, where an import fails.
    """
    try:
        yield
    except ImportError as error:
        raise MissingExtraError(reason) from error
