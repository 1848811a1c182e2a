"""A text encoder as files: the tower and tokenizer of transformers, and what was learned beside them."""

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from stale_edge.errors import CheckpointError
from stale_edge.model.checkpoint_files import fetch_hint
from stale_edge.model.hub_revisions import hub_model
from stale_edge.model.text_layouts import layout_of

CONTEXTS_FILE = "contexts.safetensors"
TABLE_FILE = "prompt_table.safetensors"
PROMPT_FILE = "prompt.json"
PLAIN_PROMPT = "{}"
"""The prompt template of bare class names."""
_TOKENIZER_FILES = ("tokenizer.json", "vocab.json")


class TextParts(NamedTuple):
    """The parts of a saved text encoder.

    tower: module of transformers, float32, in eval mode.
    tokenizer: the tower's own.
    prompt: what a name is put into.
    contexts: tensor `contexts` (N, H); None: there are none.
    table: tensors `weight` and `around` of a table of prompts; None: there is none.
    """

    tower: nn.Module
    tokenizer: Any
    prompt: str = PLAIN_PROMPT
    contexts: Tensor | None = None
    table: Mapping[str, Tensor] | None = None


def read_text_parts(source: str | Path) -> TextParts:
    """Read a text encoder from a local folder, or from the hub or its cache by name.

    Raises:
        CheckpointError: the source is neither, or is unreadable.
    """
    import transformers

    folder, (name, revision) = Path(source), hub_model(source)
    try:
        with quiet_transformers():
            layout = layout_of(transformers.PretrainedConfig.get_config_dict(name, revision=revision)[0])
            model_class = getattr(transformers, layout.model)
            tower, found = model_class.from_pretrained(name, revision=revision, output_loading_info=True)
            tokenizer = getattr(transformers, layout.tokenizer).from_pretrained(name, revision=revision)
    except Exception as error:  # OSError, ValueError, SafetensorError, KeyError ... for bad folders
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise CheckpointError(
            f"cannot load the text encoder {str(source)!r}: {fetch_hint(source)}: {reason[0]}"
        ) from error
    if lacking := sorted(map(str, found["missing_keys"])):  # transformers would make them up
        raise CheckpointError(
            f"{source}: not a {layout.model}: {len(lacking)} weights are missing, such as {', '.join(lacking[:3])}"
        )
    contexts = _saved_tensors(folder / CONTEXTS_FILE, ("contexts",), "context vectors")
    return TextParts(
        tower.float().eval(),
        tokenizer,
        _saved_prompt(folder / PROMPT_FILE),
        None if contexts is None else contexts["contexts"],
        _saved_tensors(folder / TABLE_FILE, ("weight", "around"), "a table of prompts"),
    )


def write_text_parts(folder: Path, parts: TextParts) -> None:
    """Write a text encoder into a folder, made if missing; `read_text_parts` reads it again."""
    folder.mkdir(parents=True, exist_ok=True)
    with quiet_transformers():
        cast(Any, parts.tower).save_pretrained(folder)
        parts.tokenizer.save_pretrained(folder)
    if parts.contexts is not None:
        save_file({"contexts": parts.contexts}, folder / CONTEXTS_FILE)
    if parts.table is not None:
        save_file(dict(parts.table), folder / TABLE_FILE)
    if parts.prompt != PLAIN_PROMPT:
        text = json.dumps({"prompt": parts.prompt}, ensure_ascii=False) + "\n"
        (folder / PROMPT_FILE).write_text(text, encoding="utf-8")


def load_tokenizer(source: str | Path) -> Any:
    """Load CLIP's tokenizer from a folder (`tokenizer.json`, or `vocab.json` and `merges.txt`), the hub or its cache.

    Raises:
        CheckpointError: it is in none of them.
    """
    from transformers import CLIPTokenizer

    # Without its files transformers silently makes an empty tokenizer.
    if (folder := Path(source)).is_dir() and not any((folder / name).is_file() for name in _TOKENIZER_FILES):
        raise CheckpointError(f"no tokenizer in {folder}: none of {', '.join(_TOKENIZER_FILES)} is there")
    try:
        with quiet_transformers():
            name, revision = hub_model(source)
            return CLIPTokenizer.from_pretrained(name, revision=revision)
    except Exception as error:  # as in read_text_parts: any kind
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise CheckpointError(f"cannot load the CLIP tokenizer {str(source)!r}: {reason[0]}") from error


def _saved_prompt(path: Path) -> str:
    if not path.is_file():
        return PLAIN_PROMPT
    try:
        prompt = json.loads(path.read_text(encoding="utf-8"))["prompt"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path} does not hold a prompt: {error}") from error
    if not isinstance(prompt, str):
        raise CheckpointError(f"{path} does not hold a prompt: got {prompt!r}")
    return prompt


def _saved_tensors(path: Path, names: tuple[str, ...], what: str) -> dict[str, Tensor] | None:
    if not path.is_file():
        return None
    try:
        tensors = load_file(path)
        return {name: tensors[name] for name in names}
    except (SafetensorError, KeyError) as error:
        raise CheckpointError(f"{path} does not hold {what}: {error}") from error


@contextlib.contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silence the messages of transformers: progress bars, and lists of unused weights.

    Code that loads weights checks for missing ones itself (`output_loading_info`).
    """
    from transformers.utils import logging

    shown, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if shown:
            logging.enable_progress_bar()
