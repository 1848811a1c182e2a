"""The model repository for Triton: its configuration against the server's own schema, and what its models decide."""

import http.server
import importlib.util
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import files
from pathlib import Path
from types import ModuleType
from typing import Any

import exporting_case as case
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from google.protobuf import json_format, text_format

from stale_edge import load_bundle
from stale_edge.benchmarking.synthetic import plausible_outputs
from stale_edge.bundle import FeatureContract, TensorSpec, add_classes, graph_metadata, verify_bundle
from stale_edge.config import DecodeConfig, ModelConfig, PointsConfig, RelativeGrid, RunsConfig, to_dict
from stale_edge.decoding.policies import POLICIES, decode_outputs
from stale_edge.errors import BundleError, ParityError
from stale_edge.exporting import export_checkpoint, triton
from stale_edge.exporting.triton import config_text, served_inputs, served_outputs
from stale_edge.model import build_model


@pytest.fixture(scope="module")
def schema() -> ModuleType:
    """Load Triton's compiled model_config.proto without the client around it, which needs grpc."""
    (path,) = [f for f in files("tritonclient") or () if str(f) == "tritonclient/grpc/model_config_pb2.py"]
    spec = importlib.util.spec_from_file_location("model_config_pb2", path.locate())
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Export for Triton alone; the ONNX detectors come along."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("triton")
    checkpoint = case.save_checkpoint(root / "checkpoint", build_model(case.PAPER).eval())
    report = export_checkpoint(checkpoint, root / "bundle", formats=["triton"], precisions=["fp32", "fp16"])
    assert [model.entry.path for model in report.served] == [
        "triton/stale-edge-fp32/1/model.onnx",
        "triton/stale-edge-fp16/1/model.onnx",
    ]
    assert all(model.parity.matched_detections >= 0.95 for model in report.served)
    assert "triton/stale-edge-fp32/1/model.onnx: 0." in report.summary()
    return root / "bundle"


