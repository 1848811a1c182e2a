"""EffPrompt's two learned parts against the public code, and its prompt table as a text encoder of this kit."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from effprompt_cases import Case, read_case

from stale_edge.errors import DataError
from stale_edge.model.class_embeddings import class_bank
from stale_edge.model.effprompt.temporal import TemporalTransformer
from stale_edge.model.small_text import small_text_encoder
from stale_edge.model.text import TextEncoder
from stale_edge.study.class_splits import published_split

GOLDEN = Path(__file__).parent / "golden"
TOLERANCE = 1e-4


@pytest.fixture(scope="module", params=["p16", "p4_one_layer"])
def case(request: pytest.FixtureRequest) -> Case:
    return read_case(GOLDEN, request.param)


def test_prompted_text_equals_the_public_code(case: Case) -> None:
    with torch.no_grad():
        text = case.text.encode(case.names)
    np.testing.assert_allclose(text, case.arrays["text"], atol=TOLERANCE)


def test_each_place_reads_the_row_of_its_own_number(case: Case) -> None:
    ids, mask = case.text.tokenize(case.names)
    table = case.text.table
    assert table is not None
    numbered = torch.arange(len(table.weight)).float()[:, None].expand_as(table.weight)
    table_of_numbers = type(table)(*table.weight.shape, prefix=table.prefix, postfix=table.postfix)
    table_of_numbers.load_state_dict({"weight": numbered})
    places = table_of_numbers(torch.full((*ids.shape, table.weight.shape[1]), -1.0), mask.sum(dim=1) - 1)[:, :, 0]
    for row, wanted, end in zip(places, case.arrays["row_at_position"], case.arrays["end_positions"], strict=True):
        assert row[: end + 1].tolist() == wanted[: end + 1].tolist()


def test_video_side_and_loss_equal_the_public_code(case: Case) -> None:
    for weight in (*case.text.parameters(), *case.temporal.parameters()):
        weight.grad = None
    snippets = case.temporal(case.features)
    np.testing.assert_allclose(snippets.detach(), case.arrays["snippets"], atol=TOLERANCE)
    text = case.text.encode(case.names)
    logits = F.normalize(snippets.mean(dim=1), dim=1) @ F.normalize(text, dim=1).T / 0.07
    np.testing.assert_allclose(logits.detach(), case.arrays["logits"], atol=TOLERANCE)
    loss = F.cross_entropy(logits, torch.from_numpy(case.arrays["targets"]))
    assert loss.item() == pytest.approx(float(case.arrays["loss"]), rel=1e-5)
    loss.backward()
    assert case.text.table is not None
    for ours, theirs in (
        (case.text.table.weight.grad, case.arrays["prompt_gradient_norm_by_row"]),
        (case.temporal.positions.grad, case.arrays["temporal_embedding_gradient_norm_by_row"]),
    ):
        np.testing.assert_allclose(ours.norm(dim=1), theirs, atol=1e-4 * theirs.max())


def test_a_new_name_of_another_length_reads_rows_that_training_never_reached(case: Case) -> None:
    if not case.text.around[1]:
        pytest.skip("without a postfix every name reads the same rows")
    trained, new = case.names[:2], case.names[3]
    case.text.zero_grad()
    case.text.encode(trained).sum().backward()
    assert case.text.table is not None
    reached = case.text.table.weight.grad.norm(dim=1) > 0
    end = case.arrays["end_positions"][3]
    read = torch.tensor(case.arrays["row_at_position"][3][:end])
    assert not reached[read[read >= 0]].all(), new


def test_a_saved_table_is_read_with_its_encoder_and_its_bank_is_like_any_other(tmp_path: Path) -> None:
    small_text_encoder(tmp_path / "tower", dim=16, hidden_dim=32)
    encoder = TextEncoder.load(tmp_path / "tower", around=(3, 2)).eval()
    names = ["bowling", "x", "a longer name"]
    bank = class_bank(encoder, names)
    encoder.save(tmp_path / "saved")
    again = TextEncoder.load(tmp_path / "saved")
    assert again.table is not None
    assert (again.table.prefix, again.table.postfix) == (3, 2)
    assert again.fingerprint() == encoder.fingerprint() == bank.fingerprint
    assert np.array_equal(class_bank(again, names).embeddings, bank.embeddings)
    plain = TextEncoder.load(tmp_path / "tower")
    assert plain.fingerprint() != bank.fingerprint
    assert not np.allclose(class_bank(plain, names).embeddings, bank.embeddings, atol=1e-3)


def test_a_name_that_does_not_fit_between_the_prompts_is_refused(case: Case) -> None:
    room = 75 - sum(case.text.around)
    case.text.tokenize(["7 " * room])
    with pytest.raises(ValueError, match=f"takes at most {room}"):
        case.text.tokenize(["7 " * (room + 1)])


def test_positions_stretch_where_that_is_allowed() -> None:
    torch.manual_seed(0)
    temporal = TemporalTransformer(16, n_positions=8, n_layers=1, n_heads=2)
    assert temporal(torch.zeros(1, 20, 16)).shape == (1, 20, 16)
    strict = TemporalTransformer(16, n_positions=8, n_layers=1, n_heads=2, interpolate=False)
    assert strict(torch.zeros(1, 8, 16)).shape == (1, 8, 16)
    with pytest.raises(ValueError, match="at most 8 snippets"):
        strict(torch.zeros(1, 9, 16))


def test_filling_is_not_read() -> None:
    torch.manual_seed(0)
    temporal = TemporalTransformer(16, n_positions=8, n_layers=2, n_heads=2).eval()
    features = torch.randn(1, 6, 16)
    alone = temporal(features)
    filled = torch.cat([features, torch.full((1, 2, 16), 9.0)], dim=1)
    valid = torch.tensor([[1.0] * 6 + [0.0] * 2])
    torch.testing.assert_close(temporal(filled, valid)[:, :6], alone)


@pytest.mark.parametrize(("name", "n_classes"), [("THUMOS14", 20), ("ActivityNet1.3", 200)])
@pytest.mark.parametrize("percent", [75, 50])
def test_the_published_class_splits_are_read(name: str, n_classes: int, percent: int) -> None:
    path = GOLDEN / "effprompt_splits.json"
    classes = json.loads(path.read_text())["splits"][f"{name}/{percent}"]["all"]
    drawn = [published_split(path, seen_percent=percent, number=number, known=classes) for number in range(10)]
    for split in drawn:
        assert set(split.seen) | set(split.unseen) == set(classes)
        assert not set(split.seen) & set(split.unseen)
        assert len(split.seen) == n_classes * percent // 100
    assert len({frozenset(split.unseen) for split in drawn}) == 10
    with pytest.raises(DataError, match="must list 11 splits"):
        published_split(path, seen_percent=percent, number=10, known=classes)
    with pytest.raises(DataError, match="no class splits with"):
        published_split(path, seen_percent=percent, number=0, known=["another class"])
