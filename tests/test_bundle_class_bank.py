"""Class banks: what they accept, edits, and the file."""

import numpy as np
import pytest
import tiny

from stale_edge.bundle import ClassBank
from stale_edge.errors import BundleError, ClassBankError, StaleEdgeError


@pytest.mark.parametrize(
    ("names", "embeddings", "fingerprint", "said"),
    [
        ((), np.zeros((0, 2), np.float32), "f", "at least one class name"),
        (("a", "b", "a"), np.zeros((3, 2), np.float32), "f", "more than once: 'a'"),
        (("a", ""), np.zeros((2, 2), np.float32), "f", "must not be empty"),
        (("a", " b"), np.zeros((2, 2), np.float32), "f", "' b'"),
        (("a\nb",), np.zeros((1, 2), np.float32), "f", "control characters"),
        (("a\0",), np.zeros((1, 2), np.float32), "f", "control characters"),
        ((3,), np.zeros((1, 2), np.float32), "f", "must be a string; got 3"),
        ("ab", np.zeros((2, 2), np.float32), "f", "single string 'ab'"),
        (("a", "b"), np.zeros((3, 2), np.float32), "f", r"K = 2 names; got \(3, 2\)"),
        (("a",), np.zeros((2,), np.float32), "f", r"got \(2,\)"),
        (("a",), np.zeros((1, 0), np.float32), "f", r"got \(1, 0\)"),
        (("a",), np.zeros((1, 2), np.int64), "f", "floating point numbers; got int64"),
        (("a", "b"), np.array([[0, 1], [np.nan, 0]], np.float32), "f", "embedding of 'b' is not finite"),
        (("a", "b"), np.array([[0, 1e300], [0, 0]]), "f", "embedding of 'a' is not finite"),
        (("a",), np.zeros((1, 2), np.float32), "", "needs the fingerprint"),
    ],
)
def test_refuses(names, embeddings, fingerprint, said) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        ClassBank(names, embeddings, fingerprint)
    assert isinstance(caught.value, StaleEdgeError)


def test_embeddings_are_a_read_only_float32_copy() -> None:
    given = np.eye(2)
    bank = ClassBank(("a", "b"), given, "f")
    given[0, 0] = 7
    assert bank.embeddings.dtype == np.float32
    assert bank.embeddings[0, 0] == 1
    with pytest.raises(ValueError, match="read-only"):
        bank.embeddings[0, 0] = 7


def test_select_keeps_the_order_asked_for() -> None:
    bank = tiny.bank()
    chosen = bank.select(["Ćwiczenia", "jump"])
    assert chosen.names == ("Ćwiczenia", "jump")
    np.testing.assert_array_equal(chosen.embeddings, bank.embeddings[[2, 0]])
    assert chosen.fingerprint == bank.fingerprint


def test_select_offers_the_nearest_name() -> None:
    with pytest.raises(ClassBankError, match="class 'pole vaut' is not in the class bank; did you mean 'pole vault'"):
        tiny.bank().select(["pole vaut"])
    with pytest.raises(ClassBankError, match="it holds 'jump', 'pole vault', 'Ćwiczenia'"):
        tiny.bank().select(["xyz"])
    with pytest.raises(ClassBankError, match="select at least one"):
        tiny.bank().select([])
    with pytest.raises(ClassBankError, match="more than once: 'jump'"):
        tiny.bank().select(["jump", "jump"])


def test_add_and_remove_are_inverse() -> None:
    bank, more = tiny.bank(), tiny.bank(("golf", "chess"))
    grown = bank.merge(more)
    assert grown.names == (*bank.names, "golf", "chess")
    np.testing.assert_array_equal(grown.embeddings[3:], more.embeddings)
    assert grown.remove(["chess", "golf"]) == bank


