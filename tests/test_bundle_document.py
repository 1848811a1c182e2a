"""export/BUNDLE.md: its examples are run, and its tables name what the code has."""

import hashlib
import json
import math
import re
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import tiny
from test_bundle_schema import validator
from test_decoding import CONFIGS, made

from stale_edge.bundle import Manifest, detector_inputs, localizer_inputs, localizer_outputs, mask_detector_outputs
from stale_edge.bundle.encoder_folder import EncoderManifest, encoder_inputs, encoder_outputs
from stale_edge.bundle.manifest import Role
from stale_edge.bundle.onnx_metadata import graph_metadata
from stale_edge.bundle.text_contract import TextContract, text_encoder_inputs, text_encoder_outputs
from stale_edge.config import DecodeConfig, to_dict
from stale_edge.config.runtimes import MANIFEST_RUNTIMES, PRECISIONS
from stale_edge.data import resample
from stale_edge.decoding import decode_arrays

DOCUMENT = (Path(__file__).resolve().parent.parent / "export" / "BUNDLE.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", DOCUMENT, flags=re.M | re.S)


@pytest.fixture(scope="module")
def code() -> dict[str, Any]:
    """Run every Python block, as a reader who copies them would."""
    namespace: dict[str, Any] = {"np": np, "json": json, "hashlib": hashlib, "math": math}
    for block in blocks("python"):
        exec(block, namespace)
    return namespace


def test_the_manifest_of_the_example_is_one() -> None:
    manifest, detections = (json.loads(block) for block in blocks("json"))
    validator().validate(manifest)
    read = Manifest.from_json(manifest)
    (detector,) = read.detectors
    assert detector.inputs == detector_inputs(channels=512, embed_dim=512, length=None)
    assert detector.outputs == mask_detector_outputs(length=None)
    assert read.decode == DecodeConfig()
    assert set(detections) == {"version", "results", "external_data"}


def test_the_seal(code, tmp_path: Path) -> None:
    text = (tiny.write(tmp_path / "bundle") / "manifest.json").read_text(encoding="utf-8")
    assert code["sealed"](text)
    assert not code["sealed"](text.replace('"paper"', '"release"', 1))


@pytest.mark.parametrize(("T", "length"), [(1, 1), (1, 5), (7, 3), (3, 7), (12, 12), (50, 16)])
def test_resampling(code, T: int, length: int) -> None:
    features = np.random.default_rng(T).standard_normal((T, 4)).astype(np.float16)
    np.testing.assert_array_equal(code["resample"](features, length), resample(features, length))


@pytest.mark.parametrize("config", CONFIGS, ids=range(len(CONFIGS)))
@pytest.mark.parametrize(("seed", "K", "T"), [(0, 1, 1), (1, 4, 3), (2, 5, 20), (3, 12, 33)])
def test_the_paper_policy(code, config: DecodeConfig, seed: int, K: int, T: int) -> None:
    class_logits, masks = made(seed, K, T, smooth=bool(seed % 2))
    found = code["decode_paper"](class_logits, masks, to_dict(config))
    expected = decode_arrays(class_logits, masks, config=config)
    assert [(k, s, e) for k, _, s, e in found] == [
        (k, *segment) for k, segment in zip(expected.labels.tolist(), expected.segments.tolist(), strict=True)
    ]
    np.testing.assert_allclose([score for _, score, _, _ in found], expected.scores, rtol=1e-5)


@pytest.mark.parametrize(("seed", "K", "T"), [(0, 1, 1), (1, 4, 7), (2, 5, 20), (3, 20, 60), (5, 30, 100)])
def test_the_release_policy(code, seed: int, K: int, T: int) -> None:
    class_logits, masks = made(seed, K, T, smooth=bool(seed % 2))
    _check_release(code, class_logits, masks)


@pytest.mark.parametrize("seed", [1, 2])
def test_the_release_policy_on_golden_cases(code, golden: Path, seed: int) -> None:
    with np.load(golden / f"release_postprocess_seed{seed}.npz") as arrays:
        _check_release(code, arrays["class_logits"], arrays["masks"])


def _check_release(code, class_logits: np.ndarray, masks: np.ndarray) -> None:
    found = code["decode_release"](class_logits, masks)
    expected = decode_arrays(class_logits, masks, config=DecodeConfig(policy="release"))
    assert [row[0] for row in found] == expected.labels.tolist()
    assert [row[2:] for row in found] == [tuple(segment) for segment in expected.segments.tolist()]
    np.testing.assert_allclose([row[1] for row in found], expected.scores, rtol=1e-4, atol=1e-6)


def test_every_name_of_the_format_stands_in_the_document() -> None:
    metadata = graph_metadata(
        architecture="paper", feature_contract=tiny.contract(), decode=tiny.DECODE, class_names=tiny.NAMES
    )
    specs = (
        *detector_inputs(channels=8, embed_dim=6, length=None),
        *mask_detector_outputs(length=None),
        *localizer_inputs(channels=8, embed_dim=6, length=None),
        *localizer_outputs(),
        *text_encoder_inputs(),
        *text_encoder_outputs(embed_dim=6),
        *encoder_inputs((8, 8)),
        *encoder_outputs(4),
    )
    names = {
        *get_args(Role),
        *metadata,
        *TextContract.__dataclass_fields__,
        *EncoderManifest.__dataclass_fields__,
        *DecodeConfig.__dataclass_fields__,
        *tiny.contract().to_json(),
        *(spec.name for spec in specs),
        *MANIFEST_RUNTIMES.values(),
        *(numbers.file for numbers in PRECISIONS.values()),
    }
    assert not [name for name in sorted(names) if f"`{name}`" not in DOCUMENT]


def test_links_lead_somewhere() -> None:
    folder = Path(__file__).resolve().parent.parent / "export"
    targets = re.findall(r"\]\(([^)#]+)\)", DOCUMENT)
    assert targets
    assert not [target for target in targets if not (folder / target).exists()]
    headings = {
        re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in re.findall(r"^## (.*)$", DOCUMENT, re.M)
    }
    assert not [anchor for anchor in re.findall(r"\]\(#([^)]+)\)", DOCUMENT) if anchor not in headings]
