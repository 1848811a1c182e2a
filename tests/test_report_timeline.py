"""The timeline picture: what is drawn where."""

import io

import numpy as np
import pytest

from stale_edge.report.timeline import timeline
from stale_edge.segments import Detection

TRUTH = [("jump", 10.0, 30.0)]


def pixels(png: bytes) -> np.ndarray:
    from matplotlib.image import imread

    return imread(io.BytesIO(png))[..., :3]


def test_every_class_has_a_lane_of_its_own() -> None:
    one = pixels(timeline([Detection("jump", 0.9, 10, 30)], duration_s=100, ground_truth=TRUTH))
    three = [Detection("jump", 0.9, 10, 30), Detection("run", 0.5, 40, 50), Detection("sit", 0.4, 60, 70)]
    more = pixels(timeline(three, duration_s=100, ground_truth=TRUTH))
    assert more.shape[1] == one.shape[1]
    assert more.shape[0] > one.shape[0]


def blue(png: bytes) -> np.ndarray:
    """How much bluer than red each pixel below the legend is."""
    image = pixels(png)[40:]
    return image[..., 2] - image[..., 0]


def test_a_surer_detection_is_darker_and_a_faint_one_can_be_left_out() -> None:
    both = [Detection("jump", 0.8, 5, 30), Detection("jump", 0.2, 70, 95)]
    drawn = blue(timeline(both, duration_s=100))
    middle = drawn.shape[1] // 2
    assert drawn[:, :middle].max() > 2 * drawn[:, middle:].max() > 0
    strict = blue(timeline(both, duration_s=100, min_score=0.5))
    assert strict[:, middle:].max() == 0
    np.testing.assert_array_equal(strict[:, :middle], drawn[:, :middle])


def test_the_same_input_gives_the_same_bytes() -> None:
    detections = [Detection("jump", 0.8, 10, 30)]
    assert timeline(detections, duration_s=50) == timeline(detections, duration_s=50)


@pytest.mark.parametrize("duration_s", [0.0, -1.0, float("nan")])
def test_a_duration_must_be_a_length(duration_s: float) -> None:
    with pytest.raises(ValueError, match="duration_s"):
        timeline([], duration_s=duration_s)
