"""`stale-edge find`: names are checked first, a CLIP is exported once, later runs use no torch."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny
import video_files
import vision_encoder

import stale_edge
from stale_edge.bundle import ClassBank
from stale_edge.errors import CheckpointError, ClassBankError, DataError
from stale_edge.jobs import searching
from stale_edge.jobs.searching import FindSettings, cache_folder, prepared_bundle
from stale_edge.runtime.adaptation import adapted_classes


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STALE_EDGE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "needs names of actions after the video"),
        (["  "], "needs names of actions after the video"),
        (["pole vault", "pole  vault"], "must be distinct; more than once: pole vault"),
    ],
)
def test_bad_names_are_refused_before_anything_is_opened(tmp_path: Path, names: list[str], message: str) -> None:
    with pytest.raises(ClassBankError, match=message):
        stale_edge.find([tmp_path / "none.mp4"], names)


def test_what_is_no_video_is_refused_before_the_encoder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file; give a video or a folder of videos"):
        stale_edge.find([tmp_path / "none.mp4"], ["running"])
    np.save(tmp_path / "features.npy", np.ones((4, 8), np.float32))
    with pytest.raises(DataError, match="find takes videos; got features"):
        stale_edge.find([tmp_path / "features.npy"], ["running"])


def test_an_encoder_of_another_kind_is_refused(tmp_path: Path) -> None:
    encoder = vision_encoder.write(tmp_path / "encoder")
    with pytest.raises(DataError, match="is a visual encoder alone"):
        prepared_bundle(FindSettings(str(encoder)))
    bundle = tiny.write(tmp_path / "bundle")
    with pytest.raises(DataError, match="is a bundle of paper; find takes one of training-free"):
        prepared_bundle(FindSettings(str(bundle)))


def test_without_an_encoder_one_line_says_how_to_fetch_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from stale_edge.exporting import clip_to_bundle

    def offline(*_: object, **__: object) -> None:
        raise CheckpointError("no network")

    monkeypatch.setattr(clip_to_bundle, "export_training_free", offline)
    with pytest.raises(CheckpointError, match="hf download openai/clip-vit-base-patch32 --local-dir clip"):
        prepared_bundle(FindSettings())


def test_the_cache_depends_on_what_is_exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    made: list[Path] = []

    def export(_settings: FindSettings, target: Path, _progress: object) -> None:
        made.append(target)
        target.mkdir(parents=True)
        (target / "manifest.json").write_text("{}")

    monkeypatch.setattr(searching, "_export", export)
    (tmp_path / "mine.txt").write_text("an empty stage\nthe audience\n")
    settings = [FindSettings(), FindSettings(rate=2.0), FindSettings(background=tmp_path / "mine.txt")]
    for one in [*settings, *settings]:
        prepared_bundle(one)
    assert len(made) == len(set(made)) == 3
    assert all(path.is_relative_to(cache / "find") for path in made)
    monkeypatch.delenv("STALE_EDGE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "stale-edge"


class _Cosine:
    """A localizer whose logits are plain products."""

    def forward(self, features: np.ndarray, class_embeddings: np.ndarray) -> dict[str, np.ndarray]:
        return {"class_logits": np.concatenate([class_embeddings @ features.T, np.zeros((1, len(features)))])}


def test_adaptation_turns_a_name_towards_the_snippets_that_it_fits() -> None:
    rng = np.random.default_rng(0)
    features = rng.standard_normal((40, 16)).astype(np.float32) + 3
    shown = rng.standard_normal(16).astype(np.float32)
    features[10:14] += 4 * shown
    bank = ClassBank(("name",), (shown + 0.8 * rng.standard_normal(16))[None].astype(np.float32), "text")
    assert adapted_classes(_Cosine(), features, bank, steps=0) == bank  # type: ignore[arg-type]
    moved = adapted_classes(_Cosine(), features, bank, steps=3)  # type: ignore[arg-type]

    def cosine(embedding: np.ndarray) -> float:
        return float(embedding @ shown / np.linalg.norm(embedding) / np.linalg.norm(shown))

    assert cosine(moved.embeddings[0]) > cosine(bank.embeddings[0]) + 0.05


def test_a_search_from_a_clip_to_its_files(tmp_path: Path) -> None:
    """The CLIP has random weights; what counts is the path from video to files."""
    import torch

    from stale_edge.demo.video.clip import _build, make_tokenizer, save_clip

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        tokenizer = make_tokenizer()
        save_clip(_build(tokenizer).eval(), tokenizer, tmp_path / "clip")
    video = video_files.write(tmp_path / "holiday.mp4")
    names = ["red square spins", "asdf"]
    encoder = str(tmp_path / "clip")
    strict = stale_edge.find([video], names, settings=FindSettings(encoder, min_score=1.0, adapt_steps=1))
    assert "<html" in strict.run.text
    assert strict.not_found == {"holiday": tuple(names)}
    assert strict.adapt_s > 0
    program = (
        "import sys\n"
        "from stale_edge.cli.app import main\n"
        "try:\n    main()\n"
        "finally:\n    assert 'torch' not in sys.modules\n"
    )
    command = [sys.executable, "-c", program, "find", str(video), *names, "--encoder", encoder]
    done = subprocess.run(
        [*command, "--format", "vtt", "--min-score", "0", "--out", str(tmp_path / "a.vtt"), "--json", "-"],
        capture_output=True, text=True, check=True, env=os.environ,
    )  # fmt: skip
    assert (tmp_path / "a.vtt").read_text().startswith("WEBVTT")
    assert set(json.loads(done.stdout)["videos"]) == {"holiday"}
    assert "(seconds: prepare" in done.stderr
