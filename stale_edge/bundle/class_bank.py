"""The class bank: class names and their text embeddings, computed once and passed to every detector graph."""

import difflib
import io
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from stale_edge.bundle.files import write_file_atomically
from stale_edge.errors import BundleError, ClassBankError, reason, shown
from stale_edge.paths import MOST_TEXT_BYTES, check_members, read_regular
from stale_edge.segments import FloatArray

_KEYS = ("names", "embeddings", "fingerprint")
Space = Literal["text", "rows"]
"""Kind of a bank's rows: `text`, embeddings of class names; `rows`, class weights of a closed vocabulary."""


@dataclass(frozen=True, eq=False)
class ClassBank:
    """A vocabulary with one embedding per class; immutable, every edit returns a new bank.

    names: K >= 1 distinct names, none empty, none with control characters or with spaces at an end.
    embeddings: (K, D) float32, finite, row k belongs to names[k]; kept as a read-only copy.
    fingerprint: identifies the text encoder that made the embeddings; only banks of the same one can be merged. For a
        closed vocabulary it identifies the network that the rows belong to.
    space: `text` or `rows`; only a bank of text embeddings can get further classes.

    Raises:
        ClassBankError: (a ValueError) a name or the embeddings break the rules above.
    """

    names: tuple[str, ...]
    embeddings: FloatArray
    fingerprint: str
    space: Space = "text"

    def __repr__(self) -> str:
        shown_names = ", ".join(self.names[:3]) + (", ..." if len(self.names) > 3 else "")
        return f"<ClassBank of {len(self.names)} classes ({shown_names}), width {self.width}, {self.fingerprint}>"

    def __post_init__(self) -> None:
        names = _sequence(self.names)
        if not names:
            raise ClassBankError(f"a class bank needs at least one class name; got {shown(self.names)}")
        for name in names:
            _check_name(name)
        if len(set(names)) < len(names):
            duplicates = sorted(name for name, count in Counter(names).items() if count > 1)
            raise ClassBankError(f"class names must be distinct; more than once: {_list(duplicates)}")
        object.__setattr__(self, "names", names)
        object.__setattr__(self, "embeddings", _checked_embeddings(self.embeddings, names))
        if not isinstance(self.fingerprint, str) or not self.fingerprint:
            raise ClassBankError(
                f"a class bank needs the fingerprint of its text encoder; got {shown(self.fingerprint)}"
            )
        if self.space not in get_args(Space):
            raise ClassBankError(f"the space of a class bank must be one of {get_args(Space)}; got {shown(self.space)}")

    def __len__(self) -> int:
        return len(self.names)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ClassBank):
            return NotImplemented
        words = (self.names, self.fingerprint, self.space)
        same_words = words == (other.names, other.fingerprint, other.space)
        return same_words and np.array_equal(self.embeddings, other.embeddings)

    __hash__ = None  # type: ignore[assignment]

    @property
    def width(self) -> int:
        """D, the length of one embedding."""
        return int(self.embeddings.shape[1])

    def select(self, names: Sequence[str]) -> "ClassBank":
        """Take the named classes, in the order given.

        Raises:
            ClassBankError: a name is not in the bank (the message suggests the nearest) or is given twice, or no name
                is given.
        """
        rows = [self._row(name) for name in _sequence(names)]
        if not rows:
            raise ClassBankError(f"select at least one class; the bank holds {_list(self.names)}")
        return self._with(tuple(self.names[row] for row in rows), self.embeddings[rows])

    def add(self, names: Sequence[str], embeddings: NDArray[np.floating]) -> "ClassBank":
        """Append classes whose (len(names), D) embeddings come from the same text encoder.

        Raises:
            ClassBankError: a name is already there, the embeddings have another width or are not finite, or the
                vocabulary is closed.
        """
        added = _sequence(names)
        self.check_open(added)
        present = [name for name in added if name in self.names]
        if present:
            raise ClassBankError(f"the class bank already has {_list(present)}; remove the old embedding first")
        rows = _checked_embeddings(embeddings, added)
        if rows.shape[1] != self.width:
            raise ClassBankError(f"embeddings to add are {rows.shape[1]} wide; this class bank holds {self.width}")
        return self._with((*self.names, *added), np.concatenate([self.embeddings, rows]))

    def check_open(self, names: Sequence[str]) -> None:
        """Refuse to add classes to a closed vocabulary.

        Raises:
            ClassBankError: the rows of this bank are weights, not embeddings of names.
        """
        if self.space != "text":
            raise ClassBankError(
                f"{_list(names)} cannot be added: the vocabulary of this detector is closed, the rows of its class "
                "bank are weights that were trained with it; train it again with these classes, or use a detector "
                "that compares with text embeddings"
            )

    def merge(self, other: "ClassBank") -> "ClassBank":
        """Append the classes of another bank of the same text encoder.

        Raises:
            ClassBankError: the fingerprints differ, or as in `add`.
        """
        if other.fingerprint != self.fingerprint:
            raise ClassBankError(
                f"these embeddings come from another text encoder: fingerprint {shown(other.fingerprint)}, "
                f"the class bank's is {shown(self.fingerprint)}; encode the names with the bundle's own encoder"
            )
        return self.add(other.names, other.embeddings)

    def remove(self, names: Sequence[str]) -> "ClassBank":
        """Drop the named classes; at least one must stay.

        Raises:
            ClassBankError: a name is not in the bank (the message suggests the nearest), or no class would stay.
        """
        rows = {self._row(name) for name in _sequence(names)}
        stay = [row for row in range(len(self.names)) if row not in rows]
        if not stay:
            raise ClassBankError(f"removing all {len(self.names)} classes leaves an empty bank; keep at least one")
        return self._with(tuple(self.names[row] for row in stay), self.embeddings[stay])

    def to_bytes(self) -> bytes:
        """Serialise as .npz: names (K,), embeddings (K, D) float32, fingerprint, space. Equal banks: equal bytes."""
        buffer = io.BytesIO()
        np.savez(
            buffer,
            names=np.array(self.names, dtype=np.str_),
            embeddings=self.embeddings,
            fingerprint=np.array(self.fingerprint, dtype=np.str_),
            space=np.array(self.space, dtype=np.str_),
        )
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes, *, where: str = "class bank") -> "ClassBank":
        """Read the bytes of `to_bytes` without unpickling. A bank without a space has `text`.

        Raises:
            BundleError: not such an archive, or its content is not a valid bank; the message names `where`.
        """
        try:
            if not content.startswith(b"PK"):
                raise ValueError("its content is no archive")
            with np.load(io.BytesIO(content), allow_pickle=False) as archive:
                check_members(archive.zip)
                missing = [key for key in _KEYS if key not in archive.files]
                if missing:
                    raise BundleError(f"{where}: not a class bank: {_list(missing)} missing; it has {archive.files}")
                names, embeddings, fingerprint = (archive[key] for key in _KEYS)
                space = archive["space"] if "space" in archive.files else np.array("text")
        except BundleError:
            raise
        except Exception as error:  # numpy and zipfile raise a dozen types for a damaged file
            raise BundleError(
                f"{where}: not a readable class bank (.npz without pickled objects): {reason(error)}"
            ) from error
        if names.ndim != 1 or names.dtype.kind != "U" or fingerprint.ndim != 0 or fingerprint.dtype.kind != "U":
            raise BundleError(
                f"{where}: names must be a (K,) and fingerprint a () unicode array; "
                f"got {names.dtype} {names.shape} and {fingerprint.dtype} {fingerprint.shape}"
            )
        if space.ndim != 0 or str(space) not in get_args(Space):
            raise BundleError(f"{where}: space must be one of {', '.join(get_args(Space))}; got {shown(str(space))}")
        try:
            return cls(
                tuple(str(name) for name in names),
                embeddings,
                str(fingerprint),
                "rows" if str(space) == "rows" else "text",
            )
        except ClassBankError as error:
            raise BundleError(f"{where}: {error}") from error

    def save(self, path: Path) -> None:
        """Write the bank to one .npz file, atomically.

        Raises:
            BundleError: the file cannot be written; an old one is untouched.
        """
        try:
            write_file_atomically(Path(path), self.to_bytes())
        except OSError as error:
            raise BundleError(f"{path}: cannot write the class bank: {error.strerror or error}") from error

    @classmethod
    def load(cls, path: Path) -> "ClassBank":
        """Read a bank from one .npz file.

        Raises:
            BundleError: the file is missing, unreadable or not a class bank.
        """
        try:
            content = read_regular(Path(path), most=MOST_TEXT_BYTES)
        except OSError as error:
            raise BundleError(f"{path}: cannot read the class bank: {error.strerror or error}") from error
        return cls.from_bytes(content, where=str(path))

    def _with(self, names: tuple[str, ...], embeddings: FloatArray) -> "ClassBank":
        return ClassBank(names, embeddings, self.fingerprint, self.space)

    def _row(self, name: str) -> int:
        try:
            return self.names.index(name)
        except ValueError:
            near = difflib.get_close_matches(str(name), self.names, n=1, cutoff=0.4)
            hint = f"did you mean {shown(near[0])}?" if near else f"it holds {_list(self.names)}"
            raise ClassBankError(f"class {shown(name)} is not in the class bank; {hint}") from None


