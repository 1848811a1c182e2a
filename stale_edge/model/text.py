"""Class names to class embeddings, eq. 2 of the STALE paper: CLIP's text tower behind learnable context vectors."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from stale_edge.errors import CheckpointError
from stale_edge.model.effprompt.prompt_table import PromptTable
from stale_edge.model.fingerprint import hash_tensors
from stale_edge.model.layers import l2_normalize
from stale_edge.model.saved_text import (
    CONTEXTS_FILE,
    PLAIN_PROMPT,
    TABLE_FILE,
    TextParts,
    read_text_parts,
    write_text_parts,
)
from stale_edge.model.text_layouts import layout_of

CONTEXT_STD = 0.02
"""Spread of fresh context vectors, as in CoOp (Zhou et al., arXiv:2109.01134, section 4.1)."""


class TextEncoder(nn.Module):
    """Encode class names with a CLIP text tower: [SOS] [contexts] [tokens of the name] [EOS] to the embedding at [EOS].

    SigLIP's rows have no [SOS] and are padded to the tower's length; the embedding is read at the last place.

    Names are used as given, or put into `prompt`; only the tokenizer may change them (CLIP's lower-cases). With several
    prompts the embedding of a name is the mean of their unit vectors.
    Every context vector is learnable, the tower's own weights only with `trainable=True`.
    Without contexts the embeddings are exactly those of `transformers.CLIPTextModelWithProjection` for the prompts.

    Args:
        tower: a `transformers.CLIPTextModelWithProjection` or `SiglipTextModel`.
        tokenizer: the tower's own, with a backend of the `tokenizers` library.
        n_contexts: number of context vectors, N̂ in the paper, >= 0.
        trainable: whether the tower's weights get gradients.
        prompt: what a name is put into, with `{}` once where it goes; several prompts stand on lines of their own.
            Saved with the encoder, so that classes added later get the same prompts.
        around: numbers of learned vectors before and after the name, read from a `PromptTable`, as in EffPrompt;
            (0, 0): there is none. A table stands in place of contexts.

    Raises:
        ValueError: tower and tokenizer do not belong together, there are contexts and a table, no room is left beside
            them, or the prompt has no place for the name, or two.
    """

    def __init__(
        self,
        tower: nn.Module,
        tokenizer: Any,
        *,
        n_contexts: int = 0,
        trainable: bool = False,
        prompt: str = PLAIN_PROMPT,
        around: tuple[int, int] = (0, 0),
    ) -> None:
        super().__init__()
        if any(line.count("{}") != 1 for line in prompt.split("\n")):
            raise ValueError(f"a prompt holds {{}} once, where the class name goes; got {prompt!r}")
        config = cast(Any, tower).config
        self.max_tokens = int(config.max_position_embeddings)
        if not 0 <= n_contexts <= self.max_tokens - 3:
            raise ValueError(f"n_contexts must lie in 0..{self.max_tokens - 3} for this text tower; got {n_contexts}")
        self.layout = layout_of(config)
        # A tower with eos_token_id 2 comes from before transformers#24773 and takes the highest id instead.
        strange_end = self.layout.causal and config.eos_token_id not in (2, tokenizer.eos_token_id)
        if strange_end or len(tokenizer) > config.vocab_size:
            raise ValueError(
                f"the tokenizer ({len(tokenizer)} tokens, end token {tokenizer.eos_token_id}) is not the text tower's "
                f"({config.vocab_size} tokens, end token {config.eos_token_id})"
            )
        self.tower = tower.requires_grad_(trainable)
        self.tokenizer = tokenizer
        self.prompt = prompt
        if n_contexts and any(around):
            raise ValueError(f"a table of prompts stands in place of contexts; got {n_contexts} contexts and {around}")
        self.contexts = nn.Parameter(torch.randn(n_contexts, int(config.hidden_size)) * CONTEXT_STD)
        self.table: PromptTable | None = None
        if any(around) and not self.layout.causal:
            raise ValueError(f"a table of prompts needs a text tower of CLIP; got a {self.layout.model}")
        if any(around):
            prefix, postfix = around
            self.table = PromptTable(self.max_tokens, int(config.hidden_size), prefix=prefix, postfix=postfix)

    @classmethod
    def load(
        cls,
        source: str | Path,
        *,
        n_contexts: int | None = None,
        trainable: bool = False,
        around: tuple[int, int] | None = None,
    ) -> "TextEncoder":
        """Load a text tower and its tokenizer.

        Args:
            source: a local folder in transformers' format (contexts, table and prompt saved by `save` come along), or
                a hub name such as `openai/clip-vit-base-patch16`, with `@REVISION` or that of `hub_revisions.py`.
            n_contexts: context vectors wanted; None: as many as the folder holds, none from elsewhere.
            trainable: whether the tower's weights get gradients.
            around: vectors of a prompt table wanted before and after the name; None: as many as the folder holds.

        Raises:
            CheckpointError: the source is neither, is unreadable, or holds another number of contexts or vectors.
        """
        parts = read_text_parts(source)
        folder, saved, table = Path(source), parts.contexts, parts.table
        if saved is not None and n_contexts not in (None, len(saved)):
            raise CheckpointError(f"{folder / CONTEXTS_FILE} holds {len(saved)} contexts; {n_contexts} were asked for")
        n = len(saved) if saved is not None else n_contexts or 0
        held = (0, 0) if table is None else cast(tuple[int, int], tuple(table["around"].tolist()))
        if table is not None and around not in (None, held):
            raise CheckpointError(f"{folder / TABLE_FILE} holds prompts of {held} vectors; {around} were asked for")
        wanted = held if table is not None else around or (0, 0)
        try:
            encoder = cls(
                parts.tower,
                parts.tokenizer,
                n_contexts=n,
                trainable=trainable,
                prompt=parts.prompt,
                around=wanted,
            )
            if saved is not None:
                encoder.load_state_dict({"contexts": saved}, strict=False)
            if encoder.table is not None and table is not None:
                encoder.table.load_state_dict({"weight": table["weight"]})
        except (ValueError, RuntimeError) as error:
            raise CheckpointError(f"cannot use the text encoder {str(source)!r}: {error}") from error
        return encoder

    @property
    def dim(self) -> int:
        """D, width of the embeddings."""
        config = cast(Any, self.tower).config
        return int(config.projection_dim if self.layout.causal else config.projection_size)

    def encode(self, names: Sequence[str]) -> Tensor:
        """Embed class names.

        Args:
            names: K >= 1 names.

        Returns:
            (K, D) float32, differentiable with respect to the contexts: as the tower gives them (not normalised), or
            with several prompts the mean of unit vectors.

        Raises:
            ValueError: a name has no token, or too many for the tower (nothing is cut off).
        """
        rows: Tensor = self(*self.tokenize(names))
        n_prompts = len(self.prompt.split("\n"))
        return rows if n_prompts == 1 else l2_normalize(rows).reshape(n_prompts, len(names), -1).mean(dim=0)

    def tokenize(self, names: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Turn names into token ids and attention mask, int64 each, with room for the contexts; see `encode`.

        (K, L); with P prompts (P K, L), all names in the first prompt first.
        """
        if isinstance(names, str) or len(names) == 0:
            raise ValueError(f"names must be a sequence of at least one class name; got {names!r}")
        layout, start, end = self.layout, self.tokenizer.bos_token_id, self.tokenizer.eos_token_id
        filler = start if layout.has_start else self.tokenizer.pad_token_id  # in the places of contexts
        before, after = self.around
        prompts = self.prompt.split("\n")
        texts = [prompt.replace("{}", name) for prompt in prompts for name in names]
        rows = []
        for name, ids in zip(
            [*names] * len(prompts), self.tokenizer(texts, add_special_tokens=False).input_ids, strict=True
        ):
            if not name.strip() or len(ids) == 0 or end in ids:
                raise ValueError(f"the class name {name!r} has no token of its own, or one that ends a text")
            row = [*[start] * layout.n_first, *[filler] * before, *ids, *[filler] * after, end]
            if len(row) > self.max_tokens:
                most = self.max_tokens - before - after - 1 - layout.n_first
                raise ValueError(
                    f"the class name {name!r} has {len(ids)} tokens{self._with_prompt()}; with {before + after} "
                    f"contexts the text encoder takes at most {most}: shorten the name or use fewer contexts"
                )
            rows.append(row)
        length = self.max_tokens if layout.pads_to_full else max(map(len, rows))
        device = self.contexts.device
        ids = torch.tensor([row + [self.tokenizer.pad_token_id] * (length - len(row)) for row in rows], device=device)
        mask = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in rows], device=device)
        return ids, mask

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Embed tokens (K, L) with places for the contexts or the table's vectors; gives (K, D)."""
        n_contexts, first, output = len(self.contexts), self.layout.n_first, self.layout.output
        table = self.table
        mask = None if self.layout.pads_to_full else attention_mask

        def put_contexts(_module: nn.Module, _inputs: Any, embedded: Tensor) -> Tensor:
            if table is not None:
                return cast(Tensor, table(embedded, attention_mask.sum(dim=1) - 1))
            contexts = self.contexts.to(embedded.dtype).expand(embedded.shape[0], -1, -1)
            return torch.cat([embedded[:, :first], contexts, embedded[:, first + n_contexts :]], dim=1)

        if n_contexts == 0 and table is None:
            return cast(Tensor, getattr(self.tower(input_ids=input_ids, attention_mask=mask), output))
        # transformers has no argument for token embeddings; a hook works in every version.
        handle = cast(Any, self.tower).get_input_embeddings().register_forward_hook(put_contexts)
        try:
            return cast(Tensor, getattr(self.tower(input_ids=input_ids, attention_mask=mask), output))
        finally:
            handle.remove()

    @property
    def around(self) -> tuple[int, int]:
        """Number of learned vectors before and after the name."""
        return (len(self.contexts), 0) if self.table is None else (self.table.prefix, self.table.postfix)

    def learned_vectors(self) -> Tensor:
        """Give the learned vectors (places, H), each at its place; zeros where the start token stands."""
        if self.table is not None:
            return self.table.weight
        return torch.cat([torch.zeros(self.layout.n_first, self.contexts.shape[1]).to(self.contexts), self.contexts])

    def token_ids(self, name: str) -> list[list[int]]:
        """Give a name's token ids in every prompt, without places for learned vectors, as an exported encoder does."""
        (before, after), first = self.around, self.layout.n_first
        rows = self.tokenize([name])[0].tolist()
        ends = [row.index(self.tokenizer.eos_token_id) for row in rows]
        return [
            [*row[:first], *row[first + before : end - after], *row[end:]] for row, end in zip(rows, ends, strict=True)
        ]

    def _with_prompt(self) -> str:
        return "" if self.prompt == PLAIN_PROMPT else f" in the prompt {self.prompt!r}"

    def save(self, folder: Path) -> None:
        """Write tower, tokenizer (transformers' format), contexts and prompt into a folder, made if missing."""
        table = None
        if self.table is not None:
            around = torch.tensor([self.table.prefix, self.table.postfix])
            table = {"weight": self.table.weight.detach().cpu().contiguous(), "around": around}
        contexts = self.contexts.detach().cpu().contiguous() if len(self.contexts) else None
        write_text_parts(folder, TextParts(self.tower, self.tokenizer, self.prompt, contexts, table))

    def fingerprint(self) -> str:
        """Hash all that decides the embeddings: weights, contexts, tokenizer and prompt; `sha256:` and hexadecimal."""
        backend = json.loads(self.tokenizer.backend_tokenizer.to_str())
        # What cuts a name into tokens; padding and truncation stand there too and change with every call.
        parts = {
            key: backend[key] for key in ("added_tokens", "normalizer", "pre_tokenizer", "post_processor", "model")
        }
        if self.prompt != PLAIN_PROMPT:
            parts["prompt"] = self.prompt
        if self.table is not None:
            parts["around"] = self.around
        return hash_tensors(self.state_dict(), json.dumps(parts, sort_keys=True).encode())
