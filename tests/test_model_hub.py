"""Models of the hub are loaded by revision."""

from pathlib import Path
from typing import Any

import pytest
import transformers

from stale_edge.errors import CheckpointError
from stale_edge.model.hub_revisions import REVISIONS, hub_model
from stale_edge.model.saved_text import load_tokenizer
from stale_edge.model.text import TextEncoder

B32 = "openai/clip-vit-base-patch32"


def test_a_known_name_has_a_revision_and_a_given_one_wins(tmp_path: Path) -> None:
    assert hub_model(B32) == (B32, REVISIONS[B32])
    assert hub_model(f"{B32}@main") == (B32, "main")
    assert hub_model("org/other") == ("org/other", None)
    assert hub_model("org/other@0123abc") == ("org/other", "0123abc")
    (tmp_path / "a@b").mkdir()
    assert hub_model(tmp_path / "a@b") == (str(tmp_path / "a@b"), None)
    assert all(len(revision) == 40 for revision in REVISIONS.values()), "a commit; names can move"


def test_both_parts_of_a_text_encoder_are_asked_for_by_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, Any]] = []

    def refuse(name: str, **options: Any) -> None:
        asked.append((name, options["revision"]))
        raise OSError("no network in this test")

    monkeypatch.setattr(transformers.PretrainedConfig, "get_config_dict", refuse)
    monkeypatch.setattr(transformers.CLIPTokenizer, "from_pretrained", refuse)
    with pytest.raises(CheckpointError, match="no network in this test"):
        TextEncoder.load(B32)
    with pytest.raises(CheckpointError, match="no network in this test"):
        load_tokenizer(f"{B32}@main")
    assert asked == [(B32, REVISIONS[B32]), (B32, "main")]
