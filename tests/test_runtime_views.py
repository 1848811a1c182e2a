"""What `detect --format html` shows of a video: the link, pictures, curves, annotations."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import tiny
import video_files
import vision_encoder

from stale_edge.config import DecodeConfig
from stale_edge.decoding import decoder_of
from stale_edge.report.view import VideoView
from stale_edge.runtime import detect_output
from stale_edge.runtime.detect import detect_files
from stale_edge.runtime.detect_settings import DetectSettings, OutputSettings
from stale_edge.runtime.views import class_curves, link_to
from stale_edge.runtime.windows import WindowPlan


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    encoder = vision_encoder.write(folder / "encoder", fingerprint="tiny-encoder")
    return tiny.write(folder / "bundle", encoder=encoder)


@pytest.fixture
def video(tmp_path: Path) -> Path:
    pictures = list(np.random.default_rng(0).integers(0, 255, (60, 40, 56, 3), np.uint8))
    return video_files.write(tmp_path / "my holiday.mp4", times_ms=range(0, 6000, 100), pictures=pictures)


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> dict[str, VideoView]:
    """The views that a page was made from."""
    kept: dict[str, VideoView] = {}
    whole = detect_output.to_html

    def keep(results, *, views, **rest):
        kept.update(views)
        return whole(results, views=views, **rest)

    monkeypatch.setattr(detect_output, "to_html", keep)
    return kept


def softmax(logits: np.ndarray) -> np.ndarray:
    shares = np.exp(logits.astype(np.float64))
    return shares / shares.sum(axis=0)


def test_probabilities_are_a_softmax_without_its_background() -> None:
    logits = np.random.default_rng(0).standard_normal((4, 7)).astype(np.float32)
    scores = decoder_of(DecodeConfig()).class_scores({"class_logits": logits}, DecodeConfig())
    np.testing.assert_allclose(scores, softmax(logits)[:3], rtol=1e-6)


@pytest.mark.parametrize(("n_snippets", "window", "overlap"), [(30, 10, 3), (31, 8, 4), (5, 10, 2), (10, 10, 5)])
@pytest.mark.parametrize("n_columns", [None, 16])
def test_windows_are_joined_at_their_seams(n_snippets, window, overlap, n_columns) -> None:
    """A network whose scores depend on the snippet alone gives the same curve with and without windows."""
    plan = WindowPlan(window, overlap)
    whole = np.random.default_rng(0).random((2, n_snippets), dtype=np.float32)
    parts = []
    for place in plan.cut(n_snippets):
        length = place.end - place.start
        columns = length if n_columns is None else n_columns
        nearest = place.start + ((np.arange(columns) + 0.5) / columns * length).astype(int)
        parts.append(whole[:, nearest])
    curves = class_curves(["a", "b"], parts, n_snippets=n_snippets, plan=plan)
    assert curves.scores.shape == (2, n_snippets)
    if n_columns is None or n_columns >= window:
        np.testing.assert_allclose(curves.scores, whole, rtol=1e-6)


@pytest.mark.parametrize("window", [None, 10])
def test_a_page_of_a_video_has_all_there_is(bundle, video, tmp_path, shown, window) -> None:
    truth = tmp_path / "truth.json"
    action = {"segment": [1.0, 2.5], "label": "jump"}
    known = {"my holiday": {"duration": 6.0, "subset": "validation", "annotations": [action]}}
    truth.write_text(json.dumps({"version": "1", "taxonomy": [], "database": known}), encoding="utf-8")
    page = tmp_path / "pages" / "out.html"
    run = detect_files(
        DetectSettings(bundle, window=window), [video], output=OutputSettings("html", page=page, truth=truth)
    )
    view = shown["my holiday"]
    assert view.source == "../my%20holiday.mp4"
    times = [thumbnail.time_s for thumbnail in view.thumbnails]
    assert len(times) == 30  # one a snippet, since there are few
    assert times == sorted(times)
    assert view.curves is not None
    assert view.curves.names == tiny.NAMES
    assert view.curves.scores.shape[0] == len(tiny.NAMES)
    assert [tuple(one) for one in view.truth or ()] == [("jump", 1.0, 2.5)]
    assert re.search(r'<video [^>]*src="\.\./my%20holiday\.mp4"', run.text)


def test_a_page_of_a_data_set_shows_its_annotations(bundle, tmp_path, shown) -> None:
    root = tmp_path / "data"
    (root / "features").mkdir(parents=True)
    database = {}
    for name, actions in (("v_a", [{"segment": [0.0, 1.0], "label": "jump"}]), ("v_b", [])):
        np.save(root / "features" / f"{name}.npy", tiny.features(20))
        database[name] = {"duration": 4.0, "subset": "validation", "annotations": actions}
    (root / "annotations.json").write_text(json.dumps({"version": "1", "taxonomy": [], "database": database}))
    detect_files(bundle, [root], output=OutputSettings("html"))
    assert [tuple(one) for one in shown["v_a"].truth or ()] == [("jump", 0.0, 1.0)]
    assert shown["v_b"].truth == ()
    assert (shown["v_a"].source, shown["v_a"].thumbnails) == (None, ())
    np.save(tmp_path / "alone.npy", tiny.features(20))
    detect_files(bundle, [tmp_path / "alone.npy"], output=OutputSettings("html"))
    assert shown["alone"].truth is None


def test_other_formats_collect_nothing(bundle, video, shown) -> None:
    detect_files(bundle, [video])
    assert shown == {}


def test_a_page_on_standard_output_links_by_absolute_address(tmp_path) -> None:
    video = tmp_path / "a b.mp4"
    assert link_to(video, None) == video.as_uri()
    assert link_to(video, tmp_path / "page.html") == "a%20b.mp4"
