"""Feature files of every kind, folders of them, and resampling."""

import sys
from pathlib import Path

import h5py
import numpy as np
import oracle
import pytest

from stale_edge.data import FeatureFolder, check_features, open_features, read_features, resample
from stale_edge.errors import DataError, FeatureContractError, MissingExtraError

RNG = np.random.default_rng(0)
FEATURES = RNG.standard_normal((7, 3), dtype=np.float32)


def write(path: Path, **arrays: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, arrays["features"])
    elif path.suffix == ".npz":
        np.savez(path, **arrays)
    else:
        with h5py.File(path, "w") as file:
            for name, array in arrays.items():
                file[name] = array
    return path


# --- resampling ---


@pytest.mark.parametrize(
    ("n_snippets", "length"), [(1, 5), (2, 9), (3, 100), (100, 3), (7, 6), (6, 7), (5, 1), (50, 99)]
)
def test_resample_equals_the_loop(n_snippets: int, length: int) -> None:
    features = RNG.standard_normal((n_snippets, 4), dtype=np.float32)
    resampled = resample(features, length)
    assert resampled.dtype == np.float32
    assert resampled.shape == (length, 4)
    assert np.abs(resampled - oracle.resample(features.tolist(), length)).max() <= 1e-6  # float32 weights


def test_resample_equals_torch() -> None:
    torch = pytest.importorskip("torch")
    features = RNG.standard_normal((100, 4), dtype=np.float32)
    for length in (25, 64, 100, 300):
        reference = torch.nn.functional.interpolate(
            torch.from_numpy(features).T[None], size=length, mode="linear", align_corners=False
        )
        # torch computes positions in float32: at position 100 they are exact to 1e-5 of a snippet.
        assert np.abs(resample(features, length) - reference[0].T.numpy()).max() <= 1e-4


def test_resample_keeps_what_it_must() -> None:
    assert np.array_equal(resample(FEATURES, 7), FEATURES)
    assert np.allclose(resample(np.full((3, 2), 5.0, np.float16), 11), 5.0)
    ramp = np.arange(8, dtype=np.float64)[:, None]
    assert resample(ramp, 4)[:, 0].tolist() == [0.5, 2.5, 4.5, 6.5]  # halves: the mean of each two
    assert resample(ramp, 16)[:3, 0].tolist() == [0.0, 0.25, 0.75]  # held before the first centre
    assert resample(FEATURES[:1], 1000).shape == (1000, 3)


@pytest.mark.parametrize("length", [0, -1, 2.0, True, None])
def test_resample_rejects_lengths(length) -> None:
    with pytest.raises(ValueError, match="length must be an integer >= 1; got"):
        resample(FEATURES, length)


# --- one file ---


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("suffix", [".npy", ".npz", ".h5", ".hdf5"])
def test_every_format_and_width_of_float(tmp_path: Path, suffix: str, dtype) -> None:
    path = write(tmp_path / f"v_1{suffix}", features=FEATURES.astype(dtype))
    features = read_features(path)
    assert features.dtype == np.float32
    assert features.flags.c_contiguous
    assert np.array_equal(features, FEATURES.astype(dtype).astype(np.float32))


@pytest.mark.parametrize("suffix", [".npz", ".h5"])
@pytest.mark.parametrize(
    ("names", "array", "chosen"),
    [
        (["only"], None, "only"),
        (["features", "fps"], None, "features"),
        (["v_1", "v_2"], None, "v_1"),
        (["features", "v_1"], None, "features"),
        (["clip", "i3d"], "i3d", "i3d"),
    ],
)
def test_the_right_array_is_chosen(tmp_path: Path, suffix: str, names, array, chosen) -> None:
    arrays = {name: FEATURES + i for i, name in enumerate(names)}
    path = write(tmp_path / f"v_1{suffix}", **arrays)
    assert np.array_equal(read_features(path, array), arrays[chosen])


