"""Make what the programs in this folder are tested against: `golden.py OUT`, `golden.py --bench OUT`.

Tiny detectors of both architectures learn a toy task within seconds, seeded, and are exported through the parity gate.
Each architecture is bundled with both decode policies. Beside them lie features, the detections that the Python package
finds in them, inputs for programs that hold the decoding core alone, and inputs that every program must refuse.
"""

import argparse
import dataclasses
import io
import json
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from golden_actionformer import actionformer_case
from golden_hand_made import hand_made_cases
from refusals import refusals

sys.path.pop(0)  # this folder, whose triton/ is not the package that torch looks for
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
import exporting_case as toy

from stale_edge import decode, load_bundle
from stale_edge.benchmarking.network_sizes import FULL_SIZE
from stale_edge.benchmarking.torch_rows.made_bundles import make_bundle
from stale_edge.bundle import ClassBank, localizer_inputs, localizer_outputs, read_bundle, write_bundle
from stale_edge.bundle.feature_contract import FORMAT_1
from stale_edge.bundle.manifest import CLASS_BANK_NAME, Manifest
from stale_edge.bundle.onnx_metadata import FEATURE_CONTRACT_KEY, FORMAT_KEY, copy_with_metadata, read_onnx_metadata
from stale_edge.bundle.writer import replaced
from stale_edge.config import Config, DecodeConfig, FeatureSpec, ModelConfig, TrainConfig, to_dict
from stale_edge.data import resample
from stale_edge.decoding.policies import decode_outputs
from stale_edge.exporting import export_checkpoint
from stale_edge.exporting.decoder.pipeline_graph import pipeline_graph
from stale_edge.exporting.graph.recording import save_onnx
from stale_edge.model import build_model
from stale_edge.model.checkpoint import write_checkpoint
from stale_edge.runtime import Localizer
from stale_edge.runtime.contract import time_grid
from stale_edge.segments import Detection

RUNTIMES = ("onnxruntime", "torchscript")
PRECISIONS = ("fp32", "int8")
POLICIES = {"paper": DecodeConfig(), "release": DecodeConfig(policy="release")}
NAMES = ('say "run"', "skok w dal – ćwiczenie", "游泳 🏊")
"""As long as UTF-8 gets, and with a quotation mark."""
BENCH_LENGTH = 200
PERTURBATION = 1e-4
"""Runtimes differ by at most 2e-5 in fp32; features that differ by this must not change a golden decision."""


def make_golden(out: Path) -> None:
    """Write everything but the bundle of full size into `out`, a folder that does not exist."""
    for name in ("bundles", "features", "core", "refusals", "checkpoints"):
        (out / name).mkdir(parents=True)
    cases = []
    for config in (toy.PAPER, toy.RELEASE):
        model = _trained(config)
        for policy, decode_config in POLICIES.items():
            name = f"{config.architecture}-network-{policy}-policy"
            _write_bundle(model, config, decode_config, out / "checkpoints" / name, out / "bundles" / name)
            cases += list(_cases(out, name))
    video = Path("features") / "paper-network-paper-policy-0.npy"
    cases += actionformer_case(out, NAMES, video, perturbation=PERTURBATION)
    shutil.rmtree(out / "checkpoints")
    _fix_length(out / "bundles" / "release-network-paper-policy", out / "bundles" / "fixed-length")
    _as_format_1(out / "bundles" / "paper-network-paper-policy", out / "bundles" / "format-1")
    for name, like in (
        ("fixed-length", "release-network-paper-policy-0"),
        ("format-1", "paper-network-paper-policy-0"),
    ):
        fitting = next(case for case in cases if case["name"] == like)
        cases.append({**fitting, "name": name, "bundle": f"bundles/{name}"})
    cases.append(
        _by_frames(out, "paper-network-paper-policy", next(case for case in cases if case["name"] == "format-1"))
    )
    bank = ClassBank(NAMES, toy.bank().embeddings, "toy")
    core = _core_cases(out, cases)
    cases += hand_made_cases(out, bank, video)
    _write_json(out / "cases.json", {"cases": cases, "core": core, "refusals": refusals(out)})


