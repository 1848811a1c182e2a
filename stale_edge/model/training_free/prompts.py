"""The prompts of the training-free detector: what class names are put into, and what names no action."""

from dataclasses import dataclass, field
from pathlib import Path

from stale_edge.errors import DataError, reason
from stale_edge.paths import MOST_TEXT_BYTES, read_regular

TEMPLATES = ("{}", "a photo of {}", "a video of {}", "a person doing {}")
"""A class name is put into each; the mean of the embeddings counts."""
_LEAST_BACKGROUND = 2


def background_file() -> Path:
    """Give the file of the default background prompts, one a line."""
    return Path(__file__).with_name("background.txt")


@dataclass(frozen=True)
class Prompts:
    """What the detector compares class names with.

    background: prompts that name no action, at least two, distinct.
    templates: each with `{}` once, where a class name goes.

    Raises:
        DataError: there are fewer, one is there twice, or a template has no place for the name.
    """

    background: tuple[str, ...] = field(default_factory=lambda: read_prompts(background_file()))
    templates: tuple[str, ...] = TEMPLATES

    def __post_init__(self) -> None:
        if len(set(self.background)) < max(_LEAST_BACKGROUND, len(self.background)):
            raise DataError(
                f"background prompts must be at least {_LEAST_BACKGROUND} and distinct; got {list(self.background)[:8]}"
            )
        wrong = [template for template in self.templates if template.count("{}") != 1 or "\n" in template]
        if wrong or not self.templates:
            raise DataError(f"a template holds {{}} once, where the class name goes; got {wrong or 'no template'}")


def read_prompts(path: Path) -> tuple[str, ...]:
    """Read prompts, one a line; empty lines and lines that begin with # are passed over.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        text = read_regular(path, most=MOST_TEXT_BYTES).decode()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: cannot read the prompts: {reason(error)}; give a text file, one prompt a line"
        ) from error
    lines = (line.strip() for line in text.splitlines())
    return tuple(line for line in lines if line and not line.startswith("#"))
