"""Videos in: presentation times, sampling, orientation, and files that are not what they should be."""

import itertools
import tracemalloc
from pathlib import Path

import av
import numpy as np
import pytest
import video_files

from stale_edge.errors import DataError
from stale_edge.video import VideoWarning, open_video, read_frames, sample, snippet_rate
from stale_edge.video.orientation import read_orientation

ONE = 1 << 16


def on_screen(times_s: list[float], end_s: float, moment_s: float) -> int | None:
    """Slow twin of the sampling: the last picture that is there at a moment, the first one before any is."""
    if moment_s >= end_s:
        return None
    return max((i for i, t in enumerate(times_s) if t <= moment_s), default=0)


@pytest.mark.parametrize("rate", [0.7, 1.0, 3.0, 10.0, 24.0])
@pytest.mark.parametrize(
    "times_ms",
    [
        list(range(0, 1000, 100)),  # even
        [0, 20, 40, 700, 710, 1500],  # a camera that hangs
        [300, 350, 900],  # begins late: the first picture is shown from the start
    ],
)
def test_each_step_gets_the_picture_on_the_screen_in_its_middle(tmp_path: Path, times_ms, rate) -> None:
    path = video_files.write(tmp_path / "a.mkv", times_ms=times_ms)
    with open_video(path) as source:
        pictures = [(picture.time_s, video_files.shade_of(picture.rgb)) for picture in source]
        end_s = source.end_s
    assert [shade for _, shade in pictures] == list(range(len(times_ms)))
    times_s = [time_s for time_s, _ in pictures]
    wanted = []
    for step in itertools.count():
        shown = on_screen(times_s, end_s, (step + 0.5) / rate)
        if shown is None:
            break
        wanted.append(shown)
    found = list(read_frames(path, fps=rate))
    assert [video_files.shade_of(picture) for _, picture in found] == (wanted or [len(times_ms) - 1])
    assert [time_s for time_s, _ in found] == pytest.approx([(i + 0.5) / rate for i in range(len(found))])


def test_times_are_those_of_the_file_and_the_last_picture_has_a_length(tmp_path: Path) -> None:
    with open_video(video_files.write(tmp_path / "a.mp4", times_ms=[0, 100, 150, 700])) as source:
        assert [picture.time_s for picture in source] == [0.0, 0.1, 0.15, 0.7]
        assert source.end_s > 0.7
        assert source.notes == ()


def test_stride_takes_one_picture_of_so_many(tmp_path: Path) -> None:
    path = video_files.write(tmp_path / "a.mp4")  # ten pictures in a second
    assert [video_files.shade_of(p) for _, p in read_frames(path, fps=10.0, stride=5)] == [2, 7]
    assert snippet_rate(10.0, 5) == 2.0


@pytest.mark.parametrize(("fps", "stride"), [(0.0, 1), (-1.0, 1), (float("nan"), 1), (5.0, 0), (5.0, 1.5)])
def test_bad_rates_are_refused(fps, stride) -> None:
    with pytest.raises(ValueError, match=r"must be"):
        snippet_rate(fps, stride)


@pytest.mark.parametrize("size", [(47, 63), (48, 64), (2, 2), (33, 2)])
def test_odd_sizes_are_read_whole(tmp_path: Path, size) -> None:
    path = video_files.write(tmp_path / "a.mkv", codec="ffv1", pixel_format="yuv444p", size=size)
    pictures = [picture for _, picture in read_frames(path)]
    assert [picture.shape for picture in pictures] == [(*size, 3)] * 10
    assert [video_files.shade_of(picture) for picture in pictures] == list(range(10))
    assert all(picture.dtype == np.uint8 for picture in pictures)


def turned(picture: np.ndarray, matrix: list[int]) -> np.ndarray:
    """Slow twin of the display matrix: move every point, then shift the picture back to the origin."""
    a, b, c, d = matrix[0] // ONE, matrix[1] // ONE, matrix[3] // ONE, matrix[4] // ONE
    points = {
        (b * p + d * q, a * p + c * q): picture[q, p] for q in range(picture.shape[0]) for p in range(picture.shape[1])
    }
    top, left = min(y for y, _ in points), min(x for _, x in points)
    out = np.zeros((max(y for y, _ in points) - top + 1, max(x for _, x in points) - left + 1, 3), np.uint8)
    for (y, x), value in points.items():
        out[y - top, x - left] = value
    return out


@pytest.mark.parametrize("mirror", [1, -1])
@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("sign", [1, -1])
def test_pictures_come_as_they_are_to_be_seen(tmp_path: Path, sign, swapped, mirror) -> None:
    first, second = sign * ONE, sign * mirror * ONE
    straight = [first, 0, 0, 0, second, 0, 0, 0, 1 << 30]
    matrix = [0, first, 0, second, 0, 0, 0, 0, 1 << 30] if swapped else straight
    picture = np.random.default_rng(0).integers(0, 255, (8, 12, 3), np.uint8)
    files = {
        name: video_files.write(
            tmp_path / f"{name}.mp4",
            times_ms=[0, 100],
            pictures=[picture, picture],
            codec="libx264rgb",
            pixel_format="rgb24",
            display_matrix=wanted,
        )
        for name, wanted in (("turned", matrix), ("plain", None))
    }
    seen = {name: next(read_frames(path))[1] for name, path in files.items()}
    np.testing.assert_array_equal(seen["turned"], turned(seen["plain"], matrix))


def test_other_angles_are_not_turned_and_said() -> None:
    half = ONE * 7 // 10
    assert read_orientation(np.array([half, half, 0, -half, half, 0, 0, 0, 1 << 30], np.int32).tobytes()) is None