def make_bench(out: Path) -> None:
    """Write the bundle whose speed is measured, and features for it: full size, random weights."""
    out.mkdir(parents=True)
    network = FULL_SIZE.at(BENCH_LENGTH)
    artifacts = [(runtime, precision) for runtime in RUNTIMES for precision in PRECISIONS]
    make_bundle(out / "detectors", network, artifacts, seed=0, progress=lambda *_: None)
    _add_localizers(out / "detectors", out / "bundle", network.model)
    shutil.rmtree(out / "detectors")
    channels = FULL_SIZE.model.feature_channels
    features = np.random.default_rng(0).standard_normal((BENCH_LENGTH, channels)).astype(np.float32)
    np.save(out / "features.npy", features)
    said = f"release network, T = {BENCH_LENGTH}, C = {channels}, K = {network.n_classes}, random weights"
    _write_json(out / "bench.json", {"network": said, "duration_s": 400.0})


def _add_localizers(source: Path, target: Path, model: ModelConfig) -> None:
    """Copy a bundle and put pipelines beside its detectors; the parity check is left out, as decisions are random."""
    manifest = read_bundle(source).manifest
    entries = []
    with write_bundle(target) as writer:
        for entry in manifest.files:
            shutil.copy(source / entry.path, writer.folder / entry.path)
            if entry.role != "detector" or entry.runtime != "onnxruntime":
                continue
            name = f"localizer-{entry.precision}.onnx"
            graph = pipeline_graph(onnx.load(source / entry.path), model=model, decode=manifest.decode)
            metadata = read_onnx_metadata(source / entry.path)
            save_onnx(graph, writer.folder / name, metadata=metadata, graph_name="localizer")
            inputs = localizer_inputs(
                channels=model.feature_channels, embed_dim=model.embed_dim, length=model.temporal_scale
            )
            entries.append(
                writer.add_file(
                    name,
                    role="localizer",
                    runtime="onnxruntime",
                    precision=entry.precision,
                    inputs=inputs,
                    outputs=localizer_outputs(),
                )
            )
        writer.commit_manifest(dataclasses.replace(manifest, files=(*manifest.files, *entries)))


