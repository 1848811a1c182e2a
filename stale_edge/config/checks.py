"""The range check of all settings."""

from stale_edge.errors import ConfigError, shown


def require(condition: bool, key: str, value: object, allowed: str) -> None:
    """Raise a `ConfigError` with the value and the allowed values, unless the condition holds."""
    if not condition:
        raise ConfigError(f"{key} must be {allowed}; got {shown(value)}")
