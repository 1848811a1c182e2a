"""Section 10 of export/BUNDLE.md: its code gives the same results as ours."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from stale_edge.video import ClipPreprocess, sample

DOCUMENT = Path(__file__).resolve().parent.parent / "export" / "BUNDLE.md"


@pytest.fixture(scope="module")
def code() -> dict[str, Any]:
    section = DOCUMENT.read_text(encoding="utf-8").split("## 10. ")[-1].split("\n## 11")[0]
    namespace: dict[str, Any] = {"np": np}
    for block in re.findall(r"^```python\n(.*?)^```$", section, flags=re.M | re.S):
        exec(block, namespace)
    return namespace


@pytest.mark.parametrize(("fps", "stride"), [(25.0, 5), (10.0, 1), (3.0, 2), (30.0, 64)])
@pytest.mark.parametrize("times", [[0.0, 0.1, 0.2, 0.3], [0.3, 0.35, 1.9], [0.0], [0.0, 2.0]])
def test_which_picture_stands_for_a_snippet(code, times, fps, stride) -> None:
    end = times[-1] + 0.1
    pictures = [SimpleNamespace(time_s=t, end_s=t + 0.1, index=i) for i, t in enumerate(times)]
    ours = [snippet.picture.index for snippet in sample(pictures, fps / stride)]
    assert ours == code["pictures_of_snippets"](times, end, fps, stride)


@pytest.mark.parametrize(
    "preprocess",
    [
        ClipPreprocess(),
        ClipPreprocess(shortest_edge=20, crop_height=23, crop_width=31),
        ClipPreprocess(shortest_edge=None, resize_height=30, resize_width=40, crop_height=None, crop_width=None),
        ClipPreprocess(shortest_edge=None, crop_height=33, crop_width=90),
    ],
    ids=str,
)
@pytest.mark.parametrize("size", [(48, 64), (65, 47), (7, 90)])
def test_how_a_picture_is_prepared(code, preprocess, size) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    values = preprocess.to_json()
    height, width = code["resized_shape"](*size, values)
    resized = picture
    if (height, width) != size:
        resized = np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling(preprocess.resample)))
    np.testing.assert_allclose(code["prepare"](resized, values), preprocess(picture), rtol=0, atol=1e-5)
