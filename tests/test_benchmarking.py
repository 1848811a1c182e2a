"""The arithmetic of the benchmark: rows, turns and statistics. Nothing depends on time."""

import dataclasses
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stale_edge.benchmarking import compare_results, machine_line, parse_lengths, read_results, table_rows
from stale_edge.benchmarking import cpus as cpus_module
from stale_edge.benchmarking.benchmark import find_devices
from stale_edge.benchmarking.cpus import choose_cpus, cpus_near, require_idle
from stale_edge.benchmarking.jobs import calls_per_trial, is_stable, needs_refresh
from stale_edge.benchmarking.network_sizes import FULL_SIZE, TextTower, full_size, network_of_settings, read_network
from stale_edge.benchmarking.rates import Rates, plan_products
from stale_edge.benchmarking.rounds import Measurement, run_rounds
from stale_edge.benchmarking.row_plan import ON_REQUEST, SUPPORTED, RowPlan, plan_rows, turns
from stale_edge.benchmarking.statistics import median_interval, percentile, summarize
from stale_edge.benchmarking.synthetic import plausible_outputs, random_features
from stale_edge.benchmarking.table import (
    COLUMNS,
    format_megabytes,
    format_ratio,
    format_seconds,
    note_lines,
    throughput_table,
)
from stale_edge.benchmarking.target import network_target
from stale_edge.benchmarking.torch_rows.counts import detector_macs
from stale_edge.benchmarking.torch_rows.detectors import build_detector
from stale_edge.benchmarking.torch_rows.plain_export import plain_export
from stale_edge.benchmarking.torch_rows.thesis_reference import build_reference
from stale_edge.benchmarking.torch_rows.trained_network import describe, training_config
from stale_edge.config import (
    BenchConfig,
    DecodeConfig,
    PointsConfig,
    Precision,
    RelativeGrid,
    RunsConfig,
    from_dict,
    to_dict,
)
from stale_edge.decoding.policies import decode_outputs
from stale_edge.errors import ConfigError, StaleEdgeError
from stale_edge.machine import machine_card
from stale_edge.model.architectures import ARCHITECTURES, SMALL_CHANNELS
from stale_edge.version import installed_versions

RECORDS = Path(__file__).resolve().parent.parent / "bench" / "results"


def _silent(stage: str, done: int, total: int, note: str) -> None:
    del stage, done, total, note


@pytest.mark.parametrize(
    ("text", "lengths"),
    [
        ("100,200,1000", (100, 200, 1000)),
        ("200:1000:400", (200, 600, 1000)),  # the stop is hit, and belongs to it
        ("200:900:400", (200, 600)),
        ("50, 100:200:100", (50, 100, 200)),
        ("100,100:300:100", (100, 200, 300)),  # once each
        ("7", (7,)),
    ],
)
def test_lengths_are_read(text: str, lengths: tuple[int, ...]) -> None:
    assert parse_lengths(text) == lengths


@pytest.mark.parametrize("text", ["", "0", "-1", "1.5", "a", "100,", "200:100:50", "100:200", "100:200:0", "1:2:3:4"])
def test_bad_lengths_name_what_is_wrong(text: str) -> None:
    with pytest.raises(ConfigError, match="--lengths"):
        parse_lengths(text)


def test_statistics_by_hand() -> None:
    values = [3.0, 1.0, 2.0, 10.0]
    # ordered 1, 2, 3, 10; 90 % of the way from the first to the last is 2.7 steps: 3 + 0.7 * 7
    assert summarize(values) == pytest.approx({"median": 2.5, "p90": 7.9, "min": 1.0, "max": 10.0, "std": 4.0824829})
    assert summarize([2.0]) == {"median": 2.0, "p90": 2.0, "min": 2.0, "max": 2.0, "std": 0.0}


@pytest.mark.parametrize("percent", [0, 12.5, 50, 90, 100])
def test_percentile_is_numpys(percent: float) -> None:
    values = np.random.default_rng(0).standard_normal(37)
    assert percentile(list(values), percent) == pytest.approx(np.percentile(values, percent))