def _sequence(names: Sequence[str]) -> tuple[str, ...]:
    if isinstance(names, str):
        raise ClassBankError(f"class names must be a list of names; got the single string {shown(names)}")
    return tuple(names)


def _check_name(name: object) -> None:
    if not isinstance(name, str):
        raise ClassBankError(f"a class name must be a string; got {shown(name)} of type {type(name).__name__}")
    if not name or name != name.strip():
        raise ClassBankError(f"a class name must not be empty or begin or end with a space; got {shown(name)}")
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in name):
        raise ClassBankError(f"a class name must not hold control characters; got {shown(name)}")


def _checked_embeddings(embeddings: object, names: tuple[str, ...]) -> FloatArray:
    array = np.asarray(embeddings)
    if array.dtype.kind != "f":
        raise ClassBankError(f"class embeddings must be floating point numbers; got {array.dtype}")
    if array.ndim != 2 or array.shape[0] != len(names) or array.shape[1] < 1:
        raise ClassBankError(f"class embeddings must have shape (K, D), K = {len(names)} names; got {array.shape}")
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite, which is refused below
        rows = np.array(array, dtype=np.float32, order="C")
    finite = np.isfinite(rows).all(axis=1)
    if not finite.all():
        raise ClassBankError(f"the embedding of {shown(names[int(np.argmin(finite))])} is not finite")
    rows.setflags(write=False)
    return rows


def _list(names: Sequence[str], limit: int = 8) -> str:
    listed = ", ".join(shown(name) for name in names[:limit])
    return listed if len(names) <= limit else f"{listed} and {len(names) - limit} more"