def _trained(config: ModelConfig) -> torch.nn.Module:
    """Train on the toy task of the exporting tests, resampled to T of the network where that is fixed.

    The targets of masks are a little off 0 and 1: a mask that saturates is 0 in one runtime and 1e-9 in another, and
    the release policy asks which masks are above 0.
    """
    length = config.temporal_scale if config.architecture == "release" else toy.LENGTH
    torch.manual_seed(0)
    model = build_model(config).train()
    embeddings = torch.from_numpy(toy.bank().embeddings.copy())
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for step in range(200):
        videos = toy.draw(8, seed=1000 + step)
        labels = F.interpolate(videos.labels[:, None].float(), size=length)[:, 0].long()
        inside = (labels < len(NAMES)).float()
        masks = 0.01 + 0.98 * inside[:, :, None] * inside[:, None, :]
        output = model(_resized(videos.features, length), embeddings)
        mask_loss = F.binary_cross_entropy(output.masks, masks, reduction="none").mean(dim=2)
        loss = (
            F.cross_entropy(output.class_logits, labels, label_smoothing=0.02)
            + mask_loss.mean()
            + F.binary_cross_entropy(output.foreground, inside)
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model.eval()


def _resized(features: torch.Tensor, length: int) -> torch.Tensor:
    return F.interpolate(features.transpose(1, 2), size=length, mode="linear").transpose(1, 2)


def _write_bundle(
    model: torch.nn.Module, config: ModelConfig, decode_config: DecodeConfig, checkpoint: Path, bundle: Path
) -> None:
    write_checkpoint(
        checkpoint,
        model=model,
        config=Config(model=config, train=TrainConfig(n_snippets=toy.LENGTH), decode=decode_config),
        feature_spec=FeatureSpec(encoder="toy", channels=toy.CHANNELS, fps=8.0, stride=16),
        class_bank=ClassBank(NAMES, toy.bank().embeddings, "toy"),
        text_encoder=None,
    )
    export_checkpoint(checkpoint, bundle, formats=("onnx", "torchscript"), precisions=PRECISIONS)


def _cases(out: Path, bundle: str) -> Iterator[dict[str, Any]]:
    """Find three videos for a bundle: of the T it resamples to, of another T, and in half precision."""
    folder = out / "bundles" / bundle
    localizers = {(r, p): load_bundle(folder, runtime=r, precision=p) for r in RUNTIMES for p in PRECISIONS}
    fp32 = localizers["onnxruntime", "fp32"]
    natural = fp32.feature_contract.resample_to
    for number, (length, dtype) in enumerate(((natural, np.float32), (47, np.float32), (natural, np.float16))):
        duration_s = 60.0 + 0.7 * number
        features = _decided_features(fp32, length, dtype, duration_s, first_seed=100 * number)
        name = f"{bundle}-{number}"
        np.save(out / "features" / f"{name}.npy", features)
        expected: dict[str, dict[str, Any]] = {runtime: {} for runtime in RUNTIMES}
        for (runtime, precision), localizer in localizers.items():
            expected[runtime][precision] = _rows(_whole_graph(localizer, features, duration_s))
        yield {
            "name": name,
            "bundle": f"bundles/{bundle}",
            "features": f"features/{name}.npy",
            "duration_s": duration_s,
            "expected": expected,
        }


def _whole_graph(localizer: Localizer, features: np.ndarray, duration_s: float) -> list[Detection]:
    """Detect as a program does that runs the file as it is: `Localizer.detect` leaves out what decoding does not read,
    so its masks may differ in the last bits, and exact is demanded.
    """
    target = localizer.feature_contract.resample_to
    values = features if target is None else resample(features, target)
    outputs = localizer.forward(values)
    return decode_outputs(
        outputs,
        class_names=localizer.class_bank.names,
        grid=time_grid(localizer.feature_contract, duration_s=duration_s),
        config=localizer.decode_config,
    )


def _decided_features(localizer: Localizer, length: int, dtype: type, duration_s: float, first_seed: int) -> np.ndarray:
    """Draw videos until one has the same detections when its features are a little different."""

    def decisions(features: np.ndarray) -> set[tuple[str, float, float]]:
        return {(d.label, d.start_s, d.end_s) for d in localizer.detect(features, duration_s=duration_s)}

    for seed in range(first_seed, first_seed + 100):
        several_actions = 0.6 * toy.draw(4, seed=seed).features.sum(dim=0, keepdim=True)
        features = _resized(several_actions, length)[0].contiguous().numpy().astype(dtype)
        noise = np.random.default_rng(seed).standard_normal((4, *features.shape)).astype(np.float32)
        wanted = decisions(features)
        if wanted and all(decisions(features + PERTURBATION * one) == wanted for one in noise):
            return features
    raise SystemExit(f"no video out of 100 is decided against noise of {PERTURBATION}: train the golden network longer")


def _core_cases(out: Path, cases: Sequence[dict[str, Any]]) -> list[str]:
    """Write what the decoding core alone needs: raw outputs and their detections, tiny and of full size."""
    written = []
    for case in cases:
        if not case["name"].endswith("-0"):
            continue
        localizer = load_bundle(out / case["bundle"])
        outputs = localizer.forward(np.load(out / case["features"]))
        written.append(
            _core_case(
                out,
                case["name"],
                (outputs["class_logits"], outputs["masks"]),
                localizer.class_bank.names,
                case["duration_s"],
                localizer.decode_config,
            )
        )
    names = tuple(f"class {k}" for k in range(200))
    large = _large_outputs(BENCH_LENGTH, len(names))
    written += [_core_case(out, f"large-{p}-policy", large, names, 400.0, config) for p, config in POLICIES.items()]
    return written


def _large_outputs(n_snippets: int, n_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw class logits and masks of a video in which ten actions happen."""
    rng = np.random.default_rng(0)
    logits = rng.standard_normal((n_classes + 1, n_snippets)).astype(np.float32)
    logits[-1] += 4
    masks = rng.uniform(0, 0.2, (n_snippets, n_snippets)).astype(np.float32)
    for start in rng.integers(0, n_snippets - 30, 10):
        inside = slice(start, start + rng.integers(5, 30))
        logits[rng.integers(n_classes), inside] += rng.uniform(4, 9)
        masks[inside, inside] = np.maximum(masks[inside, inside], rng.uniform(0.3, 1.0))
    return logits, masks


def _core_case(
    out: Path,
    name: str,
    outputs: tuple[np.ndarray, np.ndarray],
    class_names: Sequence[str],
    duration_s: float,
    config: DecodeConfig,
) -> str:
    class_logits, masks = outputs
    files = {"class_logits": f"{name}.class_logits.npy", "masks": f"{name}.masks.npy"}
    np.save(out / "core" / files["class_logits"], class_logits)
    np.save(out / "core" / files["masks"], masks)
    expected = _rows(decode(class_logits, masks, class_names=class_names, duration_s=duration_s, config=config))
    case = {"class_names": class_names, "duration_s": duration_s, "decode": to_dict(config), "expected": expected}
    _write_json(out / "core" / f"{name}.json", {**files, **case})
    return f"core/{name}.json"


def _fix_length(source: Path, target: Path) -> None:
    """Copy a bundle of a network with a fixed T, without the rule that resamples features to it."""
    manifest = read_bundle(source).manifest
    contract = dataclasses.replace(manifest.feature_contract, resampling="none", resample_to=None)
    _copy_with(source, target, dataclasses.replace(manifest, feature_contract=contract))


def _as_format_1(source: Path, target: Path) -> None:
    """Copy a bundle as the releases wrote it that knew format 1 alone: its class bank names no space."""
    manifest = dataclasses.replace(read_bundle(source).manifest, format=FORMAT_1)
    with np.load(source / CLASS_BANK_NAME) as arrays:
        bank = {name: arrays[name] for name in arrays.files if name != "space"}
    buffer = io.BytesIO()
    np.savez(buffer, **bank)
    _copy_with(source, target, manifest, {CLASS_BANK_NAME: buffer.getvalue()})


def _by_frames(out: Path, bundle: str, case: dict[str, Any]) -> dict[str, Any]:
    """Copy a bundle so that it says how frames became features, which places snippets; a pipeline cannot know it."""
    manifest = read_bundle(out / "bundles" / bundle).manifest
    contract = dataclasses.replace(manifest.feature_contract, resampling="none", resample_to=None, num_frames=20)
    _copy_with(
        out / "bundles" / bundle,
        out / "bundles" / "by-frames",
        dataclasses.replace(manifest, feature_contract=contract),
    )
    features = np.load(out / case["features"])
    expected: dict[str, dict[str, Any]] = {runtime: {} for runtime in RUNTIMES}
    for runtime in RUNTIMES:
        for precision in PRECISIONS:
            localizer = load_bundle(out / "bundles" / "by-frames", runtime=runtime, precision=precision)
            expected[runtime][precision] = _rows(_whole_graph(localizer, features, case["duration_s"]))
    return {**case, "name": "by-frames", "bundle": "bundles/by-frames", "graph": "detector", "expected": expected}


def _copy_with(source: Path, target: Path, manifest: Manifest, contents: Mapping[str, bytes] | None = None) -> None:
    """Copy a bundle with another manifest; graphs say the same as the manifest, `contents` replaces files by path."""
    contract = json.dumps(manifest.feature_contract.to_json(manifest.format), ensure_ascii=False)
    said = {FEATURE_CONTRACT_KEY: contract, FORMAT_KEY: manifest.format}
    with write_bundle(target) as writer:
        for entry in manifest.files:
            path = writer.folder / entry.path
            if contents and entry.path in contents:
                path.write_bytes(contents[entry.path])
            elif entry.path.endswith(".onnx"):
                copy_with_metadata(source / entry.path, path, said)
            else:
                shutil.copy(source / entry.path, path)
        files = replaced(manifest.files, {entry.path: writer.folder / entry.path for entry in manifest.files})
        writer.commit_manifest(dataclasses.replace(manifest, files=files))


def _rows(detections: Sequence[Detection]) -> list[dict[str, Any]]:
    return [{"label": d.label, "score": d.score, "segment": [d.start_s, d.end_s]} for d in detections]


def _write_json(path: Path, values: Any) -> None:
    path.write_text(json.dumps(values, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="a folder; replaced if it is there")
    parser.add_argument("--bench", action="store_true", help="write the bundle of full size instead")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    shutil.rmtree(arguments.out, ignore_errors=True)
    (make_bench if arguments.bench else make_golden)(arguments.out)


if __name__ == "__main__":
    main()
