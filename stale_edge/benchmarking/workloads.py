"""The calls that are timed, each built from a job inside the measuring process."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stale_edge.benchmarking.deployed_detector import DeployedDetector
from stale_edge.benchmarking.extras import NEEDS_TORCH, needs_extra
from stale_edge.benchmarking.jobs import Job, Workload
from stale_edge.benchmarking.synthetic import SNIPPET_S, plausible_outputs, random_features
from stale_edge.bundle import read_bundle
from stale_edge.config import RelativeGrid
from stale_edge.config.runtimes import file_for
from stale_edge.decoding.policies import decode_outputs
from stale_edge.runtime import load_bundle


def build_workload(job: Job) -> Workload:
    """Build the call that a job times.

    Raises:
        StaleEdgeError: an artifact or a package that the job needs is missing.
    """
    if job.variant == "matrix-product":
        return _matrix_product(job)
    if job.variant == "postprocess":
        return _postprocess(job)
    if job.scratch:
        # Read when torch is imported: output folder of the compilers; one thread, so no extra processes.
        os.environ |= {"TORCHINDUCTOR_CACHE_DIR": job.scratch, "TORCHINDUCTOR_COMPILE_THREADS": "1"}
        with needs_extra(NEEDS_TORCH):
            from stale_edge.benchmarking.torch_rows.compiled import compiled_workload
        return compiled_workload(job)
    if job.runtime == "pytorch":
        return _pytorch(job)
    if job.variant == "as-trained":
        with needs_extra(NEEDS_TORCH):
            from stale_edge.benchmarking.torch_rows.plain_export import plain_export_workload
        return plain_export_workload(job)
    return _bundle(job)


def _pytorch(job: Job) -> Workload:
    with needs_extra(NEEDS_TORCH):
        if job.variant == "reference":
            from stale_edge.benchmarking.torch_rows.thesis_reference import reference_workload as build
        elif job.variant == "text":
            from stale_edge.benchmarking.torch_rows.thesis_reference import text_workload as build
        else:
            from stale_edge.benchmarking.torch_rows.detectors import detector_workload as build
    return build(job)


def _bundle(job: Job) -> Workload:
    """Run a bundle's file: only the graph (`detector`), or from features to detections (`localizer`)."""
    if job.variant == "detector" and job.device == "cpu":
        detector = DeployedDetector(job)
        batch = random_features(job.length, detector.channels, seed=job.seed)[None]
        return Workload(lambda: detector.run(batch), detector.model_bytes)
    bundle, (files, stored) = read_bundle(Path(job.bundle)), file_for(job.runtime, job.precision)
    entry = bundle.detector(runtime=files, precision=stored)
    features = random_features(job.length, bundle.manifest.feature_contract.channels, seed=job.seed)
    if job.device == "cuda":
        with needs_extra(NEEDS_TORCH):
            from stale_edge.benchmarking.torch_rows.cuda import torchscript_call
        return Workload(torchscript_call(bundle.checked_path(entry), bundle.class_bank, features), entry.bytes)
    localizer = load_bundle(bundle.path, runtime=job.runtime, precision=job.precision, threads=job.threads)
    return Workload(lambda: localizer.detect(features, duration_s=job.length * SNIPPET_S), entry.bytes)


def _postprocess(job: Job) -> Workload:
    settings = read_bundle(Path(job.bundle)).manifest.decode
    outputs = plausible_outputs(settings, n_classes=job.n_classes, length=job.length, seed=job.seed)
    names, grid = [f"class {k}" for k in range(job.n_classes)], RelativeGrid(job.length * SNIPPET_S)
    return Workload(lambda: decode_outputs(outputs, class_names=names, grid=grid, config=settings), None)


def _matrix_product(job: Job) -> Workload:
    """Multiply two square matrices; the second one is constant, like weights."""
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
    with needs_extra(NEEDS_TORCH):
        from stale_edge.benchmarking.torch_rows.detectors import product_call
    return Workload(product_call(job, left, right), None)


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
