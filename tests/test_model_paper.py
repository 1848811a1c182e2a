"""The architecture of the paper: contract, equations against slow twins, recorded graphs, gradients, alternatives."""

import dataclasses

import numpy as np
import oracle
import pytest
import torch
from torch import nn

from stale_edge.config import ModelConfig
from stale_edge.model import PaperStale, StaleOutput, build_model
from stale_edge.model.layers import l2_normalize
from stale_edge.model.stale.mask_head import CHUNK_ELEMENTS, POSITION_SCALE
from stale_edge.model.stale.masking import ForegroundGate

TINY = ModelConfig(
    feature_channels=6,
    embed_dim=8,
    n_heads=2,
    feedforward_dim=16,
    n_mask_queries=3,
    localizer_dim=8,
    dynamic_channels=4,
)
TOLERANCE = 1e-5  # float32; batches, rows and recorded graphs only change the order of sums
SHAPES = [(1, 1, 1), (2, 3, 2), (3, 1, 7), (1, 200, 100), (2, 5, 300)]


def tiny(**changes: object) -> PaperStale:
    torch.manual_seed(0)
    model = build_model(dataclasses.replace(TINY, **changes)).eval()
    assert isinstance(model, PaperStale)
    # A constant foreground would hide mistakes of the gate: weigh the mask queries so that it crosses the threshold.
    if model.config.masking == "maskformer":
        with torch.no_grad():
            model.masking.query_weights[-1].weight.mul_(8.0)
            model.masking.query_weights[-1].bias.fill_(0.6)
            model.masking.scale = 1.0
    return model


def inputs(n_videos: int, n_classes: int, length: int, *, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n_videos, length, 6, generator=generator), torch.randn(n_classes, 8, generator=generator)


def assert_same(output: StaleOutput, expected: StaleOutput) -> None:
    for name, value, wanted in zip(StaleOutput._fields, output, expected, strict=True):
        torch.testing.assert_close(value, wanted, atol=TOLERANCE, rtol=0, msg=lambda text, name=name: f"{name}: {text}")


@pytest.mark.parametrize(("n_videos", "n_classes", "length"), SHAPES)
def test_contract(n_videos: int, n_classes: int, length: int) -> None:
    with torch.no_grad():
        output = tiny()(*inputs(n_videos, n_classes, length))
    assert output.class_logits.shape == (n_videos, n_classes + 1, length)
    assert output.masks.shape == (n_videos, length, length)
    assert output.foreground.shape == (n_videos, length)
    assert output.embedding.shape == (n_videos, length, 8)
    for name, value in output._asdict().items():
        assert torch.isfinite(value).all(), name
    for value in (output.masks, output.foreground):
        assert value.min() >= 0
        assert value.max() <= 1


def test_a_very_long_video() -> None:
    config = dataclasses.replace(TINY, dynamic_channels=2)
    with torch.no_grad():
        output = build_model(config).eval()(*inputs(1, 2, 4096))
    assert output.masks.shape == (1, 4096, 4096)
    assert torch.isfinite(output.class_logits).all()


def test_the_tiny_model_has_foreground_and_background() -> None:
    foreground = tiny()(*inputs(3, 4, 50)).foreground
    assert 0.1 < float((foreground > 0.5).float().mean()) < 0.9


def test_videos_of_a_batch_do_not_see_each_other() -> None:
    model = tiny()
    features, classes = inputs(3, 4, 9)
    with torch.no_grad():
        together = model(features, classes)
        for b in range(3):
            assert_same(model(features[b : b + 1], classes), StaleOutput(*(value[b : b + 1] for value in together)))


def test_the_order_of_classes_and_their_lengths_do_not_matter() -> None:
    model = tiny()
    features, classes = inputs(2, 5, 9)
    order = torch.tensor([3, 0, 4, 1, 2])
    with torch.no_grad():
        plain = model(features, classes)
        shuffled = model(features, 10 * classes[order])
    logits = plain.class_logits[:, [*order.tolist(), 5]]
    assert_same(shuffled, plain._replace(class_logits=logits))


def test_without_positional_encoding_the_embedding_follows_the_snippets() -> None:
    model = tiny()
    features, _ = inputs(1, 1, 12)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(
            model.temporal(features[:, order]), model.temporal(features)[:, order], atol=TOLERANCE, rtol=0
        )