def promised(config: ModelConfig, *, n_classes: int) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Inputs and outputs of a served graph."""
    outputs = build_model(config).output_specs()
    decoded = ("class_logits", "masks")
    return served_inputs(config), served_outputs(outputs, decoded=decoded, n_classes=n_classes)


def parsed(schema: ModuleType, text: str):
    return text_format.Parse(text, schema.ModelConfig())


def test_the_bundle_holds_a_repository_as_the_server_wants_it(bundle: Path) -> None:
    manifest = verify_bundle(bundle).manifest
    paths = {entry.path for entry in manifest.of_role("model_repository")}
    assert paths == {
        f"triton/stale-edge-{precision}/{name}"
        for precision in ("fp32", "fp16")
        for name in ("config.pbtxt", "1/model.onnx")
    }
    assert {path.relative_to(bundle).as_posix() for path in bundle.glob("triton/**/*") if path.is_file()} == paths
    assert [entry.path for entry in manifest.detectors] == ["detector-fp32.onnx", "detector-fp16.onnx"]
    assert set(manifest.parity["triton"]) == {path for path in paths if path.endswith(".onnx")}


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_configuration_and_graph_agree(bundle: Path, schema: ModuleType, precision: str) -> None:
    folder = bundle / "triton" / f"stale-edge-{precision}"
    config = parsed(schema, (folder / "config.pbtxt").read_text(encoding="utf-8"))
    assert (config.name, config.platform) == (folder.name, "onnxruntime_onnx")
    assert config.HasField("dynamic_batching")
    assert config.max_batch_size > 1
    graph = onnx.load(folder / "1" / "model.onnx").graph
    for promised, values in ((config.input, graph.input), (config.output, graph.output)):
        assert [tensor.name for tensor in promised] == [value.name for value in values]
        for tensor, value in zip(promised, values, strict=True):
            batch, *sizes = [size.dim_value or -1 for size in value.type.tensor_type.shape.dim]
            assert (batch, sizes) == (-1, list(tensor.dims))  # the server adds the batch axis itself
            assert (tensor.data_type, value.type.tensor_type.elem_type) == (schema.TYPE_FP32, onnx.TensorProto.FLOAT)
    metadata = {entry.key: entry.value for entry in onnx.load(bundle / "detector-fp32.onnx").metadata_props}
    assert {key: value.string_value for key, value in config.parameters.items()} == metadata


def test_a_batch_gives_what_single_requests_give(bundle: Path) -> None:
    def session(path: str) -> onnxruntime.InferenceSession:
        return onnxruntime.InferenceSession(str(bundle / path), providers=["CPUExecutionProvider"])

    served, detector = session("triton/stale-edge-fp32/1/model.onnx"), session("detector-fp32.onnx")
    features = np.random.default_rng(0).standard_normal((3, case.LENGTH, case.CHANNELS)).astype(np.float32)
    logits, masks = served.run(["class_logits", "masks"], {"features": features})
    for i in range(3):
        feeds = {"features": features[i : i + 1], "class_embeddings": case.bank().embeddings}
        for got, wanted in zip((logits, masks), detector.run(["class_logits", "masks"], feeds), strict=True):
            np.testing.assert_allclose(got[i], wanted[0], atol=1e-4)


def test_texts_of_any_kind_survive(schema: ModuleType) -> None:
    text = 'quotes " and \\ backslash, line\nbreak, 跳高, Ćwiczenia, \x00'
    inputs, outputs = promised(case.RELEASE, n_classes=7)
    config = config_text("m", inputs=inputs, outputs=outputs, metadata={"names": text})
    message = parsed(schema, config)
    assert message.parameters["names"].string_value == text
    assert [list(tensor.dims) for tensor in message.output] == [[8, 14], [14, 14]]
    assert [list(tensor.dims) for tensor in message.input] == [[14, 16]]
    with pytest.raises(text_format.ParseError):
        parsed(schema, config.replace("max_batch_size", "max_batch"))


def test_the_paper_architecture_leaves_the_length_open() -> None:
    model = ModelConfig(feedforward_dim=8, localizer_dim=8)
    inputs, outputs = promised(model, n_classes=4)
    assert [spec.shape for spec in inputs] == [("B", "T", 512)]
    assert [spec.shape for spec in outputs] == [("B", 5, "T"), ("B", "T", "T")]


def test_classes_inside_a_graph_are_not_edited(bundle: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(bundle, tmp_path / "bundle")
    with pytest.raises(BundleError, match=r"have the classes inside.*export again with --classes"):
        add_classes(copy, case.ClassBank(("fly",), np.ones((1, case.CHANNELS), np.float32), "toy"))
    verify_bundle(copy)


def test_a_served_model_that_decides_differently_writes_nothing(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def one_class(*args: object, bank: case.ClassBank, **kwargs: object) -> onnx.ModelProto:
        wrong = case.ClassBank(bank.names, bank.embeddings[::-1], bank.fingerprint)
        return triton_graph(*args, bank=wrong, **kwargs)

    triton_graph = triton.served_graph
    monkeypatch.setattr(triton, "served_graph", one_class)
    monkeypatch.setattr(
        "stale_edge.exporting.detector_exporter.trace_onnx", lambda _: onnx.load(bundle / "detector-fp32.onnx")
    )
    with pytest.raises(
        ParityError,
        match=r"1 of 1 artifacts decide differently.*nothing was written:\n  triton/stale-edge-fp32/1/model.onnx",
    ):
        export_checkpoint(bundle.parent / "checkpoint", tmp_path / "bundle", formats=["triton"], precisions=["fp32"])
    assert list(tmp_path.iterdir()) == []


# --- the client, against a server that speaks the protocol


class _Server(http.server.BaseHTTPRequestHandler):
    """Two paths of the KServe v2 protocol as Triton serves them, binary tensors behind a JSON header."""

    repository: Path
    config: dict[str, Any]

    def run(self, model: str, names: list[str], features: np.ndarray) -> list[np.ndarray]:
        session = onnxruntime.InferenceSession(
            str(self.repository / model / "1" / "model.onnx"), providers=["CPUExecutionProvider"]
        )
        return session.run(names, {"features": features})

    def do_GET(self) -> None:
        self._answer(json.dumps(self.config).encode())

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        length = int(self.headers["Inference-Header-Content-Length"])
        header = json.loads(body[:length])
        (given,) = header["inputs"]
        assert given["parameters"]["binary_data_size"] == len(body) - length
        features = np.frombuffer(body[length:], np.float32).reshape(given["shape"])
        model = self.path.split("/")[3]
        names = [output["name"] for output in header["outputs"]][::-1]  # in an order of the server's own
        tensors = self.run(model, names, features)
        outputs = [
            {"name": name, "datatype": "FP32", "shape": array.shape, "parameters": {"binary_data_size": array.nbytes}}
            for name, array in zip(names, tensors, strict=True)
        ]
        head = json.dumps({"model_name": model, "outputs": outputs}).encode()
        self._answer(head + b"".join(array.tobytes() for array in tensors), len(head))

    def _answer(self, content: bytes, header: int | None = None) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        if header is not None:
            self.send_header("Inference-Header-Content-Length", str(header))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server(bundle: Path, schema: ModuleType) -> Iterator[str]:
    text = (bundle / "triton" / "stale-edge-fp32" / "config.pbtxt").read_text(encoding="utf-8")
    config = json_format.MessageToDict(parsed(schema, text), preserving_proto_field_name=True)
    handler = type("Handler", (_Server,), {"repository": bundle / "triton", "config": config})
    with running(handler) as url:
        yield url


@contextmanager
def running(handler: type[_Server]) -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def client(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = Path(__file__).resolve().parent.parent / "export" / "triton" / "localize.py"
    return subprocess.run([sys.executable, str(program), *arguments], capture_output=True, text=True, check=False)


def test_the_client_finds_what_the_bundle_finds(bundle: Path, server: str, tmp_path: Path) -> None:
    features = np.random.default_rng(3).standard_normal((50, case.CHANNELS)).astype(np.float32)
    np.save(tmp_path / "video.npy", features)
    result = client(server, str(tmp_path / "video.npy"), "--duration", "61.5")
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)["results"]["video"]
    wanted = load_bundle(bundle).detect(features, duration_s=61.5)
    assert wanted
    assert [row["label"] for row in found] == [detection.label for detection in wanted]
    segments = [[detection.start_s, detection.end_s] for detection in wanted]
    np.testing.assert_allclose([row["segment"] for row in found], segments, atol=1e-6)
    np.testing.assert_allclose([row["score"] for row in found], [d.score for d in wanted], atol=1e-5)


@pytest.mark.parametrize(
    ("features", "duration", "said"),
    [
        (np.ones((5, case.CHANNELS + 1), np.float32), "10", "features must have C = 16 channels"),
        (np.full((5, case.CHANNELS), np.nan, np.float32), "10", "features must be finite"),
        (np.ones((5, case.CHANNELS), np.float32), "-1", "the duration must be a finite number of seconds > 0"),
    ],
)
def test_the_client_refuses_in_one_line(
    server: str, tmp_path: Path, features: np.ndarray, duration: str, said: str
) -> None:
    np.save(tmp_path / "video.npy", features)
    result = client(server, str(tmp_path / "video.npy"), "--duration", duration)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith(f"localize: {said}")
    assert result.stderr.count("\n") == 1


class _FixedOutputs(_Server):
    """Give the same outputs to every video."""

    outputs: dict[str, np.ndarray]

    def run(self, model: str, names: list[str], features: np.ndarray) -> list[np.ndarray]:
        del model, features
        return [self.outputs[name][None] for name in names]


def served(schema: ModuleType, decode: dict[str, Any], outputs: dict[str, np.ndarray], names: list[str]) -> Any:
    contract = FeatureContract("any", 4, None, None, None, "none")
    metadata = graph_metadata(
        architecture="any", feature_contract=contract, decode=DecodeConfig(), class_names=names
    ) | {"stale_edge.decode": json.dumps(decode)}
    specs = [TensorSpec(name, "float32", ("B", *array.shape)) for name, array in outputs.items()]
    inputs = [TensorSpec("features", "float32", ("B", "T", 4))]
    text = config_text("m", inputs=inputs, outputs=specs, metadata=metadata)
    config = json_format.MessageToDict(parsed(schema, text), preserving_proto_field_name=True)
    return running(type("Handler", (_FixedOutputs,), {"config": config, "outputs": outputs}))


@pytest.mark.parametrize(
    "settings", [DecodeConfig(policy="paper"), DecodeConfig(policy="release"), PointsConfig(), RunsConfig()],
    ids=lambda settings: settings.policy,
)  # fmt: skip
def test_the_client_decodes_every_policy(schema: ModuleType, tmp_path: Path, settings: Any) -> None:
    names, length = ["run", "jump"], 120
    outputs = plausible_outputs(settings, n_classes=2, length=length, seed=0)
    np.save(tmp_path / "video.npy", np.ones((length, 4), np.float32))
    with served(schema, to_dict(settings), outputs, names) as url:
        result = client(url, str(tmp_path / "video.npy"), "--duration", "60")
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)["results"]["video"]
    wanted = decode_outputs(outputs, class_names=names, grid=RelativeGrid(60.0), config=settings)
    assert [(row["label"], row["segment"]) for row in found] == [(w.label, [w.start_s, w.end_s]) for w in wanted]
    assert wanted


def test_the_client_lists_what_it_decodes_when_it_refuses(schema: ModuleType, tmp_path: Path) -> None:
    np.save(tmp_path / "video.npy", np.ones((5, 4), np.float32))
    outputs = {"class_logits": np.zeros((3, 5), np.float32)}
    for decode, said in (
        ({"policy": "guess"}, "decode.policy is 'guess'; this program decodes paper, release, "),
        (to_dict(PointsConfig()), "decode.policy points reads offsets, valid; "),
    ):
        with served(schema, decode, outputs, ["run", "jump"]) as url:
            result = client(url, str(tmp_path / "video.npy"), "--duration", "10")
        assert (result.returncode, result.stdout) == (1, "")
        assert result.stderr.startswith(f"localize: {said}")
        assert result.stderr.count("\n") == 1


def test_a_point_detector_is_served_with_open_axes(schema: ModuleType) -> None:
    outputs = (
        TensorSpec("class_logits", "float32", ("B", "P", "K")),
        TensorSpec("offsets", "float32", ("B", "P", 2)),
        TensorSpec("valid", "float32", ("B", "P")),
    )
    specs = served_outputs(outputs, decoded=POLICIES["points"].reads, n_classes=7)
    message = parsed(schema, config_text("m", inputs=[], outputs=specs, metadata={}))
    assert [list(tensor.dims) for tensor in message.output] == [[-1, 7], [-1, 2], [-1]]


def test_the_client_without_a_server_says_so(tmp_path: Path) -> None:
    result = client("http://127.0.0.1:9", str(tmp_path / "video.npy"), "--duration", "10")
    assert result.returncode == 1
    assert "Connection refused" in result.stderr
    assert result.stderr.count("\n") == 1