def test_pixels_come_square(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 40, 30, "yuv420p"
        stream.codec_context.sample_aspect_ratio = 2
        container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((30, 40, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode(None))
    assert next(read_frames(path))[1].shape == (30, 80, 3)


def test_a_truncated_video_gives_what_can_be_read_and_says_so(tmp_path: Path) -> None:
    pictures = list(np.random.default_rng(0).integers(0, 255, (40, 48, 64, 3), np.uint8))
    path = video_files.write(
        tmp_path / "a.mp4",
        times_ms=range(0, 4000, 100),
        pictures=pictures,
        options={"movflags": "faststart"},
    )
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.warns(VideoWarning, match=r"ends after .* of the 4\.00 s it announces"):
        times = [time_s for time_s, _ in read_frames(path)]
    assert 10 <= len(times) < 30
    assert times == pytest.approx([i / 10 for i in range(len(times))])


def test_damage_in_the_middle_costs_its_packets_alone(tmp_path: Path) -> None:
    pictures = list(np.random.default_rng(0).integers(0, 255, (40, 48, 64, 3), np.uint8))
    path = video_files.write(
        tmp_path / "a.mkv", times_ms=range(0, 4000, 100), pictures=pictures, codec="libx264", keyframe_every=5
    )
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 3000] = bytes(3000)
    path.write_bytes(bytes(content))
    with open_video(path) as source:
        times = [picture.time_s for picture in source]
    assert source.notes != ()
    assert len(times) > 20
    assert times[-1] == pytest.approx(3.9)
    assert times == sorted(set(times))


def test_a_missing_index_is_an_error_of_one_line(tmp_path: Path) -> None:
    path = video_files.write(tmp_path / "a.mp4")  # the index stands at the end
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"moov")])
    with pytest.raises(DataError, match=r"a\.mp4: cannot be read as a video: "):
        open_video(path)


def test_sound_without_pictures_says_what_it_holds(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"s\.mp4: there is no video in it to decode; it holds audio \(aac\)"):
        open_video(video_files.write_sound(tmp_path / "s.mp4"))


def test_a_video_with_sound_is_a_video(tmp_path: Path) -> None:
    assert len(list(read_frames(video_files.write(tmp_path / "a.mp4", audio=True)))) == 10


@pytest.mark.parametrize(
    ("name", "content"), [("text.mp4", b"hello\nthis is text\n"), ("empty.mp4", b""), ("zeros.mp4", bytes(5000))]
)
def test_what_is_no_video_is_an_error_of_one_line(tmp_path: Path, name, content) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=rf"{name}: cannot be read as a video") as error:
        open_video(path)
    assert "\n" not in str(error.value)


def test_missing_files_and_folders_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.mp4: cannot be read as a video: no such file"):
        open_video(tmp_path / "none.mp4")
    with pytest.raises(DataError, match="it is a folder"):
        open_video(tmp_path)


def test_a_playlist_in_disguise_leads_nowhere(tmp_path: Path) -> None:
    secret = video_files.write(tmp_path / "secret.ts", codec="mpeg4")
    path = tmp_path / "list.mp4"
    path.write_text(f"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/{secret.name}\n", encoding="utf-8")
    with pytest.raises(DataError, match="cannot be read"):
        next(read_frames(path))


def test_memory_does_not_grow_with_the_length(tmp_path: Path) -> None:
    peaks = []
    for seconds in (10, 60):
        path = video_files.write(tmp_path / f"{seconds}.mkv", times_ms=range(0, 1000 * seconds, 100))
        tracemalloc.start()
        with open_video(path) as source:
            n = sum(snippet.picture.rgb.shape[0] > 0 for snippet in sample(source, 5.0))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert n == 5 * seconds
    assert peaks[1] < 1.5 * peaks[0] + 50_000


def test_a_clock_that_jumps_back_is_joined(tmp_path: Path) -> None:
    parts = [video_files.write(tmp_path / f"{i}.ts", codec="mpeg4", times_ms=range(0, 5000, 100)) for i in range(2)]
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join(part.read_bytes() for part in parts))
    with open_video(joined) as source:
        times = [picture.time_s for picture in source]
    assert len(times) == 100
    np.testing.assert_allclose(np.diff(times), 0.1, atol=1e-6)
    assert any("jumps of the clock" in note for note in source.notes)


@pytest.mark.parametrize("suffix", ["ts", "mkv"])
def test_times_count_from_the_start_of_the_file(tmp_path: Path, suffix) -> None:
    """A transport stream begins at 1.4 s by its own clock; a player shows its first picture at 0 all the same."""
    with open_video(video_files.write(tmp_path / f"a.{suffix}")) as source:
        assert [picture.time_s for picture in source] == pytest.approx([i / 10 for i in range(10)], abs=2e-3)


def test_real_time_stamps_are_those_of_the_real_features(shared_data: Path) -> None:
    """355 pictures at 19.62 a second, each with the time stamp that its published CLIP feature carries."""
    folder = shared_data / "real_video"
    with np.load(folder / "v_GGSY1Qvo990_features.npz") as published:
        wanted_s = published["clip_timestamps_ms"] / 1000
    with open_video(folder / "v_GGSY1Qvo990.mp4") as source:
        np.testing.assert_allclose([picture.time_s for picture in source], wanted_s, rtol=0, atol=1e-9)
        assert source.notes == ()
    with open_video(folder / "v_GGSY1Qvo990.mp4") as source:
        # Sampled at its own rate, each picture comes once.
        sampled = [snippet.picture.time_s for snippet in sample(source, 19.62)]
    np.testing.assert_allclose(sampled, wanted_s, rtol=0, atol=1e-9)
