"""The range check of all settings."""

from stale_edge.errors import ConfigError, shown


def require(condition: bool, key: str, value: object, allowed: str) -> None:
    """Raise a `ConfigError` that says what was got and what is allowed, unless the condition holds."""
    if not condition:
        raise ConfigError(f"{key} must be {allowed}; got {shown(value)}")
