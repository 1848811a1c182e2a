"""Read what public training programs save with `torch.save`, without executing anything in it."""

import pickle
import re
import warnings
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stale_edge.errors import CheckpointError
from stale_edge.paths import check_members

EXPECTED = "a checkpoint of a public program is what torch.save makes of a dict with epoch and state_dict"
COUNTERS = ("num_batches_tracked", "position_ids")
"""Ends of the names of tensors that hold integers."""


ACTIONFORMER_TENSOR = "backbone.embd.0.conv.weight"
"""Every checkpoint of ActionFormer's program has it, and none of STALE's."""
AVERAGED = "state_dict_ema"
"""Where ActionFormer's program keeps the moving average of the weights, which is what it evaluates."""


@dataclass(frozen=True)
class PublicFile:
    """The contents of a public checkpoint.

    epoch: as saved; None where the file has none.
    tensors: by the public names, the prefix `module.` of `torch.nn.DataParallel` taken off; the moving average of the
        weights where the file has one.
    averaged: whether they are that average.
    """

    epoch: int | None
    tensors: dict[str, Tensor]
    averaged: bool

    @property
    def is_actionformer(self) -> bool:
        """Whether the names are those of ActionFormer's program."""
        return ACTIONFORMER_TENSOR in self.tensors


def read_public_file(path: Path | str) -> PublicFile:
    """Read a `.pth.tar` of the public code with torch's weights-only unpickler, which knows tensors and plain values.

    Raises:
        CheckpointError: no such file, truncated, not written by `torch.save`, asking for code to be run, or of other
            content; what is wrong is named.
    """
    path = Path(path)
    if path.is_dir():
        raise CheckpointError(f"{path} is a folder; {EXPECTED}, in one file")
    try:
        content = _load(path)
    except FileNotFoundError as error:
        raise CheckpointError(f"no file {path}") from error
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error
    if not isinstance(content, dict) or not isinstance(content.get("state_dict"), dict):
        found = f"a dict with {_some(content)}" if isinstance(content, dict) else f"a {type(content).__name__}"
        raise CheckpointError(f"{path} holds {found}; {EXPECTED}")
    state = AVERAGED if AVERAGED in content else "state_dict"
    if not isinstance(content[state], dict):
        raise CheckpointError(f"{path} holds {state}: {type(content[state]).__name__}; allowed: a dict of tensors")
    tensors: dict[str, Tensor] = {}
    for key, value in content[state].items():
        name = key.removeprefix("module.") if isinstance(key, str) else key
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise CheckpointError(f"{path}: {state} holds {key!r}: {type(value).__name__}; allowed: named tensors")
        if name in tensors:
            raise CheckpointError(f"{path}: {state} holds {name!r} twice, with and without the prefix 'module.'")
        plain = value.layout == torch.strided and value.device.type == "cpu" and not value.is_quantized
        if not plain or not (value.is_floating_point() or name.endswith(COUNTERS)):
            raise CheckpointError(f"{path}: the tensor {name!r} is {value.dtype}; allowed: dense floating tensors")
        tensors[name] = value.detach()
    epoch = content.get("epoch")
    return PublicFile(epoch if isinstance(epoch, int) else None, tensors, averaged=state == AVERAGED)


def _load(path: Path) -> Any:
    """Call `torch.load` and explain its many kinds of errors."""
    with path.open("rb") as file:
        head = file.read(4)
    is_zip, is_pickle = head.startswith(b"PK"), head.startswith(b"\x80")
    if not is_zip and not is_pickle:
        raise CheckpointError(f"{path} begins with {head!r}: not written by torch.save; {EXPECTED}")
    try:
        if is_zip and not zipfile.is_zipfile(path):
            raise CheckpointError(
                f"{path} is truncated: the directory at the end of the archive is missing; copy it again"
            )
        if is_zip:
            with zipfile.ZipFile(path) as archive:
                check_members(archive)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickle protocols, which the reader of an old file cannot change
            return torch.load(path, map_location="cpu", weights_only=True)
    except (CheckpointError, OSError, MemoryError):
        raise
    except pickle.UnpicklingError as error:
        asked = re.search(r"(?:GLOBAL|global:?|class) (?:GLOBAL )?([\w.]+)", str(error))
        if asked is not None:
            raise CheckpointError(
                f"{path} asks to run code while it is read ({asked.group(1)}), which is refused; {EXPECTED}, "
                "with nothing but tensors and numbers"
            ) from error
        raise CheckpointError(f"{path} is damaged, or a pickle that torch.save did not write; {EXPECTED}") from error
    except Exception as error:  # torch raises RuntimeError, KeyError, EOFError, ValueError ... for damaged bytes
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise CheckpointError(f"{path} is truncated, damaged or not written by torch.save: {reason}") from error


def _some(content: dict[Any, Any]) -> str:
    return ", ".join(repr(key) for key in list(content)[:5]) or "nothing in it"