def test_percentile_refuses_nonsense() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile([], 50)
    with pytest.raises(ValueError, match=r"\[0, 100\]; got 101"):
        percentile([1.0], 101)


def test_median_interval_draws_whole_trials() -> None:
    # With two trials a resample holds the first twice, both, or the second twice: medians 1, 1.5 and 2.
    low, high = median_interval([[1.0, 1.0], [2.0, 2.0]])
    assert (low, high) == (1.0, 2.0)
    assert median_interval([[3.0], [3.0], [3.0]]) == (3.0, 3.0)


def test_warm_up_and_trial_rules() -> None:
    assert not is_stable([1.0, 1.0])  # three are needed
    assert is_stable([9.0, 1.0, 1.04, 0.96])  # the last three, each within 5 % of 1.0
    assert not is_stable([1.0, 1.0, 1.06])
    assert [calls_per_trial(s) for s in (10.0, 0.05, 0.02, 0.01, 1e-6, 0.0)] == [1, 1, 2, 5, 20, 20]
    assert needs_refresh(0.1)
    assert not needs_refresh(2.0)


def test_every_round_asks_every_row_once_in_a_new_order() -> None:
    rounds = turns(6, 8, seed=0)
    assert all(sorted(order) == list(range(6)) for order in rounds)
    assert len({tuple(order) for order in rounds}) > 4
    assert rounds == turns(6, 8, seed=0)
    assert rounds != turns(6, 8, seed=1)


def test_trials_are_interleaved() -> None:
    asked: list[str] = []

    class FakeWorker:
        def __init__(self, name: str) -> None:
            self.name = name

        def trial(self, calls: int, *, refresh: bool) -> list[float]:
            asked.append(self.name)
            return [1.0 if refresh else 2.0] * calls

    product = RowPlan("matrix-product", "cpu", "numpy", "fp32", 16)
    group = [
        Measurement(name, product, FakeWorker(name), calls=2, refresh=name != "c")  # type: ignore[arg-type]
        for name in "abc"
    ]
    run_rounds(group, 4, seed=3, progress=_silent, stage="")
    assert [set(asked[i : i + 3]) for i in range(0, 12, 3)] == [{"a", "b", "c"}] * 4
    assert len(asked) == 12
    assert [process.trials for process in group] == [[[1.0, 1.0]] * 4] * 2 + [[[2.0, 2.0]] * 4]


def _names(config: BenchConfig, **kwargs: Any) -> list[str]:
    return [f"{row.variant} {row.runtime} {row.precision}" for row in plan_rows(config, "cpu", 100, **kwargs)]


def test_default_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stale_edge.benchmarking.row_plan.is_installed", lambda runtime: runtime != "openvino")
    assert _names(BenchConfig()) == [
        "reference pytorch fp32",
        "as-trained pytorch fp32",
        "as-trained onnxruntime fp32",
        "detector pytorch fp32",
        "detector onnxruntime fp32",
        "detector onnxruntime int8",
        "detector torchscript fp32",
        "text pytorch fp32",
        "localizer onnxruntime fp32",
        "localizer onnxruntime int8",
        "postprocess core fp32",
    ]
    with pytest.raises(ConfigError, match="there is pytorch fp32, onnxruntime fp32"):
        _names(BenchConfig(runtimes=("openvino",)))
    assert all(set(ON_REQUEST[device]) <= set(SUPPORTED[device]) for device in SUPPORTED)


def test_rows_of_openvino_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stale_edge.benchmarking.row_plan.is_installed", lambda _: True)
    ways = ("fp32", "bf16", "int8-static", "int8-bf16")
    assert [f"detector openvino {p}" for p in ways] == _names(BenchConfig())[6:10]
    names = _names(BenchConfig(runtimes=("openvino",), variants=("localizer",)))
    assert names == [f"localizer openvino {p}" for p in ways]


def test_a_recommendation_tries_all_but_half_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stale_edge.benchmarking.row_plan.is_installed", lambda _: True)
    names = _names(BenchConfig(recommend=True, variants=("detector",)))
    assert names == [f"detector {runtime} {p}" for runtime, p in SUPPORTED["cpu"] if p != "fp16"]


