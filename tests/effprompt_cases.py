"""Golden cases of the public Efficient-Prompt: weights and features are made up, each drawn from its own name."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from actionformer_cases import Arrays, made_up
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModelWithProjection

from stale_edge.model.effprompt.temporal import TemporalTransformer
from stale_edge.model.text import TextEncoder

START, END = 62, 63


class Case(NamedTuple):
    """One case: its two learned parts with made-up weights, names of its classes, and its numbers."""

    text: TextEncoder
    temporal: TemporalTransformer
    names: list[str]
    features: Tensor
    arrays: Arrays


class Numbers:
    """A tokenizer whose names are numbers of tokens: "7 12" has the tokens 7 and 12."""

    bos_token_id, eos_token_id, pad_token_id = START, END, END

    def __len__(self) -> int:
        return 64

    def __call__(self, texts: Sequence[str], *, add_special_tokens: bool) -> Any:
        assert not add_special_tokens
        return type("Encoding", (), {"input_ids": [[int(token) for token in text.split()] for text in texts]})


def read_case(golden: Path, name: str) -> Case:
    """Build the parts of a golden case, and read its numbers."""
    described = json.loads((golden / "effprompt.json").read_text())[name]
    every = np.load(golden / "effprompt.npz")
    arrays = {key.partition("/")[2]: every[key] for key in every if key.startswith(f"{name}/")}
    seed = described["seed"]
    weights = {key: _weight(seed, key, tuple(shape)) for key, shape in described["state_dict"].items()}
    features = torch.from_numpy(made_up(seed, f"{name}/features", (4, described["frames"], 512)))
    names = [" ".join(map(str, row[1 : row.index(END)])) for row in arrays["token_ids"].tolist()]
    return Case(_text(described, weights), _temporal(described, weights), names, features, arrays)


def _weight(seed: int, name: str, shape: tuple[int, ...]) -> Tensor:
    z = torch.from_numpy(np.array(made_up(seed, name, shape)))
    if len(shape) == 1:
        return 1 + 0.1 * z if "ln_" in name and name.endswith("weight") else 0.1 * z
    tables = ("embedding.weight", "temporalEmbedding.weight", "clipmodel.token_embedding.weight")
    if name in (*tables, "clipmodel.positional_embedding"):
        return 0.1 * z
    return z / float(np.sqrt(np.prod(shape[1:])))


def _text(described: dict[str, Any], weights: dict[str, Tensor]) -> TextEncoder:
    width = described["text_width"]
    tower = CLIPTextModelWithProjection(
        CLIPTextConfig(
            vocab_size=described["vocabulary"], hidden_size=width, intermediate_size=4 * width, projection_dim=512,
            num_hidden_layers=described["text_layers"], num_attention_heads=described["text_heads"],
            bos_token_id=START, eos_token_id=END, pad_token_id=END, hidden_act="quick_gelu",
        )
    ).eval()  # fmt: skip
    public = {key.removeprefix("clipmodel."): value for key, value in weights.items() if key.startswith("clipmodel.")}
    places = {
        "text_model.embeddings.token_embedding.weight": public["token_embedding.weight"],
        "text_model.embeddings.position_embedding.weight": public["positional_embedding"],
        "text_model.final_layer_norm.weight": public["ln_final.weight"],
        "text_model.final_layer_norm.bias": public["ln_final.bias"],
        "text_projection.weight": public["text_projection"].T,
    }
    for layer in range(described["text_layers"]):
        own, block = f"text_model.encoder.layers.{layer}", f"transformer.resblocks.{layer}"
        for kind in ("weight", "bias"):
            parts = public[f"{block}.attn.in_proj_{kind}"].chunk(3)
            for part, value in zip("qkv", parts, strict=True):
                places[f"{own}.self_attn.{part}_proj.{kind}"] = value
            for ours, theirs in (
                ("self_attn.out_proj", "attn.out_proj"),
                ("layer_norm1", "ln_1"),
                ("layer_norm2", "ln_2"),
                ("mlp.fc1", "mlp.c_fc"),
                ("mlp.fc2", "mlp.c_proj"),
            ):
                places[f"{own}.{ours}.{kind}"] = public[f"{block}.{theirs}.{kind}"]
    tower.load_state_dict(places)
    encoder = TextEncoder(tower, Numbers(), around=(described["prefix"], described["postfix"])).eval()
    encoder.table.load_state_dict({"weight": weights["embedding.weight"]})
    return encoder


def _temporal(described: dict[str, Any], weights: dict[str, Tensor]) -> TemporalTransformer:
    n_layers = described["tfm_layers"]
    temporal = TemporalTransformer(
        512, n_positions=described["frames"], n_layers=n_layers, n_heads=described["tfm_heads"]
    )
    places = {"positions": weights["temporalEmbedding.weight"]}
    for layer in range(n_layers):
        own, block = f"layers.{layer}", f"temporalModelling.resblocks.{layer}"
        for kind in ("weight", "bias"):
            places[f"{own}.attention.query_key_value.{kind}"] = weights[f"{block}.attn.in_proj_{kind}"]
            for ours, theirs in (
                ("attention.out", "attn.out_proj"),
                ("attention_norm", "ln_1"),
                ("feedforward_norm", "ln_2"),
                ("feedforward.0", "mlp.c_fc"),
                ("feedforward.3", "mlp.c_proj"),
            ):
                places[f"{own}.{ours}.{kind}"] = weights[f"{block}.{theirs}.{kind}"]
    temporal.load_state_dict(places)
    return temporal.eval()
