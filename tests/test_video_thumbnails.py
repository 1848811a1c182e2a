"""The strip of small pictures."""

import io
from pathlib import Path

import pytest
import video_files
from PIL import Image

from stale_edge.video import ThumbnailStrip, open_video, sample


@pytest.mark.parametrize("n_snippets", [1, 7, 8, 9, 50])
def test_a_strip_is_even_and_of_bounded_length(tmp_path: Path, n_snippets: int) -> None:
    path = video_files.write(tmp_path / "a.mkv", times_ms=range(0, 100 * n_snippets, 100), size=(60, 80))
    strip = ThumbnailStrip(most=8)
    with open_video(path) as source:
        for snippet in sample(source, 10.0):
            strip.add(snippet)
    times = [picture.time_s for picture in strip.pictures]
    every = next(2**k for k in range(9) if -(-n_snippets // 2**k) <= 8)
    assert times == pytest.approx([(i + 0.5) / 10 for i in range(0, n_snippets, every)])
    for picture in strip.pictures:
        image = Image.open(io.BytesIO(picture.jpeg))
        assert (image.format, image.size) == ("JPEG", (120, 90))


def test_a_strip_of_less_than_two_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        ThumbnailStrip(most=1)
