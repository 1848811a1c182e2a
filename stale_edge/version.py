"""The version of this package, and the versions of the packages it works with."""

import platform
from collections.abc import Iterable

__version__ = "0.2.0"


def installed_versions(packages: Iterable[str]) -> dict[str, str]:
    """Return the version of every package that is installed; the others are left out."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def versions_with(packages: Iterable[str]) -> dict[str, str]:
    """Return the versions of stale-edge, of Python and of every package that is installed."""
    return {"stale_edge": __version__, "python": platform.python_version(), **installed_versions(packages)}
