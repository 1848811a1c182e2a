"""The schema of manifest.json: what `verify` holds manifests to, with the verdicts of an independent validator."""

import contextlib
import copy
import json
from typing import Any, get_args

import jsonschema
import numpy as np
import pytest
import tiny
from test_bundle_manifest import BAD

from stale_edge.bundle import verify_bundle
from stale_edge.bundle.json_schema import SCHEMA_PATH, manifest_schema, schema_problems
from stale_edge.bundle.manifest import FeatureContract, FileEntry, Manifest, Role
from stale_edge.config import DecodeConfig, PointsConfig, RunsConfig
from stale_edge.errors import BundleError, VerificationError

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


@pytest.fixture(scope="module")
def independent() -> jsonschema.Draft202012Validator:
    jsonschema.Draft202012Validator.check_schema(manifest_schema())
    return jsonschema.Draft202012Validator(manifest_schema())


def test_a_written_manifest_is_as_the_schema_says(values, independent) -> None:
    assert schema_problems(values, manifest_schema()) == []
    independent.validate(values)


@pytest.mark.parametrize("case", sorted(BAD))
def test_verdicts_on_bad_manifests(values, independent, case: str) -> None:
    edited = copy.deepcopy(values)
    BAD[case][0](edited)
    problems = schema_problems(edited, manifest_schema())
    assert bool(problems) == (case not in BEYOND), problems
    assert independent.is_valid(edited) == (not problems)


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


def test_verdicts_agree_with_an_independent_validator_on_anything(values, independent) -> None:
    verdicts = []
    for seed in range(600):
        edited = copy.deepcopy(values)
        rng = np.random.default_rng(seed)
        for _ in range(rng.integers(1, 3)):
            _mutated(edited, rng)
        ours = not schema_problems(edited, manifest_schema())
        assert ours == independent.is_valid(edited), seed
        verdicts.append(ours)
        if not ours:
            continue
        with contextlib.suppress(BundleError):  # what the schema lets through, the reader takes or refuses by name
            Manifest.from_json(edited)
    assert 20 < sum(verdicts) < 580


def test_what_the_reader_takes_the_schema_takes(values) -> None:
    for seed in range(600):
        edited = copy.deepcopy(values)
        _mutated(edited, np.random.default_rng(seed))
        if "manifest_sha256" not in edited or not isinstance(edited.get("decode"), dict):
            continue
        if set(edited["decode"]) != set(DecodeConfig.__dataclass_fields__):
            continue  # the reader knows defaults for settings that are left out; a written manifest has all of them
        try:
            Manifest.from_json(edited)
        except BundleError:
            continue
        edited["manifest_sha256"] = "0" * 64  # reading needs no seal
        assert schema_problems(edited, manifest_schema()) == [], seed


def test_schema_and_dataclasses_name_the_same_fields() -> None:
    schema = manifest_schema()
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


def test_a_keyword_that_is_not_known_is_refused() -> None:
    with pytest.raises(ValueError, match="the schema uses 'oneOf', which is none of"):
        schema_problems({}, {"oneOf": []})


def test_verify_uses_the_schema(tmp_path) -> None:
    path = tiny.write(tmp_path / "bundle")
    tiny.edit_manifest(path, lambda values: values["decode"].pop("sigma"))  # the reader has a default, the format none
    with pytest.raises(VerificationError, match=r"manifest.json breaks its schema: .*/decode lacks sigma"):
        verify_bundle(path)


def test_the_schema_lies_beside_the_code_and_is_read_as_it_is_written() -> None:
    assert SCHEMA_PATH.parent.name == "bundle"
    text = SCHEMA_PATH.read_text(encoding="utf-8")
    assert json.dumps(json.loads(text), indent=2) + "\n" == text