def test_filters_choose_detectors_and_keep_the_reference() -> None:
    config = BenchConfig(runtimes=("torchscript",), precisions=("int8", "fp16"))
    assert _names(config) == [
        "reference pytorch fp32",
        "as-trained pytorch fp32",
        "as-trained onnxruntime fp32",
        "detector torchscript fp16",
        "detector torchscript int8",
        "text pytorch fp32",
        "localizer torchscript fp16",
        "localizer torchscript int8",
        "postprocess core fp32",
    ]
    only = BenchConfig(variants=("detector",), precisions=("fp32",))
    assert _names(only, available=[("onnxruntime", "fp32")]) == ["detector onnxruntime fp32"]


def test_impossible_filters_say_what_there_is() -> None:
    with pytest.raises(ConfigError, match="pytorch fp32, onnxruntime fp32"):
        _names(BenchConfig(runtimes=("pytorch",), precisions=("int8",)))
    with pytest.raises(ConfigError, match="there is onnxruntime fp32"):
        _names(BenchConfig(precisions=("int8",)), available=[("onnxruntime", "fp32")])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"runtimes": ["tflite"]}, "pytorch, onnxruntime, openvino, torchscript"),
        ({"precisions": ["fp8"]}, "fp32, fp16, bf16, int8, int8-static, int8-bf16"),
        ({"lengths": [0]}, "integers >= 1"),
        ({"lengths": [100, 100]}, "all differ"),
        ({"threads": 0}, "integer >= 1"),
        ({"repeats": 0}, "integer >= 1"),
        ({"peak_tmacs": -1.0}, "number > 0"),
        ({"variants": []}, "at least one"),
        ({"device": "tpu"}, "cpu, cuda, all"),
    ],
)
def test_settings_out_of_range(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_dict(BenchConfig, values)


def test_settings_survive_json() -> None:
    config = BenchConfig(lengths=(1, 2), runtimes=("onnxruntime",), peak_tmacs=2)
    assert from_dict(BenchConfig, json.loads(json.dumps(to_dict(config)))) == config


def test_cuda_asked_for_and_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(StaleEdgeError, match="--device cuda: PyTorch sees no CUDA device; use --device cpu"):
        find_devices("cuda")
    assert find_devices("all") == ("cpu",)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert find_devices("all") == ("cpu", "cuda")
    assert find_devices("cuda") == ("cuda",)


def test_a_run_for_the_record_begins_only_on_an_idle_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stale_edge.benchmarking.cpus.load_average", lambda: [0.71, 0.1, 0.1])
    with pytest.raises(StaleEdgeError, match=r"--record: other programs are at work: .* 0.71; it must be at most 0.7"):
        require_idle()
    for idle in ([0.7, 9.0, 9.0], None):
        monkeypatch.setattr("stale_edge.benchmarking.cpus.load_average", lambda idle=idle: idle)
        require_idle()


def test_rows_on_cuda() -> None:
    rows = plan_rows(BenchConfig(), "cuda", 100)
    assert [f"{row.variant} {row.runtime} {row.precision}" for row in rows] == [
        "reference pytorch fp32",
        "as-trained pytorch fp32",
        "detector pytorch fp32",
        "detector torchscript fp32",
        "detector torchscript fp16",
        "text pytorch fp32",
    ]


def test_cuda_time_is_between_events_with_all_else_done(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    from stale_edge.benchmarking.torch_rows.cuda import cuda_seconds

    happened: list[str] = []
    numbers = itertools.count()

    class FakeEvent:
        def __init__(self, *, enable_timing: bool) -> None:
            assert enable_timing
            self.number = next(numbers)

        def record(self) -> None:
            happened.append(f"event {self.number}")

        def elapsed_time(self, other: "FakeEvent") -> float:
            assert (self.number, other.number) == (0, 1)
            return 250.0  # milliseconds

    monkeypatch.setattr(torch.cuda, "Event", FakeEvent)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: happened.append("synchronize"))
    assert cuda_seconds(lambda: happened.append("call")) == 0.25
    assert happened == ["synchronize", "event 0", "call", "event 1", "synchronize"]


def test_machine_card_says_what_matters() -> None:
    card = machine_card()
    assert set(card) == {
        "cpu", "architecture", "cores", "logical_cpus", "allowed_cpus", "instruction_sets", "virtual", "caches_bytes",
        "memory_bytes", "governor", "max_mhz", "os", "python", "packages",
    }  # fmt: skip
    assert card["packages"]["numpy"] == np.__version__
    assert len(card["allowed_cpus"]) >= 1
    json.dumps(card, allow_nan=False)
    assert installed_versions(("numpy", "no-such-package")) == {"numpy": np.__version__}


def test_cpus_are_chosen_on_cores_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    siblings = {0: "0,2", 1: "1,3", 2: "0,2", 3: "1,3"}  # two cores of two threads each
    for cpu, text in siblings.items():
        topology = tmp_path / "cpu" / f"cpu{cpu}" / "topology"
        topology.mkdir(parents=True)
        (topology / "thread_siblings_list").write_text(f"{text}\n")
    for node, text in enumerate(("0,2", "1,3-9")):
        (tmp_path / "node" / f"node{node}").mkdir(parents=True)
        (tmp_path / "node" / f"node{node}" / "cpulist").write_text(f"{text}\n")
    monkeypatch.setattr(cpus_module, "SYSTEM_CPUS", tmp_path / "cpu")
    monkeypatch.setattr(cpus_module, "_NODES", tmp_path / "node")
    monkeypatch.setattr(cpus_module, "allowed_cpus", lambda: [0, 1, 2, 3])
    monkeypatch.setattr(cpus_module.sys, "platform", "linux")
    assert choose_cpus(1) == [3]  # not 0: it serves interrupts
    assert choose_cpus(2) == [2, 3]  # not 1 and 3: they are one core
    assert choose_cpus(4) == [0, 1, 2, 3]
    assert choose_cpus(5) is None
    assert cpus_near([3]) == [1, 3]  # of its memory node, and allowed
    monkeypatch.setattr(cpus_module.sys, "platform", "darwin")
    assert choose_cpus(1) is None


def test_prompts_are_as_long_as_the_public_codes() -> None:
    tower = TextTower()
    lengths = tower.prompt_lengths(200)
    assert (len(lengths), max(lengths), sum(lengths)) == (200, 12, 1685)
    assert max(tower.prompt_lengths(1)) == tower.n_tokens  # however few, they are padded to the longest
    assert len(tower.prompt_lengths(450)) == 450
    assert FULL_SIZE.at(300).model.temporal_scale == 300


def test_counted_prompts_are_those_of_activitynet(shared_data: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    tokenizer = tokenizers.Tokenizer.from_file(str(shared_data / "clip" / "tokenizer.json"))
    names = (shared_data / "activitynet" / "action_name.csv").read_text(encoding="utf-8").split("\n")[1:]
    counted = [len(tokenizer.encode(f"a video of action {name.strip().lower()}").ids) for name in names if name.strip()]
    assert sorted(counted) == sorted(TextTower().prompt_lengths(200))


def test_post_processing_input_looks_like_a_trained_detectors() -> None:
    outputs = plausible_outputs(DecodeConfig(), n_classes=7, length=120, seed=0)
    logits, masks = outputs["class_logits"], outputs["masks"]
    assert (logits.shape, masks.shape, logits.dtype, masks.dtype) == ((8, 120), (120, 120), np.float32, np.float32)
    assert masks.min() >= 0
    assert masks.max() <= 1
    decided = logits.argmax(axis=0)  # most snippets decide clearly, some for background, some for a class
    assert 0 < np.count_nonzero(decided == 7) < 120
    foreground = decided < 7
    assert masks[foreground].max(axis=1).min() > 0.5
    assert masks[~foreground].max() < 0.06


def test_post_processing_refuses_a_policy_it_has_no_outputs_for() -> None:
    unknown = dataclasses.replace(DecodeConfig())
    object.__setattr__(unknown, "policy", "guess")
    with pytest.raises(ConfigError, match=r"decode policies paper, release, .*; got 'guess': leave the variant"):
        plausible_outputs(unknown, n_classes=7, length=120, seed=0)


@pytest.mark.parametrize("settings", [DecodeConfig(), PointsConfig(), RunsConfig()])
def test_a_policy_finds_the_actions_of_its_made_up_outputs(settings: Any) -> None:
    outputs = plausible_outputs(settings, n_classes=7, length=120, seed=0)
    names = [f"class {k}" for k in range(7)]
    found = decode_outputs(outputs, class_names=names, grid=RelativeGrid(60.0), config=settings)
    best = {round(one.start_s / 20): one for one in reversed(found)}
    assert len(best) >= 3  # an action in each 40 snippets, that is 20 s
    assert all(4 < one.end_s - one.start_s < 17 for one in found[:3])  # 10 to 30 snippets of 0.5 s


def test_utilization_is_against_the_fastest_engine() -> None:
    def product(engine: str, precision: Precision, *trials: list[float]) -> Measurement:
        plan = RowPlan("matrix-product", "cpu", engine, precision, 1024)
        return Measurement(plan.name, plan, trials=list(trials))

    products = [product("torch", "fp32", [2.0]), product("numpy", "fp32", [0.5, 0.5], [0.5])]
    rates = Rates(products, peak_tmacs=None)
    assert rates("cpu", "fp32") == 1024**3 / 0.5
    assert rates("cpu", "int8") == rates("cpu", "fp32")  # no int8 was measured, so fp32 counts
    with_int8 = Rates([*products, product("onnxruntime", "int8", [0.5])], peak_tmacs=None)
    assert with_int8.to_json([("cpu", "int8-static")])["held_against"]["cpu int8-static"]["precision"] == "int8"
    described = rates.to_json([("cpu", "int8")])
    assert described["held_against"]["cpu int8"]["precision"] == "fp32"
    assert Rates([], peak_tmacs=8.2)("cuda", "fp16") == pytest.approx(8.2e12)


def test_products_cover_the_rows() -> None:
    products = plan_products([("cpu", "int8"), ("cpu", "fp16")])
    assert {(product.device, product.precision) for product in products} >= {("cpu", "fp32"), ("cpu", "int8")}
    assert not any(product.precision == "fp16" for product in products)  # no CPU engine here multiplies in fp16


# ---- compare, table -------------------------------------------------------------------------------------------------


def _results(
    rows: list[tuple[str, int, float, float | None]], *, cpu: str = "A", spread: float = 0.01
) -> dict[str, Any]:
    """Results of (variant, length, median, reference's median) with intervals of +- `spread`."""
    return {
        "schema": "stale-edge-bench/1",
        "machine": {"cpu": cpu, "allowed_cpus": [0, 1], "gpu": None, "load_average_before": [0.1, 0.1, 0.1]},
        "protocol": {
            "threads": 1,
            "rounds": 5,
            "pinned_to_cpus": [1],
            "median_interval_seconds": [[median * (1 - spread), median * (1 + spread)] for _, _, median, _ in rows],
        },
        "rows": [
            {
                "variant": variant,
                "device": "cpu",
                "runtime": "onnxruntime",
                "precision": "fp32",
                "threads": 1,
                "length": length,
                "repeats": 5,
                "seconds": {"median": median, "p90": median, "min": median * 0.9, "max": median * 1.1, "std": 0.0},
                "peak_rss_bytes": 10**8,
                "model_bytes": None,
                "gmacs": 1.5,
                "gmacs_per_second": 1.5 / median,
                "utilization": 0.123,
                "speedup": None if reference is None else reference / median,
            }
            for variant, length, median, reference in rows
        ],
    }


def _trends(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    return [change.trend for change in compare_results(old, new).changes]


def test_compare_needs_both_seconds_and_speedup_to_agree() -> None:
    old = _results([("reference", 100, 1.0, 1.0), ("detector", 100, 0.10, 1.0)])
    regression = _results([("reference", 100, 1.0, 1.0), ("detector", 100, 0.12, 1.0)])
    busy_day = _results([("reference", 100, 1.3, 1.3), ("detector", 100, 0.13, 1.3)])
    better_torch = _results([("reference", 100, 0.7, 0.7), ("detector", 100, 0.10, 0.7)])
    assert _trends(old, regression) == ["same", "slower"]
    assert _trends(regression, old) == ["same", "faster"]
    assert _trends(old, busy_day) == ["slower", "same"]  # the reference has nothing but its seconds
    assert _trends(old, better_torch) == ["faster", "same"]


def test_compare_ignores_noise() -> None:
    old, new = ([("detector", 100, median, None)] for median in (0.10, 0.12))
    assert _trends(_results(old), _results(new)) == ["slower"]
    assert _trends(_results(old, spread=0.15), _results(new, spread=0.15)) == ["same"]  # the intervals meet
    assert _trends(_results(old), _results([("detector", 100, 0.104, None)])) == ["same"]  # under 5 %


def test_compare_across_machines_uses_the_reference_alone() -> None:
    old = _results([("detector", 100, 0.10, 1.0), ("text", 100, 1.0, None)], cpu="A")
    new = _results([("detector", 100, 0.30, 2.0), ("text", 100, 9.0, None)], cpu="B")
    comparison = compare_results(old, new)
    assert not comparison.same_machine
    assert [change.trend for change in comparison.changes] == ["slower", "same"]
    assert "another machine" in comparison.to_text()


def test_compare_lists_rows_of_one_run_and_says_what_got_slower() -> None:
    old = _results([("detector", 100, 0.10, 1.0), ("detector", 200, 0.2, 1.0)])
    new = _results([("detector", 100, 0.15, 1.0), ("detector", 300, 0.3, 1.0)])
    comparison = compare_results(old, new)
    assert comparison.only_old == ("detector (onnxruntime fp32, cpu, 1 thread, T = 200)",)
    assert comparison.only_new == ("detector (onnxruntime fp32, cpu, 1 thread, T = 300)",)
    text = comparison.to_text()
    assert "T = 100): slower, 100 -> 150 ms (1.50 x), speedup 10 -> 6.67" in text
    assert "1 of 1 rows got slower" in text
    assert comparison.to_json()["changes"][0]["ratio"] == pytest.approx(1.5)
    with pytest.raises(StaleEdgeError, match="no row in common"):
        compare_results(old, _results([("text", 7, 1.0, None)]))


def test_earlier_results_are_checked(tmp_path: Path) -> None:
    path = tmp_path / "old.json"
    with pytest.raises(StaleEdgeError, match=r"old\.json: not a readable"):
        read_results(path)
    path.write_text('{"schema": "other"}')
    with pytest.raises(StaleEdgeError, match="\"schema\" is 'other'"):
        read_results(path)
    path.write_text(json.dumps(_results([("text", 1, 1.0, None)])))
    assert read_results(path)["rows"][0]["variant"] == "text"


@pytest.mark.parametrize("path", sorted(RECORDS.glob("amd-epyc-cpu*.json")), ids=lambda path: path.stem)
def test_records_of_earlier_versions_can_be_compared_and_shown(path: Path) -> None:
    record = read_results(path)
    changes = compare_results(record, record).changes
    assert (len(changes), {change.trend for change in changes}) == (len(record["rows"]), {"same"})
    assert len(table_rows(record)) >= len(changes)
    assert all("compiled in" in line for line in note_lines(record))
    if "throughput" in record:
        columns, rows = throughput_table(record)
        assert {len(row) for row in rows} == {len(columns)}


def test_table_shows_what_is_known() -> None:
    results = _results([("detector", 100, 0.0123456, 1.0), ("postprocess", 100, 0.00012, None)])
    first, second = table_rows(results)
    assert len(first) == len(COLUMNS)
    assert first == ["detector onnxruntime fp32", "100", "12.3 ms", "-", "81 x", "12%", "-"]
    assert second[4] == "-"
    assert [format_seconds(s) for s in (2.345, 0.5, 1e-3, 4.2e-5)] == ["2.35 s", "500 ms", "1 ms", "42 µs"]
    assert [format_megabytes(n) for n in (None, 6_540_000, 914_400_000)] == ["-", "6.5", "914"]
    assert [format_ratio(ratio) for ratio in (None, 1.0, 78.44, 999.0, 21_742.0)] == [
        "-",
        "1 x",
        "78.4 x",
        "999 x",
        "21.7k x",
    ]
    assert machine_line(results) == "A, 1 thread on CPU 1, load 0.10 before, 5 rounds"


def test_latency_curve_is_a_picture() -> None:
    from stale_edge.report.figures import latency_curve

    results = _results([("reference", 100, 1.0, 1.0), ("detector", 100, 0.1, 1.0), ("detector", 900, 0.3, None)])
    results["rows"][0] |= {"gmacs": None, "peak_rss_bytes": None}
    assert latency_curve(results).startswith(b"\x89PNG\r\n")
    with pytest.raises(ValueError, match="at least one row"):
        latency_curve(results | {"rows": []})


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_architecture_has_a_full_size_that_survives_json(architecture: str) -> None:
    network = full_size(architecture)
    assert network.model.architecture == architecture
    assert network.has_reference
    assert (network.text is None) == (ARCHITECTURES[architecture].space == "rows")
    assert read_network(json.loads(json.dumps(to_dict(network)))) == network
    assert network.at(300).model.length_rule.fixed in (None, 300)


def test_published_sizes_are_named() -> None:
    assert full_size("release") == FULL_SIZE
    assert network_target().title == "a full-size release network with random weights and 200 classes"
    anet = full_size("actionformer", "activitynet-i3d")
    assert (anet.n_classes, full_size("actionformer").n_classes) == (1, 20)
    assert network_target(anet).title == "an activitynet-i3d actionformer network with random weights and 1 classes"
    with pytest.raises(ConfigError, match=r"must be one of thumos-i3d, .*; got 'small'"):
        full_size("actionformer", "small")
    with pytest.raises(ConfigError, match=r"model.architecture must be one of paper, release, .*; got 'dense'"):
        full_size("dense")


@pytest.mark.parametrize("architecture", [name for name, row in ARCHITECTURES.items() if row.small])
def test_the_public_form_gives_the_same_outputs_and_is_what_the_reference_runs(architecture: str) -> None:
    row = ARCHITECTURES[architecture]
    network = network_of_settings(row.small, 3, None).at(50)
    model = build_detector(network, seed=0)
    features = torch.from_numpy(random_features(50, SMALL_CHANNELS, seed=0))[None]
    classes = torch.from_numpy(random_features(3, network.model.embed_dim, seed=1))
    with torch.no_grad():
        expected, found = model(features, classes), row.public_form(model)(features, classes)
        assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(found, expected, strict=True))
        if row.space == "rows":
            forward, _ = build_reference(network, seed=0)
            assert torch.allclose(forward(features)[0], expected[0], atol=1e-5)
            assert detector_macs(network, 50, folded=False) > 2 * detector_macs(network, 50)  # padded to 256


def test_decisions_are_compared_on_the_architecture_that_is_timed() -> None:
    for architecture, row in ARCHITECTURES.items():
        if row.small is None:
            with pytest.raises(ConfigError, match=f"none of the architecture {architecture}: train and export one"):
                training_config(architecture, seed=0)
            continue
        assert f"with 3 {architecture} networks" in describe(architecture)
        assert training_config(architecture, seed=0).model.architecture == architecture


@pytest.mark.parametrize("architecture", [name for name, row in ARCHITECTURES.items() if row.small])
def test_the_network_as_trained_is_written_by_the_exporter_alone(architecture: str, tmp_path: Path) -> None:
    network = network_of_settings(ARCHITECTURES[architecture].small, 3, None).at(50)
    features = torch.from_numpy(random_features(50, SMALL_CHANNELS, seed=0))[None]
    classes = torch.from_numpy(random_features(3, network.model.embed_dim, seed=1))
    with torch.inference_mode():
        plain_export(build_detector(network, seed=0), (features, classes), tmp_path / "plain.onnx")
    assert (tmp_path / "plain.onnx").stat().st_size > 1_000