@pytest.mark.parametrize("length", [1, 2, 9])
def test_localizer_equals_its_slow_twin(length: int) -> None:
    localizer = tiny().localizer
    with torch.no_grad():
        for parameter in localizer.parameters():
            parameter.mul_(2.0)  # far from the flat masks of fresh weights
        embedding = torch.randn(2, length, 8, generator=torch.Generator().manual_seed(3))
        masks = localizer(embedding)
        base, weights = localizer.base(embedding).numpy(), localizer.controller(embedding).numpy()
    expected = [
        [oracle.dynamic_mask(base[b], weights[b, i], i, position_scale=POSITION_SCALE) for i in range(length)]
        for b in range(2)
    ]
    np.testing.assert_allclose(masks.numpy(), expected, atol=TOLERANCE, rtol=0)


def test_any_row_can_be_computed_alone() -> None:
    localizer = tiny().localizer
    embedding = torch.randn(2, 15, 8)
    rows = torch.tensor([14, 0, 7])
    torch.testing.assert_close(localizer(embedding, rows), localizer(embedding)[:, rows], atol=TOLERANCE, rtol=0)


def test_chunks_of_rows_equal_the_whole() -> None:
    localizer = tiny().localizer
    length = 800
    assert length * length * localizer.width > CHUNK_ELEMENTS  # so that there is more than one chunk
    embedding = torch.randn(1, length, 8)
    whole = localizer(embedding).detach()
    with torch.no_grad():
        torch.testing.assert_close(localizer(embedding), whole, atol=TOLERANCE, rtol=0)


def test_classifier_equals_its_slow_twin() -> None:
    model = tiny(residual_scale_init=0.0)  # then eq. 6 leaves the text as it is
    features, classes = inputs(1, 4, 10)
    with torch.no_grad():
        output = model(features, classes)
    background = model.background[0].detach().numpy()
    expected = oracle.paper_class_logits(
        output.embedding[0].numpy(),
        output.foreground[0].numpy() > model.config.foreground_threshold,
        background,
        [*classes.numpy(), background],
        model.config.temperature_init,
    )
    np.testing.assert_allclose(output.class_logits[0].numpy(), expected, atol=1e-3, rtol=0)  # logits up to 1 / 0.07


def test_a_gated_off_snippet_is_background() -> None:
    model = tiny()
    with torch.no_grad():
        output = model(*inputs(2, 6, 40))
    off = output.foreground <= model.config.foreground_threshold
    assert (output.class_logits.argmax(dim=1)[off] == 6).all()


def test_text_adaption_sees_foreground_alone() -> None:
    adaption = tiny(residual_scale_init=1.0).adaption
    text, snippets = l2_normalize(torch.randn(4, 8)), torch.randn(1, 6, 8)
    gate = torch.tensor([[1.0, 0.0, 1.0, 1.0, 0.0, 0.0]])
    changed = torch.where(gate.unsqueeze(-1) > 0, snippets, torch.randn(1, 6, 8))
    torch.testing.assert_close(adaption(text, changed, gate), adaption(text, snippets, gate), atol=TOLERANCE, rtol=0)
    assert not torch.allclose(adaption(text, snippets, gate), adaption(text, -snippets, gate), atol=0.01)


@pytest.mark.parametrize("bias", [-1e3, 1e3])
def test_everything_background_and_everything_foreground_stay_finite(bias: float) -> None:
    model = tiny().train()
    with torch.no_grad():
        model.masking.query_weights[-1].bias.fill_(bias)
    output = model(*inputs(2, 3, 5))
    assert (output.foreground > 0.5).all() == (bias > 0)
    sum(value.sum() for value in output).backward()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    assert all(torch.isfinite(value).all() for value in output)


def test_gate_is_binary_and_passes_the_gradient_straight_through() -> None:
    gate = ForegroundGate(0.5).train()
    foreground = torch.tensor([0.0, 0.2, 0.5, 0.500001, 0.9], requires_grad=True)
    weights = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])
    binary = gate(foreground)
    assert binary.tolist() == [0, 0, 0, 1, 1]  # "greater than", as section 3.2 binarises
    (binary * weights).sum().backward()
    assert foreground.grad.tolist() == weights.tolist()
    assert not gate.eval()(foreground).requires_grad


