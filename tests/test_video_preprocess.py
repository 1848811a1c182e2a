"""CLIP's preprocessing against transformers' own."""

import json
import warnings

import numpy as np
import pytest

from stale_edge.errors import ConfigError
from stale_edge.video import ClipPreprocess

TOLERANCE = 1e-5
"""What the kit promises; both normalise in float32."""

SIZES = [(240, 320), (320, 240), (224, 224), (225, 223), (1, 1), (7, 300), (300, 7), (101, 67), (431, 767)]
CONFIGS = [
    {},  # CLIP's own
    {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}},
    {"size": {"shortest_edge": 30}, "crop_size": {"height": 33, "width": 35}},  # black is added
    {"size": {"height": 40, "width": 56}, "crop_size": {"height": 33, "width": 60}},
    {"resample": 2},
    {"resample": 1, "do_center_crop": False, "size": {"height": 31, "width": 17}},
    {"do_resize": False, "crop_size": {"height": 50, "width": 51}},
    {"do_normalize": False},
    {"do_rescale": False, "image_mean": [1.0, 2.0, 3.0], "image_std": [0.5, 2.0, 9.0]},
]


def processor(config: dict):
    """Build transformers' processor; without torchvision it is the one in Pillow, under either name."""
    try:
        from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil as Processor
    except ImportError:
        from transformers import CLIPImageProcessor as Processor
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Processor(**config)


@pytest.mark.parametrize("config", CONFIGS, ids=str)
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_equals_transformers(size, config) -> None:
    theirs = processor(config)
    picture = np.random.default_rng(sum(size)).integers(0, 256, (*size, 3), np.uint8)
    wanted = theirs(picture, return_tensors="np", input_data_format="channels_last")["pixel_values"][0]
    ours = ClipPreprocess.from_transformers(json.loads(theirs.to_json_string()))
    got = ours(picture)
    assert got.dtype == np.float32
    assert got.shape == wanted.shape
    np.testing.assert_allclose(got, wanted, rtol=0, atol=TOLERANCE * max(1.0, float(np.abs(wanted).max())))


def test_values_survive_json_and_old_spellings_are_read() -> None:
    old = ClipPreprocess.from_transformers({"size": 32, "crop_size": 30, "resample": 3})
    assert (old.shortest_edge, old.output_size) == (32, (30, 30))
    assert ClipPreprocess.from_json(json.loads(json.dumps(old.to_json()))) == old


@pytest.mark.parametrize(
    "values",
    [
        {"size": {"longest_edge": 3}},
        {"resample": 9},
        {"image_std": [1.0, 0.0, 1.0]},
        {"image_mean": [1.0]},
        {"crop_size": 0},
        {"do_pad": True},
    ],
    ids=str,
)
def test_what_clip_does_not_do_is_refused(values) -> None:
    with pytest.raises(ConfigError):
        ClipPreprocess.from_transformers(values)


@pytest.mark.parametrize("picture", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)])
def test_what_is_no_picture_is_refused(picture) -> None:
    with pytest.raises(ValueError, match="picture must be"):
        ClipPreprocess()(picture)
