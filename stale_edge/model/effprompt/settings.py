"""Settings of learned prompts."""

from dataclasses import dataclass

from stale_edge.config import TextConfig
from stale_edge.config.checks import require


@dataclass(frozen=True)
class PromptsConfig(TextConfig):
    """CLIP's text tower with EffPrompt's table of prompts: `prefix` vectors, the name, `postfix` vectors."""

    n_contexts: int = 0
    """Not used beside a table of prompts; 0."""
    prefix: int = 16
    """Learned vectors before the name, >= 0; with `postfix` also 0 the bare name is encoded, as in B-I."""
    postfix: int = 16
    """Learned vectors after the name, >= 0."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("prefix", "postfix"):
            require(getattr(self, name) >= 0, f"model.text.{name}", getattr(self, name), "an integer >= 0")
        require(self.n_contexts == 0, "model.text.n_contexts", self.n_contexts, "0: prefix and postfix stand for it")