def test_the_classification_alone_trains_the_mask_queries() -> None:
    model = tiny().train()
    output = model(*inputs(2, 3, 12))
    output.class_logits.logsumexp(dim=1).sum().backward()
    assert model.masking.queries.grad.abs().max() > 0


def test_every_parameter_is_trained() -> None:
    model = tiny(n_temporal_layers=2, n_mask_layers=2).train()
    output = model(*inputs(2, 3, 12))
    sum((value * torch.randn(value.shape)).sum() for value in output).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or p.grad.abs().max() == 0] == []


@pytest.mark.parametrize(
    "changes",
    [{}, {"temporal": "cnn"}, {"temporal": "ms-tcn"}, {"temporal": "none"}, {"masking": "cnn"}, {"masking": "none"}],
    ids=lambda changes: "-".join(changes.values()) or "paper",
)
@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_a_recorded_graph_equals_the_model_on_other_shapes(changes: dict[str, str]) -> None:
    model = tiny(**changes)
    with torch.no_grad():
        traced = torch.jit.trace(model, inputs(2, 3, 9))
        for n_videos, n_classes, length in [(1, 1, 1), (3, 7, 2), (1, 2, 31)]:
            example = inputs(n_videos, n_classes, length, seed=length)
            assert_same(StaleOutput(*traced(*example)), model(*example))


def test_all_weights_are_of_linear_layers() -> None:
    """Dynamic int8 skips convolutions and packed attentions: there must be none."""
    kinds = {type(m) for m in tiny().modules() if any(p.ndim > 1 for p in m.parameters(recurse=False))}
    assert kinds <= {
        nn.Linear,
        PaperStale,
        type(tiny().masking),
    }  # the latter two own the background and the mask queries


def test_no_masking_calls_everything_foreground() -> None:
    output = tiny(masking="none")(*inputs(2, 3, 5))
    assert (output.foreground == 1).all()


def test_ground_truth_masking_gates_by_what_it_is_given() -> None:
    model = tiny(masking="ground-truth")
    features, classes = inputs(1, 3, 4)
    truth = torch.tensor([[1.0, 0.0, 0.0, 1.0]])
    output = model(features, classes, truth)
    assert (output.foreground == truth).all()
    assert output.class_logits[0].argmax(dim=0)[1:3].tolist() == [3, 3]


@pytest.mark.parametrize(
    ("masking", "foreground", "says"),
    [("ground-truth", None, "foreground is missing"), ("maskformer", torch.ones(1, 4), "foreground is given")],
)
def test_foreground_belongs_to_ground_truth_masking(masking: str, foreground: torch.Tensor | None, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        tiny(masking=masking)(*inputs(1, 3, 4), foreground)


@pytest.mark.parametrize(
    ("features", "classes", "says"),
    [
        ((4, 6), (3, 8), r"features must be of shape \(B, T, 6\), B >= 1; got \(4, 6\)"),
        ((1, 4, 5), (3, 8), r"got \(1, 4, 5\)"),
        ((1, 0, 6), (3, 8), r"got \(1, 0, 6\)"),
        ((1, 4, 6), (3, 6), r"class_embeddings must be of shape \(K, 8\), K >= 1; got \(3, 6\)"),
        ((1, 4, 6), (0, 8), r"got \(0, 8\)"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(features: tuple[int, ...], classes: tuple[int, ...], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        tiny()(torch.zeros(features), torch.zeros(classes))


def test_equal_widths_start_as_the_identity() -> None:
    model = build_model(dataclasses.replace(TINY, feature_channels=8))
    assert torch.equal(model.temporal.project.weight, torch.eye(8))


def test_full_size_has_the_paper_defaults() -> None:
    config = ModelConfig()
    assert (config.embed_dim, config.n_mask_queries, config.residual_scale_init) == (512, 20, 1e-3)
    with torch.device("meta"):
        model = PaperStale(config)
    assert model.masking.queries.shape == (1, 20, 512)
    assert model.adaption.alpha.shape == (512,)
