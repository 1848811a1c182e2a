"""The network of the public code, against golden outputs of that code."""

import dataclasses
import json
import re
import zlib
from pathlib import Path

import numpy as np
import oracle
import pytest
import torch

from stale_edge.config import ModelConfig
from stale_edge.errors import CheckpointError
from stale_edge.model import ReleaseStale, StaleOutput, build_model, random_release, release_from_public
from stale_edge.model.stale.release import release_gate, sine_position
from stale_edge.model.stale.release_weights import translate_public

GOLDEN_TOLERANCE = 1e-4  # asked for by the golden cases; seen: 1.1e-5
TOLERANCE = 1e-5
TINY = ModelConfig(architecture="release", feature_channels=8, embed_dim=8, n_heads=2, temporal_scale=5)


def shapes(golden: Path) -> dict[str, list[int]]:
    listed = json.loads((golden / "release_state_dict.json").read_text(encoding="utf-8"))
    return {name: entry["shape"] for name, entry in listed.items()}


def public_state_dict(golden: Path, *, seed: int) -> dict[str, torch.Tensor]:
    """Make the tensors of the golden case: each is a function of its name and the seed."""
    tensors = {}
    for name, shape in shapes(golden).items():
        rng = np.random.Generator(np.random.PCG64([seed, zlib.crc32(name.encode())]))
        z = rng.standard_normal(shape, dtype=np.float32)
        if len(shape) > 1:
            z = z / np.float32(np.sqrt(np.prod(shape[1:])))
        else:
            z = np.float32(0.1) * z + np.float32("norm" in name and name.endswith("weight"))
        tensors[name] = torch.from_numpy(z)
    return tensors


@pytest.fixture(scope="module")
def public(golden: Path) -> dict[str, torch.Tensor]:
    return public_state_dict(golden, seed=1)


def test_golden(public: dict[str, torch.Tensor], golden: Path) -> None:
    case = np.load(golden / "release_forward_T100_seed1.npz")
    model = release_from_public(public)
    features, text = torch.from_numpy(case["features"])[None], torch.from_numpy(case["text"])
    with torch.no_grad():
        output = model(features, text)
        video_scores = model.video_scores(features, text)
    found = {
        "embedding": output.embedding[0].T,
        "masks": output.masks[0],
        "soft_mask": output.foreground[0],
        "score_maps": output.class_logits[0],
        "video_scores": video_scores[0],
    }
    for name, value in found.items():
        np.testing.assert_allclose(value.numpy(), case[name], atol=GOLDEN_TOLERANCE, rtol=0, err_msg=name)


def test_a_saved_checkpoint_has_prefixes_and_tensors_that_are_never_used(public: dict[str, torch.Tensor]) -> None:
    saved = {f"module.{name}": tensor for name, tensor in public.items()}
    for name in ("txt_model.logit_scale", "proj.0.weight", "bn1.running_mean", "reduce_mask.0.bias", "mask_MLP.0.bias"):
        saved[f"module.{name}"] = torch.zeros(1)
    expected = translate_public(
        {k: v for k, v in public.items() if k not in ("classifier.0.weight", "classifier.0.bias", "contexts")}
    )
    loaded = release_from_public(saved).state_dict()
    assert loaded.keys() == expected.keys()
    assert all(torch.equal(loaded[name], expected[name]) for name in expected)


def test_every_public_tensor_lands_somewhere(public: dict[str, torch.Tensor]) -> None:
    used = {k: v for k, v in public.items() if not k.startswith(("classifier.", "contexts"))}
    loaded = release_from_public(public).state_dict()
    assert sum(v.numel() for v in used.values()) == sum(v.numel() for v in loaded.values())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: d.pop("bg_embeddings"), "'bg_embeddings' is missing"),
        (lambda d: d.pop("masktrans.input_proj.bias"), "lacks the tensor 'masktrans.input_proj.bias'"),
        (lambda d: d.update(other=torch.zeros(2)), "unknown tensors: other"),
        (lambda d: d.update({"cross_att.fc.bias": torch.zeros(3)}), r"cross_att.fc.bias: shape \(3,\), expected"),
        (lambda d: d.update({"cross_att.fc.bias": torch.full((512,), float("nan"))}), "not finite"),
    ],
    ids=["not ours", "missing", "unknown", "shape", "nan"],
)
def test_a_public_checkpoint_that_does_not_fit_is_refused(public, change, says: str) -> None:
    tensors = dict(public)
    change(tensors)
    with pytest.raises(CheckpointError, match=says):
        release_from_public(tensors)