@pytest.mark.parametrize("suffix", [".npz", ".h5"])
def test_an_unclear_choice_names_the_arrays(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"v_1{suffix}", clip=FEATURES, i3d=FEATURES)
    with pytest.raises(DataError, match=r"it is not clear which array holds the features; the file holds: clip, i3d"):
        read_features(path)
    with pytest.raises(DataError, match="there is no array 'rgb'; the file holds: clip, i3d"):
        read_features(path, "rgb")


def test_a_group_of_hdf5_counts_as_its_dataset(tmp_path: Path) -> None:
    """ActivityNet's own C3D file is of this form."""
    path = write(tmp_path / "all.h5", **{"v_1/c3d_features": FEATURES, "v_2/c3d_features": FEATURES + 1})
    assert np.array_equal(read_features(path, "v_2"), FEATURES + 1)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((3, 2), np.int64), "features must be float32 or float16; got int64"),
        (np.zeros((3, 2), bool), "features must be float32 or float16; got bool"),
        (np.zeros((3, 2), np.complex64), "features must be float32 or float16; got complex64"),
        (np.zeros(3, np.float32), r"features must be an array of shape \(T, C\); got \(3,\)"),
        (np.zeros((1, 3, 2), np.float32), r"got \(1, 3, 2\)"),
        (np.zeros((0, 2), np.float32), r"features are empty; got shape \(0, 2\)"),
        (np.zeros((3, 0), np.float32), r"features are empty; got shape \(3, 0\)"),
        (np.array([[0, 1], [np.nan, 2]], np.float32), "must be finite; got nan at snippet 1, channel 0"),
        (np.array([[0, np.inf]], np.float16), "must be finite; got inf at snippet 0, channel 1"),
        (np.array([[1e300, 0]]), "must be finite; got 1e.300 at snippet 0, channel 0"),
    ],
)
@pytest.mark.parametrize("suffix", [".npy", ".npz", ".h5"])
def test_bad_features_are_refused_with_the_file(tmp_path: Path, suffix: str, array, message: str) -> None:
    path = write(tmp_path / f"v_1{suffix}", features=array)
    with pytest.raises(FeatureContractError, match=message) as caught:
        read_features(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"no feature file", b"\x93NUMPY\x01\x00v\x00{'descr': '<f4'"])
@pytest.mark.parametrize("suffix", [".npy", ".npz", ".h5"])
def test_unreadable_files_are_named(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"v_1{suffix}"
    path.write_bytes(content)
    with pytest.raises(DataError, match="not a readable") as caught:
        read_features(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".h5"])
def test_a_truncated_file_is_named(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / f"v_1{suffix}", features=RNG.standard_normal((200, 30), dtype=np.float32))
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(DataError, match="not a readable"):
        read_features(path)


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_nothing_is_unpickled(tmp_path: Path, suffix: str) -> None:
    class Bomb:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "exploded",))

    bomb = np.array([Bomb()], dtype=object)
    path = write(tmp_path / f"v_1{suffix}", features=bomb)
    with pytest.raises(DataError, match="not a readable feature file"):
        read_features(path)
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
@pytest.mark.parametrize("content", [b"", b"hello", b"\x80\x04K\x01."], ids=["empty", "text", "pickle"])
def test_other_content_is_refused_without_unsafe_advice(tmp_path: Path, suffix: str, content: bytes) -> None:
    (tmp_path / f"v_1{suffix}").write_bytes(content)
    with pytest.raises(DataError, match="not in a format of numpy") as refused:
        read_features(tmp_path / f"v_1{suffix}")
    assert "allow_pickle" not in str(refused.value)


def test_missing_and_foreign_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such feature file"):
        read_features(tmp_path / "v_1.npy")
    with pytest.raises(DataError, match=r"not a feature file; allowed: \.npy, \.npz, \.h5, \.hdf5"):
        read_features(tmp_path / "v_1.csv")


def test_hdf5_without_h5py_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "features" / "v_1.h5", features=FEATURES)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(MissingExtraError, match=r'pip install "stale-edge\[hdf5\]"'):
        read_features(path)
    with pytest.raises(MissingExtraError, match="hdf5"):
        FeatureFolder(path.parent)


