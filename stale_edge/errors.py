"""Exceptions with one base class, so that a caller can catch every error about files and environments.

A bad argument of a function is a `ValueError`; a bad file, bundle, checkpoint or environment is a `StaleEdgeError`.
The command line prints a `StaleEdgeError` as one line and exits with its `exit_code`.
"""


def shown(value: object, limit: int = 80) -> str:
    """Write a value for a message: at most `limit` characters of its `repr`, on one line; the rest is cut."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an integer of more digits than Python writes, or a list in a list in a ...
        text = f"a {type(value).__name__} that is too long to write"
    return cut(text, limit)


def reason(error: BaseException) -> str:
    """Give a library's error on one line, in at most 200 characters: its type and message."""
    return cut(f"{type(error).__name__}: {' '.join(str(error).split())}", 200)


def cut(text: str, limit: int = 80) -> str:
    """Cut a text for a message to `limit` characters."""
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


class StaleEdgeError(Exception):
    """A file, folder or environment that cannot be used; the message names it, its problem, and what to do."""

    exit_code = 1


class ConfigError(StaleEdgeError):
    """A configuration has an unknown key, a value of the wrong type, or a value out of range."""


class DataError(StaleEdgeError):
    """A data set, annotation file, split or feature file cannot be used."""


class FeatureContractError(StaleEdgeError, ValueError):
    """Features do not fit what the model was trained on: channels, length, type, or values that are not finite."""


class CheckpointError(StaleEdgeError):
    """A checkpoint is missing, truncated, foreign, or of another format version."""


class BundleError(StaleEdgeError):
    """A bundle is missing, malformed, of another format version, or asks for something it does not hold."""


class ClassBankError(BundleError, ValueError):
    """Class names or embeddings do not fit: unknown, duplicate or empty names, another width, another text encoder."""


class BusyError(StaleEdgeError):
    """Another process is writing what was to be written or read; it is named."""


class MissingExtraError(StaleEdgeError, ImportError):
    """An optional dependency is not installed; the message names the extra that brings it."""


class DeviceError(StaleEdgeError):
    """A GPU was asked for, and there is none that can be used."""


class VerificationError(BundleError):
    """A bundle's bytes are not what its manifest says."""

    exit_code = 3


class ParityError(StaleEdgeError):
    """An exported artifact and its source model give different detections; nothing was written."""

    exit_code = 3


class InferenceError(StaleEdgeError):
    """A runtime failed while it ran a network, for example because there is not enough memory."""


class TrainingError(StaleEdgeError):
    """Training cannot go on, for example because a loss is not finite."""