def test_parameters_are_those_of_table_2_of_the_thesis(golden: Path) -> None:
    """170.7 M at T = 100, with CLIP ViT-B/32 and the layers that the public class makes and never uses."""
    from transformers import CLIPConfig, CLIPModel

    with torch.device("meta"):
        clip = sum(p.numel() for p in CLIPModel(CLIPConfig()).parameters())
    listed = sum(int(np.prod(shape)) for shape in shapes(golden).values())
    proj, bn1, reduce_mask, mask_mlp = 2048 * 512 * 3 + 512, 2 * 2048, 100 + 1, 5 + 1
    assert round(clip / 1e6, 1) == 151.3
    assert round((clip + listed + proj + bn1 + reduce_mask + mask_mlp) / 1e6, 1) == 170.7
    # Ours are the listed ones without `contexts` and `classifier`.
    ours = sum(p.numel() for p in random_release(100).parameters())
    assert ours == listed - 30 - (202 * 512 + 202)


def test_random_networks_follow_their_seed_and_leave_the_global_one_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    one, same, other = random_release(3, seed=1), random_release(3, seed=1), random_release(3, seed=2)
    assert torch.equal(torch.rand(1), expected)
    assert not one.training
    assert torch.equal(one.background, same.background)
    assert not torch.equal(one.background, other.background)


def test_gate_equals_its_slow_twin() -> None:
    masks = torch.rand(3, 7, 7, generator=torch.Generator().manual_seed(0))
    expected = [oracle.release_gate(video.numpy()) for video in masks]
    assert release_gate(masks).bool().tolist() == expected


def test_equal_masks_are_all_foreground() -> None:
    assert release_gate(torch.full((1, 4, 4), 0.25)).tolist() == [[1, 1, 1, 1]]


def test_position_first_half_is_constant_second_turns_once() -> None:
    position = sine_position(4, 8)
    assert position.shape == (4, 8)
    np.testing.assert_allclose(position[:, :4], position[:1, :4].expand(4, 4))
    angles = 2 * np.pi * np.arange(1, 5) / 4
    np.testing.assert_allclose(position[:, 4], np.sin(angles), atol=1e-5)
    np.testing.assert_allclose(position[:, 5], np.cos(angles), atol=1e-5)


def tiny() -> ReleaseStale:
    torch.manual_seed(0)
    model = build_model(TINY).eval()
    assert isinstance(model, ReleaseStale)
    return model


def assert_same(output: StaleOutput, expected: StaleOutput) -> None:
    for name, value, wanted in zip(StaleOutput._fields, output, expected, strict=True):
        # logits are 100 times a cosine
        torch.testing.assert_close(
            value, wanted, atol=100 * TOLERANCE, rtol=0, msg=lambda text, name=name: f"{name}: {text}"
        )


def test_videos_of_a_batch_do_not_see_each_other() -> None:
    model, features, classes = tiny(), torch.randn(3, 5, 8), torch.randn(4, 8)
    with torch.no_grad():
        together = model(features, classes)
        for b in range(3):
            assert_same(model(features[b : b + 1], classes), StaleOutput(*(value[b : b + 1] for value in together)))


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_a_recorded_graph_equals_the_network_on_other_batches_and_vocabularies() -> None:
    model = tiny()
    with torch.no_grad():
        traced = torch.jit.trace(model, (torch.randn(2, 5, 8), torch.randn(3, 8)))
        for n_videos, n_classes in [(1, 1), (4, 9)]:
            example = (torch.randn(n_videos, 5, 8), torch.randn(n_classes, 8))
            assert_same(StaleOutput(*traced(*example)), model(*example))


def test_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match=r"of shape \(B, 5, 8\), B >= 1; got \(1, 6, 8\); this network has a fixed T"):
        tiny()(torch.zeros(1, 6, 8), torch.zeros(2, 8))


@pytest.mark.parametrize("sizes", [{"feature_channels": 12}, {"feature_channels": 6, "embed_dim": 6}])
def test_sizes_that_the_network_cannot_have_are_refused(sizes: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="needs feature_channels == embed_dim, a multiple of 4"):
        ReleaseStale(dataclasses.replace(TINY, **sizes))


def test_training_mode_gives_every_parameter_a_gradient() -> None:
    model = tiny().train()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("feedforward.0.bias"):
                parameter.fill_(5.0)  # these networks are one ReLU wide, and off half of the time
    output = model(torch.randn(3, 5, 8), torch.randn(4, 8))
    sum((value * torch.randn(value.shape)).sum() for value in output).backward()
    silent = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().max() > 0]
    # Not surprising: one query has one key, whose softmax is 1; a bias of all keys changes no softmax; the decoder
    # starts from zeros, of which weights make zeros.
    expected = re.compile(
        r"decoder\.\d\.self_attention\.(query|key)|key\.bias|decoder\.0\.(norm1|self_attention\.value)\.weight"
    )
    assert [name for name in silent if not expected.search(name)] == []