def test_check_features_checks_the_width() -> None:
    assert check_features(FEATURES, "here", channels=3) is not None
    with pytest.raises(FeatureContractError, match=r"here: features must have C = 4 channels; got shape \(7, 3\)"):
        check_features(FEATURES, "here", channels=4)
    with pytest.raises(FeatureContractError, match="here: features must be an array"):
        check_features(FEATURES.tolist(), "here")


def test_the_real_clip_features(shared_data: Path) -> None:
    path = shared_data / "real_video" / "v_GGSY1Qvo990_features.npz"
    features = read_features(path, "clip_vitb32")
    assert features.shape == (355, 512)
    assert np.linalg.norm(features, axis=1).mean() == pytest.approx(10.28, abs=0.01)
    with pytest.raises(DataError, match=r"clip_vitb32_5fps, .*resnet34"):
        read_features(path)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_an_npy_file_is_opened_without_being_read(tmp_path: Path, dtype) -> None:
    path = write(tmp_path / "v_1.npy", features=FEATURES.astype(dtype))
    for opened in (open_features(path), FeatureFolder(tmp_path).open("1")):
        assert isinstance(opened, np.memmap)
        assert not opened.flags.writeable
        np.testing.assert_array_equal(opened, FEATURES.astype(dtype))
    np.testing.assert_array_equal(open_features(write(tmp_path / "v_2.npz", features=FEATURES)), FEATURES)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (np.zeros((3, 4), np.int64), "must be float32 or float16; got int64"),
        (np.zeros((0, 4), np.float32), "empty|not a readable feature file"),
        (np.zeros(4, np.float32), r"shape \(T, C\); got \(4,\)"),
        (np.array([[None]]), "not a readable feature file"),
        (b"text that is no array", "not a readable feature file"),
        (None, "no such feature file"),
    ],
)
def test_what_cannot_be_opened_is_named(tmp_path: Path, content, said) -> None:
    path = tmp_path / "v_1.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        np.save(path, content, allow_pickle=True)
    with pytest.raises((DataError, FeatureContractError), match=rf"v_1\.npy: .*({said})"):
        open_features(path)


# --- a folder of files ---


def test_a_folder_of_mixed_files(tmp_path: Path) -> None:
    write(tmp_path / "v_1.npy", features=FEATURES)
    write(tmp_path / "train" / "v_2.npz", features=FEATURES + 1)
    write(tmp_path / "3.h5", rgb=FEATURES + 2)
    (tmp_path / "readme.txt").write_text("no feature")
    folder = FeatureFolder(tmp_path)
    assert folder.videos == ("3", "v_1", "v_2")
    assert len(folder) == 3
    for i, names in enumerate((("v_1", "1"), ("v_2", "2"), ("3", "v_3"))):
        for name in names:
            assert name in folder
            assert np.array_equal(folder.load(name), FEATURES + i)
    assert "4" not in folder
    with pytest.raises(DataError, match=r"no features of video '4'; expected a file such as 4\.npy"):
        folder.load("4")
    with pytest.raises(FeatureContractError, match=r"3\.h5: features must have C = 5 channels"):
        folder.load("3", channels=5)


@pytest.mark.parametrize("names", [("v_1",), ("v_1", "v_2"), ("v_1/c3d", "v_2/c3d")])
def test_one_hdf5_file_for_the_whole_data_set(tmp_path: Path, names) -> None:
    write(tmp_path / "all.h5", **{name: FEATURES + i for i, name in enumerate(names)})
    folder = FeatureFolder(tmp_path)
    assert folder.videos == tuple(name.split("/")[0] for name in names)
    assert np.array_equal(folder.load("1"), FEATURES)


def test_two_files_for_one_video_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "v_1.npy", features=FEATURES)
    write(tmp_path / "v_1.npz", features=FEATURES)
    with pytest.raises(DataError, match=r"several files hold features of video 'v_1': v_1\.npy, v_1\.npz; keep one"):
        FeatureFolder(tmp_path).load("v_1")


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such feature folder"):
        FeatureFolder(tmp_path / "features")
