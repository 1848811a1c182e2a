"""The calls that are timed, each built from a job inside the process that times it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from stale_edge.benchmarking.jobs import Job
from stale_edge.config import DecodeConfig
from stale_edge.errors import MissingExtraError, StaleEdgeError

if TYPE_CHECKING:
    from torch import Tensor, nn

SNIPPET_S = 0.5
"""Seconds a snippet lasts in the benchmark's videos; only scales the times of its detections."""


@dataclass(frozen=True)
class Workload:
    """One call, ready to be timed, and the bytes of what it runs: weights in PyTorch, the file of an artifact."""

    call: Callable[[], object]
    model_bytes: int | None
    about: Mapping[str, float] = field(default_factory=dict)
    """What else was learnt when it was built."""


def build_workload(job: Job) -> Workload:
    """Build what a job times.

    Raises:
        StaleEdgeError: an artifact or a package that the job needs is missing.
    """
    if job.variant == "matrix-product":
        return _matrix_product(job)
    if job.variant == "postprocess":
        return _postprocess(job)
    if job.scratch:
        return _compiled(job)
    if job.runtime == "pytorch":
        return _pytorch(job)
    return _bundle(job)


def random_features(length: int, channels: int, *, seed: int) -> NDArray[np.float32]:
    """Return features (T, C) float32 of length 10 a snippet, as CLIP's have."""
    features = np.random.default_rng(seed).standard_normal((length, channels), dtype=np.float32)
    return features * np.float32(10.0 / channels**0.5)