def test_edits_that_do_not_fit() -> None:
    bank = tiny.bank()
    with pytest.raises(ClassBankError, match="already has 'jump'"):
        bank.add(["jump"], np.zeros((1, tiny.EMBED_DIM), np.float32))
    with pytest.raises(ClassBankError, match="3 wide; this class bank holds 6"):
        bank.add(["golf"], np.zeros((1, 3), np.float32))
    with pytest.raises(ClassBankError, match="another text encoder: fingerprint 'other'"):
        bank.merge(tiny.bank(("golf",), fingerprint="other"))
    with pytest.raises(ClassBankError, match="keep at least one"):
        bank.remove(bank.names)
    with pytest.raises(ClassBankError, match="did you mean 'jump'"):
        bank.remove(["jumps"])


def test_file_gives_the_bank_back_and_equal_banks_equal_bytes(tmp_path) -> None:
    bank = tiny.bank((*tiny.NAMES, "日本語", "a'b\"c", "x" * 300))
    bank.save(tmp_path / "bank.npz")
    assert ClassBank.load(tmp_path / "bank.npz") == bank
    assert (tmp_path / "bank.npz").read_bytes() == bank.to_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["bank.npz"], "no temporary file stays"
    with np.load(tmp_path / "bank.npz", allow_pickle=False) as archive:
        assert archive["names"].dtype.kind == "U"
        assert archive["embeddings"].dtype == np.float32
        assert str(archive["fingerprint"]) == tiny.FINGERPRINT


def test_files_that_are_no_banks(tmp_path) -> None:
    path = tmp_path / "bank.npz"
    with pytest.raises(BundleError, match=r"bank\.npz: cannot read"):
        ClassBank.load(path)
    whole = tiny.bank().to_bytes()
    for content in (b"", b"PK", whole[: len(whole) // 2], b"\x93NUMPY rubbish"):
        path.write_bytes(content)
        with pytest.raises(BundleError, match="not a readable class bank"):
            ClassBank.load(path)
    np.savez(path, names=np.array(["a"]), embeddings=np.zeros((1, 2), np.float32))
    with pytest.raises(BundleError, match="'fingerprint' missing"):
        ClassBank.load(path)
    np.savez(path, names=np.array(["a"], dtype=object), embeddings=np.zeros((1, 2)), fingerprint=np.array("f"))
    with pytest.raises(BundleError, match="without pickled objects"):
        ClassBank.load(path)
    np.savez(path, names=np.array([1]), embeddings=np.zeros((1, 2), np.float32), fingerprint=np.array("f"))
    with pytest.raises(BundleError, match="unicode array"):
        ClassBank.load(path)
    np.savez(path, names=np.array(["a", "a"]), embeddings=np.zeros((2, 2), np.float32), fingerprint=np.array("f"))
    with pytest.raises(BundleError, match="more than once: 'a'"):
        ClassBank.load(path)


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch) -> None:
    path = tmp_path / "bank.npz"
    tiny.bank().save(path)

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(BundleError, match="No space left on device"):
        tiny.bank(("golf",)).save(path)
    monkeypatch.undo()
    assert ClassBank.load(path) == tiny.bank()
    assert [item.name for item in tmp_path.iterdir()] == ["bank.npz"]


def test_a_closed_vocabulary_takes_no_class_and_keeps_its_space() -> None:
    bank = ClassBank(("run", "jump"), np.ones((2, 5), np.float32), "network:1", "rows")
    assert ClassBank.from_bytes(bank.to_bytes()) == bank
    assert bank.select(["jump"]).space == bank.remove(["run"]).space == "rows"
    for add in (lambda: bank.check_open(["swim"]), lambda: bank.add(["swim"], np.ones((1, 5), np.float32))):
        with pytest.raises(ClassBankError, match="'swim' cannot be added: the vocabulary of this detector is closed"):
            add()
    with pytest.raises(ClassBankError, match="space of a class bank must be one of"):
        ClassBank(("run",), np.ones((1, 5), np.float32), "network:1", "images")  # type: ignore[arg-type]
