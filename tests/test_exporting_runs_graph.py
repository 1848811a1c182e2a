"""The runs policy as ONNX nodes: the same picks, labels and order as the C++ core, on anything."""

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from test_decoding_runs import CONFIGS, made
from test_exporting_points_graph import session

from stale_edge.config import RunsConfig
from stale_edge.decoding import decode_runs_arrays
from stale_edge.exporting.decoder.graph_builder import GraphBuilder
from stale_edge.exporting.decoder.runs_decoder import runs_decoder

BASELINE = RunsConfig(class_threshold=0.0, smoothing=0.05, run_score="mean-contrast", length_power=0.5, min_score=1e-9)
ALL = [*CONFIGS, BASELINE]


def decoder(config: RunsConfig, *, attention: bool) -> onnxruntime.InferenceSession:
    g = GraphBuilder("decode_")
    found = runs_decoder(g, "class_logits", "attention" if attention else None, config)
    kinds = (TensorProto.INT64, TensorProto.INT64, TensorProto.INT64, TensorProto.DOUBLE)
    inputs: list[onnx.ValueInfoProto] = [
        helper.make_tensor_value_info("class_logits", TensorProto.FLOAT, ["K+1", "T"]),
        *([helper.make_tensor_value_info("attention", TensorProto.FLOAT, ["T"])] if attention else []),
    ]
    return session(
        g, inputs, {name: (value, kind) for name, value, kind in zip(found._fields, found, kinds, strict=True)}
    )


def check(run: onnxruntime.InferenceSession, config: RunsConfig, logits: np.ndarray, weights: np.ndarray | None) -> int:
    """Compare with the core; returns the number of detections."""
    feeds = {"class_logits": logits, **({} if weights is None else {"attention": weights})}
    starts, ends, labels, scores = run.run(None, feeds)
    expected = decode_runs_arrays(logits, weights, config=config)
    assert labels.tolist() == expected.labels.tolist()
    assert list(zip(starts.tolist(), ends.tolist(), strict=True)) == [tuple(row) for row in expected.segments.tolist()]
    np.testing.assert_allclose(scores, expected.scores, rtol=1e-9)  # sums in another order
    return len(labels)


@pytest.mark.parametrize("attention", [False, True])
@pytest.mark.parametrize("config", ALL, ids=range(len(ALL)))
def test_random_videos(config: RunsConfig, attention: bool) -> None:
    run, found = decoder(config, attention=attention), 0
    for seed in range(24):
        found += check(run, config, *made(seed, n_classes=1 + seed % 6, T=1 + 5 * seed, attention=attention))
    assert found > 20


@pytest.mark.parametrize("config", ALL, ids=range(len(ALL)))
@pytest.mark.parametrize("T", [1, 2, 3, 17])
def test_hostile_videos(config: RunsConfig, T: int) -> None:
    """Nothing varies, everything ties, combs, saturated logits."""
    run = decoder(config, attention=False)
    rng = np.random.default_rng(T)
    for logits in (
        np.zeros((4, T)),
        np.tile(np.arange(T) % 2 * 6.0, (3, 1)) * np.array([[1.0], [1.0], [-1.0]]),
        rng.normal(0, 200, (3, T)),
        rng.normal(0, 2, (2, T)).round(),
    ):
        check(run, config, logits.astype(np.float32), None)