def plausible_outputs(n_classes: int, length: int, *, seed: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Make what a trained detector might say, for post-processing, whose time depends on it.

    One action for about every 40 snippets, of 10 to 30 snippets each: its snippets favour one class by 12 logits (that
    is, decide for it) over noise of deviation 1, and their masks are soft boxes around the action; all other snippets
    favour background and have a mask of noise below 0.05.

    Returns:
        class_logits: (K + 1, T) float32, background last.
        masks: (T, T) float32 in [0, 1].
    """
    generator = np.random.default_rng(seed)
    logits = generator.standard_normal((n_classes + 1, length), dtype=np.float32)
    masks = generator.random((length, length), dtype=np.float32) * np.float32(0.05)
    foreground = np.zeros(length, dtype=bool)
    snippets = np.arange(length, dtype=np.float32)
    for start in range(0, length, 40):
        first = start + int(generator.integers(0, 10))
        last = min(length, first + int(generator.integers(10, 31)))
        edge = (1 + np.tanh((np.minimum(snippets - first, last - 1 - snippets) + 1) / 2)) / 2  # (T,)
        for snippet in range(first, last):
            masks[snippet] = np.clip(edge * generator.uniform(0.6, 1.0) + masks[snippet], 0, 1)
        logits[int(generator.integers(n_classes)), first:last] += 12
        foreground[first:last] = True
    logits[n_classes, ~foreground] += 12
    return logits, masks


def _pytorch(job: Job) -> Workload:
    try:
        import torch
    except ImportError as error:
        raise MissingExtraError("PyTorch rows need torch: pip install stale-edge[train]") from error
    from stale_edge.benchmarking import reference

    torch.set_num_threads(job.threads)
    torch.set_num_interop_threads(job.threads)
    torch.set_grad_enabled(False)
    network = _required_network(job)
    forward: Callable[..., object]
    inputs: tuple[Tensor, ...]
    features = torch.from_numpy(random_features(job.length, network.model.feature_channels, seed=job.seed))[None]
    if job.variant == "reference":
        forward, n_bytes = reference.build_reference(network, seed=job.seed, device=job.device, precision=job.precision)
        inputs = (features,)
    elif job.variant == "text":
        if network.text is None:
            raise ValueError("the sizes of the text tower are not known")
        module, inputs = reference.build_text_tower(network.text, network.n_classes, seed=job.seed)
        module = module.to(job.device)
        forward, n_bytes = module, reference.weight_bytes(module)
    else:
        from stale_edge.model.folding import fold_detector

        detector = fold_detector(reference.build_detector(network, seed=job.seed)).to(job.device)
        classes = torch.from_numpy(random_features(network.n_classes, network.model.embed_dim, seed=job.seed + 1))
        if job.precision == "fp16":
            detector = _half(detector)
        forward, n_bytes, inputs = detector, reference.weight_bytes(detector), (features, classes)
    inputs = tuple(tensor.to(job.device) for tensor in inputs)

    def call() -> object:
        with torch.inference_mode():
            return forward(*inputs)

    return Workload(call, n_bytes)


def _compiled(job: Job) -> Workload:
    """Build a peer of PyTorch: the folded detector, without what decoding does not read, compiled or in bf16."""
    from stale_edge.benchmarking import compiled

    compiled.prepare_compilers(job)
    import torch

    from stale_edge.benchmarking import reference
    from stale_edge.model.folding import fold_detector

    torch.set_num_threads(job.threads)
    torch.set_num_interop_threads(job.threads)
    torch.set_grad_enabled(False)
    network, about = _required_network(job), dict[str, float]()
    features = torch.from_numpy(random_features(job.length, network.model.feature_channels, seed=job.seed))[None]
    classes = torch.from_numpy(random_features(network.n_classes, network.model.embed_dim, seed=job.seed + 1))
    if job.artifact and job.variant == "detector":
        forward, n_bytes = compiled.load_package(Path(job.artifact)), Path(job.artifact).stat().st_size
    else:
        trained = reference.build_detector(network, seed=job.seed)
        detector = fold_detector(trained)
        forward, about = compiled.build_peer(job, detector, trained, (features, classes))
        n_bytes = reference.weight_bytes(detector)

    def call() -> object:
        with torch.inference_mode():
            return forward(features, classes)

    return Workload(call, n_bytes, about)


def _half(detector: "nn.Module") -> "nn.Module":
    """Run a detector in fp16 between float32 inputs and outputs, as the exported fp16 artifacts do."""
    from torch import nn

    class Half(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.detector = detector.half()

        def forward(self, features: "Tensor", class_embeddings: "Tensor") -> "tuple[Tensor, ...]":
            return tuple(tensor.float() for tensor in self.detector(features.half(), class_embeddings.half()))

    return Half()


def _bundle(job: Job) -> Workload:
    """Run a bundle's artifact: the graph alone (`detector`), or from features to detections (`localizer`)."""
    from stale_edge.bundle import read_bundle
    from stale_edge.config.runtimes import file_for

    bundle, (files, stored) = read_bundle(Path(job.bundle)), file_for(job.runtime, job.precision)
    entry = bundle.detector(runtime=files, precision=stored)
    features = random_features(job.length, bundle.manifest.feature_contract.channels, seed=job.seed)
    if job.device == "cuda":
        return Workload(_torchscript_on_cuda(job, entry.path, features), entry.bytes)
    if job.variant == "detector":
        from stale_edge.benchmarking.deployed_detector import DeployedDetector

        detector = DeployedDetector(job)
        return Workload(lambda: detector.run(features[None]), entry.bytes)
    from stale_edge.runtime import load_bundle

    localizer = load_bundle(Path(job.bundle), runtime=job.runtime, precision=job.precision, threads=job.threads)
    return Workload(lambda: localizer.detect(features, duration_s=job.length * SNIPPET_S), entry.bytes)


def _torchscript_on_cuda(job: Job, file: str, features: NDArray[np.float32]) -> Callable[[], object]:
    import torch

    from stale_edge.bundle import read_bundle

    bank = read_bundle(Path(job.bundle)).class_bank
    script = torch.jit.load(str(Path(job.bundle) / file), map_location="cuda").eval()  # type: ignore[no-untyped-call]
    inputs = torch.from_numpy(features)[None].cuda(), torch.from_numpy(bank.embeddings).cuda()

    def call() -> object:
        with torch.inference_mode():
            return script(*inputs)

    return call


def _postprocess(job: Job) -> Workload:
    from stale_edge.bundle import read_bundle
    from stale_edge.decoding import decode

    settings = read_bundle(Path(job.bundle)).manifest.decode
    if not isinstance(settings, DecodeConfig):
        raise StaleEdgeError(f"post-processing is timed for the policies paper and release; got {settings.policy!r}")
    logits, masks = plausible_outputs(job.n_classes, job.length, seed=job.seed)
    names = [f"class {k}" for k in range(job.n_classes)]
    duration_s = job.length * SNIPPET_S

    def call() -> object:
        return decode(logits, masks, class_names=names, duration_s=duration_s, policy=settings.policy, config=settings)

    return Workload(call, None)


def _matrix_product(job: Job) -> Workload:
    """Multiply two square matrices, the second one constant as weights are."""
    rng = np.random.default_rng(job.seed)
    if job.precision == "int8":
        left: NDArray[Any] = rng.integers(0, 256, (job.length, job.length), dtype=np.uint8)
        right: NDArray[Any] = rng.integers(-128, 128, (job.length, job.length), dtype=np.int8)
    else:
        left, right = (rng.standard_normal((job.length, job.length), dtype=np.float32) for _ in range(2))
    if job.runtime == "numpy":
        out = np.empty_like(left)
        return Workload(lambda: np.matmul(left, right, out=out), None)
    if job.runtime == "onnxruntime":
        return Workload(_onnx_product(job, left, right), None)
    if job.runtime == "openvino":
        return Workload(_openvino_product(job, left, right), None)
    import torch

    torch.set_num_threads(job.threads)
    dtype = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(job.precision, torch.float32)
    a, b = (torch.from_numpy(array).to(job.device, dtype) for array in (left, right))
    result = torch.empty_like(a)
    return Workload(lambda: torch.mm(a, b, out=result), None)


def _product_graph(precision: str, left: NDArray[Any], right: NDArray[Any]) -> bytes:
    """Write the ONNX graph that multiplies `left` by the constant `right`."""
    import onnx

    kinds = {"fp32": (onnx.TensorProto.FLOAT, "MatMul"), "int8": (onnx.TensorProto.UINT8, "MatMulInteger")}
    kind, operator = kinds[precision]
    out = onnx.TensorProto.INT32 if precision == "int8" else kind
    shape = list(left.shape)
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node(operator, ["left", "right"], ["product"])],
        "product",
        [onnx.helper.make_tensor_value_info("left", kind, shape)],
        [onnx.helper.make_tensor_value_info("product", out, shape)],
        [onnx.numpy_helper.from_array(right, "right")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def _openvino_product(job: Job, left: NDArray[Any], right: NDArray[Any]) -> Callable[[], object]:
    from stale_edge.runtime.openvino_backend import cpu_settings, openvino_core

    core = openvino_core()
    model = core.read_model(_product_graph("fp32", left, right))
    request = core.compile_model(model, "CPU", cpu_settings(job.precision, job.threads)).create_infer_request()
    return lambda: request.infer({"left": left}, share_inputs=True, share_outputs=True)


def _onnx_product(job: Job, left: NDArray[Any], right: NDArray[Any]) -> Callable[[], object]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = job.threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        _product_graph(job.precision, left, right), options, providers=["CPUExecutionProvider"]
    )
    return lambda: session.run(None, {"left": left})


def _required_network(job: Job) -> Any:
    if job.network is None:
        raise ValueError(f"a {job.variant} row of PyTorch needs a network; the job has none")
    return job.network
