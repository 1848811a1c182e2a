"""The schema of manifest.json, for readers in other languages: it accepts what `Manifest.from_json` accepts."""

import copy
import functools
import json
from pathlib import Path
from typing import Any, get_args

import jsonschema
import numpy as np
import pytest
import tiny
from test_bundle_manifest import BAD

import stale_edge.bundle
from stale_edge.bundle import verify_bundle
from stale_edge.bundle.feature_contract import FeatureContract
from stale_edge.bundle.manifest import FileEntry, Manifest, Role
from stale_edge.config import DecodeConfig, PointsConfig, RunsConfig
from stale_edge.errors import BundleError, VerificationError

SCHEMA_PATH = Path(stale_edge.bundle.__file__).with_name("manifest.schema.json")

BEYOND = {  # what no schema can say: rules between fields and between files
    "no class bank",
    "two of a kind",
    "listed twice",
    "twice but for case",
    "impossible count",
    "the manifest itself",
}


@pytest.fixture(scope="module")
def values(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    path = tiny.write(tmp_path_factory.mktemp("m") / "bundle", precisions=("fp32", "int8"))
    text = (path / "manifest.json").read_text(encoding="utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


@functools.cache
def validator() -> jsonschema.Draft202012Validator:
    schema = json.loads(SCHEMA_PATH.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_a_written_manifest_is_as_the_schema_says(values) -> None:
    validator().validate(values)


@pytest.mark.parametrize("case", sorted(BAD))
def test_what_the_reader_refuses_the_schema_refuses(values, case: str) -> None:
    edited = copy.deepcopy(values)
    BAD[case][0](edited)
    assert validator().is_valid(edited) == (case in BEYOND)


def _mutated(values: Any, rng: np.random.Generator) -> None:
    """Change one value somewhere: another type, another size, a key more or less."""
    while True:
        keys = list(values) if isinstance(values, dict) else list(range(len(values)))
        key = keys[rng.integers(len(keys))]
        if not isinstance(values[key], dict | list) or not values[key] or rng.random() < 0.2:
            break
        values = values[key]
    others = [None, True, 0, -1, 1, 1.0, 0.5, 2**40, "", "fp32", "../x", "a/b", [], [1], ["B", 2], {}, {"a": 1}]
    if isinstance(values, dict) and rng.random() < 0.3:
        values.pop(key)
    elif isinstance(values, dict) and rng.random() < 0.2:
        values["colour"] = "red"
    else:
        values[key] = others[rng.integers(len(others))]


def test_what_the_reader_takes_the_schema_takes(values) -> None:
    taken = 0
    for seed in range(1_000):
        edited = copy.deepcopy(values)
        rng = np.random.default_rng(seed)
        for _ in range(rng.integers(1, 3)):
            _mutated(edited, rng)
        try:
            Manifest.from_json(edited)
        except BundleError:
            continue
        if set(edited["decode"]) != set(values["decode"]):
            continue  # reading fills in settings that are left out, `verify` does not
        taken += 1
        edited["manifest_sha256"] = "0" * 64  # the seal is looked at before the values are
        assert validator().is_valid(edited), (seed, list(validator().iter_errors(edited)))
    assert 20 < taken < 900


def test_schema_and_dataclasses_name_the_same_fields() -> None:
    schema = json.loads(SCHEMA_PATH.read_text(encoding="utf-8"))
    definitions = schema["$defs"]
    for definition, cls in (
        ("feature_contract_2", FeatureContract),
        ("decode_masks", DecodeConfig),
        ("decode_points", PointsConfig),
        ("decode_runs", RunsConfig),
        ("file", FileEntry),
    ):
        assert list(definitions[definition]["properties"]) == list(cls.__dataclass_fields__)
    assert list(schema["properties"]) == [
        "format",
        *(key for key in Manifest.__dataclass_fields__ if key != "format"),
        "manifest_sha256",
    ]
    roles = {
        role
        for choice in definitions["file"]["anyOf"]
        for role in choice["properties"]["role"].get("enum", [choice["properties"]["role"].get("const")])
    }
    assert roles == set(get_args(Role))


def test_every_setting_is_written_down(tmp_path) -> None:
    path = tiny.write(tmp_path / "bundle")
    tiny.edit_manifest(path, lambda values: values["decode"].pop("sigma"))  # a config has a default, the format none
    with pytest.raises(VerificationError, match=r"manifest\.json: decode lacks sigma"):
        verify_bundle(path)


def test_the_schema_lies_beside_the_code_and_is_read_as_it_is_written() -> None:
    assert SCHEMA_PATH.parent.name == "bundle"
    text = SCHEMA_PATH.read_text(encoding="utf-8")
    assert json.dumps(json.loads(text), indent=2) + "\n" == text
